//! The scheduler against lists.

use proptest::prelude::*;
use refault_abi::Endpoint;
use refault_abi::kcall::{ProcCreate, rts};
use zerocopy::FromZeros;

use crate::frame::Frame;
use crate::ready::MARKS_WAIT;
use crate::table::Table;

const FIRST: usize = Endpoint::FIRST_DYNAMIC_SLOT;

fn table(levels: &[u8]) -> Box<Table> {
    let mut table = Box::new(Table::EMPTY);
    for level in levels {
        let mut request = ProcCreate::new_zeroed();
        (request.slot, request.priority) = (-1, u32::from(*level));
        table.create(&request).unwrap();
    }
    table
}

fn start(table: &mut Table, number: usize) {
    table.start(FIRST + number, Frame::EMPTY, 0);
}

#[test]
fn higher_levels_first_and_in_turn_within_one() {
    let mut table = table(&[5, 3, 5]);
    (0..3).for_each(|number| start(&mut table, number));
    let mut order = Vec::new();
    let mut current = None;
    for _ in 0..5 {
        current = table.schedule(current, true);
        order.extend(current.map(|slot| slot - FIRST));
        if current == Some(FIRST + 1) {
            table.procs[FIRST + 1].flags = rts::RECEIVING;
        }
    }
    assert_eq!(order, [1, 0, 2, 0, 2]);
}

#[test]
fn a_preempted_process_keeps_its_place() {
    let mut table = table(&[5, 5, 2]);
    start(&mut table, 0);
    start(&mut table, 1);
    let current = table.schedule(None, false);
    assert_eq!(current, Some(FIRST));
    start(&mut table, 2);
    assert!(!table.goes_on(FIRST));
    let urgent = table.schedule(current, false);
    assert_eq!(urgent, Some(FIRST + 2));
    table.procs[FIRST + 2].flags = rts::RECEIVING;
    assert_eq!(table.schedule(urgent, false), Some(FIRST), "before the other one of its level");
    assert!(table.has_rival(FIRST));
}

#[test]
fn a_woken_process_of_a_lower_level_waits() {
    let mut table = table(&[2, 5]);
    start(&mut table, 0);
    let current = table.schedule(None, false);
    start(&mut table, 1);
    assert_eq!(table.schedule(current, false), current);
    assert!(table.goes_on(FIRST), "a lower level is no rival");
    table.exit(FIRST + 1);
    table.procs[FIRST].flags = rts::RECEIVING;
    assert_eq!(table.schedule(current, false), None, "the dead are in no queue");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wake(usize),
    Block,
    Turn,
    Leave,
    Exit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6usize).prop_map(Step::Wake),
        Just(Step::Block),
        Just(Step::Turn),
        Just(Step::Leave),
        (0..6usize).prop_map(Step::Exit),
    ]
}

proptest! {
    #[test]
    fn agrees_with_lists(levels in prop::array::uniform6(0..4u8), steps in prop::collection::vec(step(), 1..80)) {
        let mut table = table(&levels);
        for number in 0..6 {
            table.procs[FIRST + number].flags = rts::RECEIVING;
        }
        // One list of waiting processes per level.
        let mut lists: Vec<Vec<usize>> = vec![Vec::new(); 16];
        let mut current: Option<usize> = None;
        let mut dead = [false; 6];
        for step in steps {
            let mut over = false;
            match step {
                Step::Wake(number) if table.procs[FIRST + number].flags == rts::RECEIVING => {
                    table.unblock(FIRST + number, rts::RECEIVING);
                    lists[usize::from(levels[number])].push(number);
                }
                Step::Exit(number) if current != Some(number) && !dead[number] => {
                    table.exit(FIRST + number);
                    dead[number] = true;
                    lists.iter_mut().for_each(|list| list.retain(|other| *other != number));
                }
                Step::Block => if let Some(number) = current {
                    table.procs[FIRST + number].flags = rts::RECEIVING;
                },
                Step::Turn => over = true,
                _ => {}
            }
            let runnable = current.filter(|number| table.procs[FIRST + number].flags == 0);
            if let Some(number) = runnable {
                let list = &mut lists[usize::from(levels[number])];
                if over { list.push(number) } else { list.insert(0, number) }
            }
            let expected = lists.iter_mut().find(|list| !list.is_empty()).map(|list| list.remove(0));
            let chosen = table.schedule(current.map(|number| FIRST + number), over);
            prop_assert_eq!(chosen, expected.map(|number| FIRST + number), "{:?}", step);
            current = expected;
        }
    }
}

#[test]
fn marks_close_the_short_ways() {
    let mut table = table(&[2, 2]);
    start(&mut table, 0);
    let slot = FIRST;
    assert_eq!(table.schedule(None, false), Some(slot));
    assert!(table.goes_on(slot) && !table.has_rival(slot) && !table.marks_wait(slot));
    table.procs[slot].rivals |= MARKS_WAIT;
    assert!(!table.goes_on(slot) && table.has_rival(slot) && table.marks_wait(slot));
    // It still runs, woken or going on.
    assert_eq!(table.schedule(Some(slot), false), Some(slot));
    table.wake(slot);
    assert_eq!(table.schedule(None, false), Some(slot));
    assert_eq!(table.schedule(None, false), None);
}
