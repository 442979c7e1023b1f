//! Sessions: a machine that is put back to its ready mark sees nothing of the run before.

mod common;

use std::time::Duration;

use common::{config, endless_guest, kvm_or_skip, ready_guest, runtime};
use refault::snapshot::{Run, Session, SessionError};
use refault::vm::End;

#[test]
fn each_run_begins_at_the_ready_mark() {
    if !kvm_or_skip("each_run_begins_at_the_ready_mark") {
        return;
    }
    runtime().block_on(async {
        let mut session = Session::boot(config(ready_guest()).0).await.unwrap();
        for argument in [0, 7, 0, 100] {
            let ran = session.run(Run { argument, ..Run::default() }).await.unwrap();
            assert_eq!(ran.end, End::Exited(argument as u32 + 1));
            assert_eq!(session.first_difference_when_put_back().unwrap(), None);
        }
    });
}

#[test]
fn a_guest_that_is_never_ready_is_told_of() {
    if !kvm_or_skip("a_guest_that_is_never_ready_is_told_of") {
        return;
    }
    runtime().block_on(async {
        let (mut config, _) = config(endless_guest());
        config.timeout = Some(Duration::from_millis(50));
        let why = Session::boot(config).await.err().unwrap();
        assert!(matches!(why, SessionError::NotReady { .. }), "{why}");
    });
}
