use super::*;

const PLAIN: Replay = Replay::Replayable;

fn fault(side: Side) -> Option<Fault> {
    Some(Fault { side, write: true, address: 0x5123 })
}

fn repeat(cure: Cure, cpf_try: bool) -> Decision {
    Decision::Repeat { cure, cpf_try }
}

#[test]
fn the_policies_as_a_table() {
    use Retry::{Efault, Hardened, Mark};
    let (bad, short) = (Err(Errno::EFAULT), Ok(4096));
    let marked = fault(Side::Granted);
    let once = repeat(Cure::WholeRange, false);
    let table = [
        // policy, attempt, answer, mark: decision
        (Efault, 1, bad, None, once),
        (Efault, 1, bad, marked, once),
        (Efault, 1, short, marked, Decision::Final),
        (Efault, 2, bad, marked, Decision::Final),
        (Efault, 1, Err(Errno::EIO), marked, Decision::Final),
        (Mark, 1, bad, marked, once),
        (Mark, 1, short, marked, once),
        (Mark, 1, Err(Errno::ENOSPC), marked, once),
        (Mark, 1, bad, None, Decision::Final),
        (Mark, 2, short, None, Decision::Final),
        (Mark, 2, short, marked, Decision::GiveUp),
        (Hardened, 1, short, None, Decision::Final),
        (Hardened, 1, bad, None, Decision::Final),
        (Hardened, 1, short, marked, repeat(Cure::From(0x5123), true)),
        (Hardened, 2, bad, marked, repeat(Cure::From(0x5123), true)),
        (Hardened, 900, Err(Errno::EIO), marked, repeat(Cure::From(0x5123), true)),
        (Hardened, 1, short, fault(Side::Grantee), repeat(Cure::Grantee(0x5123), true)),
        (Hardened, 1, short, fault(Side::Unknown), repeat(Cure::WholeRange, true)),
    ];
    for (policy, attempt, answer, mark, decision) in table {
        let found = decide(policy, PLAIN, attempt, answer, mark);
        assert_eq!(found, decision, "{policy:?} attempt {attempt} {answer:?} {mark:?}");
    }
}

#[test]
fn a_success_of_an_operation_that_commits_after_its_copies_is_believed() {
    assert_eq!(Replay::of(fs::SLINK), Replay::CommitAfterCopy);
    let marked = fault(Side::Granted);
    let commit = Replay::CommitAfterCopy;
    assert_eq!(decide(Retry::Hardened, commit, 1, Ok(0), marked), Decision::Final);
    let failed = decide(Retry::Hardened, commit, 1, Err(Errno::EFAULT), marked);
    assert_eq!(failed, repeat(Cure::From(0x5123), true));
    for replayable in [fs::READ, fs::WRITE, fs::BREAD, fs::BWRITE, fs::GETDENTS, fs::RDLINK, fs::STAT] {
        assert_eq!(Replay::of(replayable), PLAIN);
    }
}

#[test]
fn the_budget_is_per_page_and_always_ends() {
    let at = |side, address| Fault { side, write: false, address };
    let mut budget = Budget::new(0x1fff, 0x2002);
    for page in [0x1000, 0x2000, 0x3000, 0x4000] {
        for _ in 0..FAULTS_PER_PAGE {
            assert!(budget.spend(at(Side::Granted, page + 5)));
        }
    }
    assert!(!budget.spend(at(Side::Granted, 0x2000)));

    let mut budget = Budget::new(0x1fff, 0x2002);
    let grantee_faults = (0..).take_while(|number| budget.spend(at(Side::Grantee, number * PAGE))).count();
    assert_eq!(grantee_faults, 5 * usize::from(FAULTS_PER_PAGE) - 1, "four pages and one");
    assert!(!budget.spend(at(Side::Unknown, 0)));
    // Nothing a process chooses overflows.
    assert!(Budget::new(u64::MAX, u64::MAX).spend(at(Side::Unknown, u64::MAX)));
}
