use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::executor::Executor;

#[test]
fn the_lock_admits_in_order() {
    let executor = Executor::new();
    let lock = Rc::new(TaskLock::default());
    let log = Rc::new(RefCell::new(Vec::new()));
    let gates: Vec<_> = (0..5).map(|_| Rc::new(OneShot::new())).collect();
    let modes = [Mode::Shared, Mode::Shared, Mode::Exclusive, Mode::Shared, Mode::Exclusive];
    for (index, mode) in modes.into_iter().enumerate() {
        let (lock, log, gate) = (Rc::clone(&lock), Rc::clone(&log), Rc::clone(&gates[index]));
        let client = Endpoint::new(1, index as i32);
        executor.spawn(client, async move {
            let held = lock.take(mode, client).await;
            log.borrow_mut().push(index);
            let () = gate.wait().await;
            drop(held);
        });
    }
    assert_eq!(lock.holder(), Endpoint::NONE);
    let holders = || log.borrow().clone();
    executor.run();
    assert_eq!(holders(), vec![0, 1], "readers together");
    gates[0].set(());
    executor.run();
    assert_eq!(holders(), vec![0, 1], "the writer waits for both readers, the later reader for the writer");
    gates[1].set(());
    executor.run();
    assert_eq!(holders(), vec![0, 1, 2]);
    assert_eq!(lock.holder(), Endpoint::new(1, 2));
    assert!(lock.try_take(Mode::Shared, Endpoint::NONE).is_none());
    gates[2].set(());
    executor.run();
    assert_eq!(holders(), vec![0, 1, 2, 3]);
    gates[3].set(());
    gates[4].set(());
    executor.run();
    assert_eq!(holders(), vec![0, 1, 2, 3, 4]);
    assert_eq!(executor.tasks(), 0);
}
