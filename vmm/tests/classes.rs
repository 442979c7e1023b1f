//! Pages of each class, and what becomes of a touch of one, with the real guest (`docs/fault-abi.md`, section 9).
//!
//! Classes that the processor touches by itself can only be away on hosts that stop it there; elsewhere their rules are refused, and the
//! session is as good as before.

mod common;

use std::time::Duration;

use common::{guest_session, kvm_or_skip, runtime};
use refault::inject::parse_rule;
use refault::snapshot::session::SessionError;
use refault::snapshot::{Ran, Run, Session};
use refault::vm::End;

async fn run(session: &mut Session, rule: &str) -> Result<Ran, SessionError> {
    let rules = if rule.is_empty() { vec![] } else { vec![parse_rule(rule).unwrap()] };
    let ran = session.run(Run { rules, timeout: Some(Duration::from_secs(60)), ..Run::default() }).await?;
    let counters = ran.counters;
    assert!(counters.conserved(), "{rule}: {counters:?}");
    Ok(ran)
}

/// The texts of a run's end: what it did, and that all of it was right.
fn verdicts(ran: &Ran) -> Vec<String> {
    let of = |text: &String| serde_json::from_str::<serde_json::Value>(text.split_once(' ')?.1).ok();
    let word = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let line = |value: serde_json::Value| format!("{} {}", word(&value, "name"), word(&value, "verdict"));
    ran.reports.iter().filter_map(of).map(line).collect()
}

#[test]
fn classes_that_only_instructions_touch() {
    if !kvm_or_skip("classes_that_only_instructions_touch") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, "").await.unwrap();
        assert_eq!((&clean.end, clean.counters.armed), (&End::Exited(0), 0), "{}", clean.console);
        for class in ["virtqueues", "granttables", "messages"] {
            for (action, times) in [("reflect", 1), ("reflect*3", 3)] {
                let rule = format!("gpa=ram class={class}: {action}");
                let ran = run(&mut session, &rule).await.unwrap();
                let counters = ran.counters;
                assert_eq!(ran.end, End::Exited(0), "{rule}: {} {:?}", ran.console, ran.reports);
                assert_eq!(verdicts(&ran), verdicts(&clean), "{rule}");
                assert!(
                    counters.reflected >= times && counters.reflected % times == 0,
                    "{rule}: {counters:?}"
                );
                assert_eq!(counters.all_reflected(), counters.asked_back, "{rule}: {counters:?}");
                // Nothing is repeated for a page that nobody has lent: none of it is a mark's doing.
                assert_eq!(counters.sites_refused, 0);
            }
            let rule = format!("gpa=ram class={class}: delay=100us");
            let ran = run(&mut session, &rule).await.unwrap();
            assert_eq!(ran.end, End::Exited(0), "{rule}: {} {:?}", ran.console, ran.reports);
            assert_eq!(ran.reports, clean.reports, "{rule}: the guest noticed a delay");
            assert!(ran.counters.delayed > 0 && ran.counters.reflected == 0, "{rule}: {:?}", ran.counters);
        }
    });
}

#[test]
fn a_poisoned_page_of_a_class() {
    if !kvm_or_skip("a_poisoned_page_of_a_class") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, "").await.unwrap();

        // The driver ends and is made again, with other rings; its clients repeat.
        let rings = run(&mut session, "gpa=ram class=virtqueues: poison").await.unwrap();
        assert_eq!(rings.end, End::Exited(0), "{} {:?}", rings.console, rings.reports);
        assert_eq!((rings.counters.armed, rings.counters.poisoned), (1, 1));

        // VFS or PM touches its own table of grants, and the machine cannot go on without it.
        let grants = run(&mut session, "gpa=ram class=granttables: poison").await.unwrap();
        assert!(grants.counters.poisoned >= 1);
        assert!(grants.console.contains("SIGBUS"), "{:?} {}", grants.end, grants.console);
        assert!(!matches!(grants.end, End::Exited(0)), "{:?}", grants.end);

        // The kernel touches an entry of a table of messages: a panic, which names the page.
        let messages = run(&mut session, "gpa=ram class=messages: poison").await.unwrap();
        assert!(messages.counters.poisoned >= 1);
        let page = messages.faults.last().unwrap().gpa & !0xfff;
        assert!(matches!(messages.end, End::Panicked(_)), "{:?} {}", messages.end, messages.console);
        assert!(messages.console.contains(&format!("{page:x}")), "{page:x}: {}", messages.console);

        // None of it reaches the next run.
        let again = run(&mut session, "").await.unwrap();
        assert_eq!((again.end, again.reports), (clean.end, clean.reports));
    });
}

#[test]
fn classes_that_the_processor_touches_itself() {
    if !kvm_or_skip("classes_that_the_processor_touches_itself") {
        return;
    }
    runtime().block_on(async {
        let mut session = guest_session().await;
        let clean = run(&mut session, "").await.unwrap();
        for class in ["pagetables", "descriptors", "kernel"] {
            for action in ["reflect", "reflect*3", "delay=100us", "poison"] {
                let rule = format!("gpa=ram class={class}: {action}");
                let ran = match run(&mut session, &rule).await {
                    Ok(ran) => ran,
                    Err(SessionError::Reach(why)) => {
                        assert!(why.to_string().contains(&format!("class={class}")), "{why}");
                        // Refused by its class, whatever the action.
                        eprintln!("*** SKIPPED: {rule} and the other actions: {why}");
                        break;
                    }
                    Err(why) => panic!("{rule}: {why}"),
                };
                let counters = ran.counters;
                assert!(counters.trapped > 0, "{rule}: {counters:?}");
                if (class, action) == ("pagetables", "poison") {
                    assert!(matches!(ran.end, End::Exited(0) | End::Panicked(_)), "{rule}: {:?}", ran.end);
                    continue;
                }
                assert_eq!(ran.end, End::Exited(0), "{rule}: {} {:?}", ran.console, ran.reports);
                assert_eq!(verdicts(&ran), verdicts(&clean), "{rule}");
                if class != "pagetables" {
                    assert_eq!(counters.reflected + counters.poisoned, 0, "{rule}: {counters:?}");
                }
            }
        }
        let again = run(&mut session, "").await.unwrap();
        assert_eq!((again.end, again.reports), (clean.end, clean.reports));
    });
}
