use super::*;

const INIT: Endpoint = Endpoint::INIT;

fn process(slot: i32) -> Endpoint {
    Endpoint::new(1, slot)
}

#[test]
fn a_status_waits_for_the_parent_or_the_parent_for_it() {
    let mut family = Family::new();
    assert_eq!(family.wait(INIT), Err(Errno::ECHILD));
    family.spawned(process(12), INIT, "first", privilege::USER);
    assert_eq!(family.wait(INIT), Ok(Wait::Later));
    let wake = Wake { parent: INIT, child: process(12), status: 3 };
    assert_eq!(family.ended(process(12), 3), [wake]);
    family.spawned(process(13), INIT, "second", privilege::USER);
    assert_eq!(family.ended(process(13), 4), []);
    assert_eq!(family.ended(process(13), 5), []);
    assert!(!family.is_alive(process(13)));
    assert_eq!(family.wait(INIT), Ok(Wait::Ended(process(13), 4)));
    assert_eq!(family.wait(INIT), Err(Errno::ECHILD));
    assert!(family.is_alive(INIT));
}

#[test]
fn orphans_become_inits_children() {
    let mut family = Family::new();
    family.spawned(process(12), INIT, "parent", privilege::USER);
    family.spawned(process(13), process(12), "running", privilege::USER);
    family.spawned(process(14), process(12), "ended", privilege::USER);
    assert_eq!(family.ended(process(14), 9), []);
    assert_eq!(family.wait(INIT), Ok(Wait::Later));
    // One WAIT takes one child; the others stay for the next.
    assert_eq!(family.ended(process(12), 1).len(), 1);
    assert!(matches!(family.wait(INIT), Ok(Wait::Ended(_, _))));
    assert_eq!(family.wait(INIT), Ok(Wait::Later));
    assert_eq!(family.ended(process(13), 2), [Wake { parent: INIT, child: process(13), status: 2 }]);
}

#[test]
fn records_are_bounded_and_strangers_have_no_children() {
    let mut family = Family::new();
    assert_eq!(family.may_spawn(process(20)), Err(Errno::ESRCH));
    for number in 1..MAX_RECORDS {
        family.may_spawn(INIT).unwrap();
        family.spawned(
            Endpoint::new(number as i32, 12),
            INIT,
            "a name of more than 16 bytes",
            privilege::USER,
        );
    }
    assert_eq!(family.may_spawn(INIT), Err(Errno::EAGAIN));
    assert_eq!(family.name(Endpoint::new(1, 12)), "a name of more t");
    assert_eq!(family.name(process(40)), "?");
}

#[test]
fn a_process_that_ends_neither_counts_nor_waits_until_its_files_are_closed() {
    let mut family = Family::new();
    family.spawned(process(12), INIT, "child", privilege::TEST);
    assert_eq!(family.wait(INIT), Ok(Wait::Later));
    assert!(family.ending(process(12)));
    assert!(!family.ending(process(12)));
    assert!(!family.is_alive(process(12)));
    assert_eq!(family.may_spawn(process(12)), Err(Errno::ESRCH));
    assert_eq!(family.class(process(12)), Some(privilege::TEST));
    assert_eq!(family.ended(process(12), 130).len(), 1);
    assert_eq!(family.class(process(12)), None);
}

#[test]
fn the_interrupt_character_ends_the_foregrounds_descendants() {
    let mut family = Family::new();
    let (shell, job, grandchild, other) = (process(12), process(13), process(14), process(15));
    family.spawned(shell, INIT, "sh", privilege::USER);
    family.spawned(job, shell, "cat", privilege::USER);
    family.spawned(grandchild, job, "cat", privilege::USER);
    family.spawned(other, INIT, "orphan", privilege::USER);
    assert_eq!(family.interrupted(), [shell, job, grandchild, other]);
    family.foreground(shell).unwrap();
    assert_eq!(family.interrupted(), [job, grandchild]);
    family.ending(job);
    assert_eq!(family.interrupted(), [grandchild]);
    family.ending(shell);
    assert_eq!(family.foreground(shell), Err(Errno::ESRCH));
    assert_eq!(family.interrupted(), [grandchild, other]);
}

#[test]
fn exec_changes_name_and_class() {
    let mut family = Family::new();
    family.spawned(process(12), INIT, "sh", privilege::USER);
    family.became(process(12), "ps", privilege::TEST);
    assert_eq!((family.name(process(12)), family.class(process(12))), ("ps", Some(privilege::TEST)));
    assert_eq!(family.parent(process(12)), Some(INIT));
}
