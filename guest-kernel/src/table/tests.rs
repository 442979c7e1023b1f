//! Birth, stop and end.

use zerocopy::FromZeros;

use super::*;

fn process(table: &mut Table) -> usize {
    let mut request = ProcCreate::new_zeroed();
    (request.slot, request.privilege) = (-1, privilege::USER);
    table.create(&request).unwrap()
}

#[test]
fn whoever_was_stopped_is_not_started_again() {
    let mut table = Box::new(Table::EMPTY);
    let slot = process(&mut table);
    assert!(table.start(slot, Frame::EMPTY, 0x1000));
    assert_eq!(table.schedule(None, false), Some(slot));
    // It asks PM for another program, is killed, and only then the other program is ready.
    let process = &mut table.procs[slot];
    process.flags = rts::RECEIVING;
    process.receive_from = Endpoint::PM;
    process.reply_pending = true;
    table.stop(slot);
    assert!(!table.start(slot, Frame::EMPTY, 0x2000));
    assert_ne!(table.procs[slot].flags & rts::STOPPED, 0);
    assert_eq!(table.procs[slot].root, 0x1000, "its memory is still the old one");
    assert_eq!(table.schedule(None, false), None);
    // Nor one that never ran.
    let slot = self::process(&mut table);
    table.stop(slot);
    assert!(!table.start(slot, Frame::EMPTY, 0x3000));
    assert_eq!(table.schedule(None, false), None);
}

#[test]
fn a_driver_with_an_alarm_to_come_is_seen() {
    let mut table = Box::new(Table::EMPTY);
    let (driver, other) = (process(&mut table), process(&mut table));
    let lines = [Endpoint::NONE, table.procs[driver].endpoint, Endpoint::NONE];
    table.set_alarm(other, 5);
    assert!(!table.has_alarm(&lines), "the alarm of a process without a line");
    table.set_alarm(driver, 7);
    assert!(table.has_alarm(&lines));
    table.expire_alarms(7);
    assert!(!table.has_alarm(&lines));
}
