use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;

use super::*;
use crate::cell::OneShot;

#[test]
fn tasks_go_on_only_when_woken_and_slots_are_reused() {
    let executor = Rc::new(Executor::new());
    let log = Rc::new(RefCell::new(Vec::new()));
    let shots: Vec<_> = (0..3).map(|_| Rc::new(OneShot::new())).collect();
    for (index, shot) in shots.iter().enumerate() {
        let (log, shot) = (Rc::clone(&log), Rc::clone(shot));
        executor.spawn(Endpoint::NONE, async move {
            let value: u32 = shot.wait().await;
            log.borrow_mut().push((index, value));
        });
    }
    executor.run();
    assert_eq!((executor.tasks(), log.borrow().len()), (3, 0));

    shots[2].set(22);
    shots[0].set(20);
    executor.run();
    assert_eq!(*log.borrow(), vec![(0, 20), (2, 22)]);
    assert_eq!(executor.tasks(), 1);

    let (marker, spawner) = (Rc::clone(&log), Rc::clone(&executor));
    executor.spawn(Endpoint::INIT, async move {
        assert_eq!(spawner.client(), Endpoint::INIT);
        marker.borrow_mut().push((9, 9));
    });
    executor.run();
    assert_eq!(executor.slots.borrow().len(), 3, "a free slot is used again");
    assert_eq!(log.borrow().last(), Some(&(9, 9)));
}

#[test]
fn a_task_may_spawn_and_wake_others_while_it_runs() {
    let executor = Rc::new(Executor::new());
    let shot = Rc::new(OneShot::new());
    let done = Rc::new(RefCell::new(false));
    let (waiting, flag) = (Rc::clone(&shot), Rc::clone(&done));
    executor.spawn(Endpoint::NONE, async move {
        let () = waiting.wait().await;
        *flag.borrow_mut() = true;
    });
    let spawner = Rc::clone(&executor);
    executor.spawn(Endpoint::NONE, async move {
        let inner = Rc::clone(&shot);
        spawner.spawn(Endpoint::NONE, async move { inner.set(()) });
    });
    executor.run();
    assert!(*done.borrow());
    assert_eq!(executor.tasks(), 0);
}
