use super::*;
use crate::suite::console;

fn played(ended: Ended, console: &str) -> Played {
    Played { ended, console: console.into(), graph: Vec::new(), monitor: None }
}

/// Judges a program that says at its end what it has said.
fn of(test: &Test, ended: Ended, text: &str) -> Judged {
    said(test, ended, &whole(text))
}

/// Judges a program that says just this.
fn said(test: &Test, ended: Ended, text: &str) -> Judged {
    judge(test, &played(ended, text), console::read(text), &[])
}

fn end(cases: usize, skipped: usize) -> String {
    format!("@end {{\"cases\":{cases},\"skipped\":{skipped}}}\n")
}

/// With the end that goes with it.
fn whole(text: &str) -> String {
    let told = console::read(text);
    format!("{}\n{}", text.trim_end(), end(told.cases.len(), told.skips.len()))
}

fn case(ok: bool, faults: u64, repeats: u64, more: &str) -> String {
    format!("@case {{\"name\":\"x\",\"ok\":{ok},\"faults\":{faults},\"repeats\":{repeats}{more}}}\n")
}

#[test]
fn a_test_that_is_well() {
    let test = Test::new("t", "sys_t").faults();
    let judged = of(&test, Ended::Exited(0), &case(true, 2, 0, ""));
    assert_eq!((judged.verdict, judged.passed, judged.faults), (Verdict::Pass, true, 2));
    let judged = of(&test, Ended::Exited(0), &case(true, 2, 3, ""));
    assert_eq!((judged.verdict, judged.passed, judged.repeats), (Verdict::Retried, true, 3));
    let rejected = case(true, 1, 0, ",\"verdict\":\"REJECTED\"");
    assert_eq!(of(&test, Ended::Exited(0), &rejected).verdict, Verdict::Rejected);
}

#[test]
fn silence_is_a_failure() {
    let test = Test::new("t", "sys_t");
    let judged = of(&test, Ended::Exited(0), "all is well, believe me\n");
    assert_eq!((judged.verdict, judged.passed), (Verdict::Failed, false));
    assert!(judged.why[0].contains("no case"));
}

#[test]
fn faults_that_did_not_happen_are_a_failure() {
    let judged = of(&Test::new("t", "sys_t").faults(), Ended::Exited(0), &case(true, 0, 0, ""));
    assert!(!judged.passed && judged.why[0].contains("no fault happened"));
}

#[test]
fn a_status_that_does_not_fit_is_a_failure() {
    let test = Test::new("t", "sys_t");
    assert!(!of(&test, Ended::Exited(1), &case(true, 0, 0, "")).passed);
    assert!(of(&test.clone().expect(Expect::Status(1)), Ended::Exited(1), &case(true, 0, 0, "")).passed);
    assert!(!of(&test, Ended::Exited(0), &format!("{}@case nonsense\n", case(true, 0, 0, ""))).passed);
}

#[test]
fn the_worst_case_names_the_verdict() {
    let text = [case(false, 0, 0, ",\"verdict\":\"SHORT\""), case(false, 0, 0, "")].concat();
    let judged = of(&Test::new("t", "sys_t"), Ended::Exited(1), &text);
    assert_eq!((judged.verdict, judged.passed), (Verdict::Short, false));
    let judged = of(&Test::new("t", "sys_t").expect(Expect::Short).faults(), Ended::Exited(1), &text);
    assert_eq!((judged.verdict, judged.passed), (Verdict::Short, false), "no fault was counted");
    let text = case(false, 1, 0, ",\"verdict\":\"SHORT\"");
    assert!(of(&Test::new("t", "sys_t").expect(Expect::Short).faults(), Ended::Exited(1), &text).passed);
    assert!(
        !of(&Test::new("t", "sys_t").expect(Expect::Short), Ended::Exited(0), &case(true, 1, 0, "")).passed
    );
}

#[test]
fn damaged_disks_are_wrong_bytes() {
    let text = whole(&case(true, 0, 0, ""));
    let damage = ["fsck.minix: bad".to_owned()];
    let test = Test::new("t", "sys_t");
    let judged = judge(&test, &played(Ended::Exited(0), &text), console::read(&text), &damage);
    assert_eq!((judged.verdict, judged.passed), (Verdict::Corrupt, false));
}

#[test]
fn wedged_needs_the_kernels_word_and_every_edge() {
    let test = Test::new("t", "sys_t").wedged(&["mfs -> vm", "vm -> mfs (b"], "vm -> mfs");
    let text = "wedged: x\nwait-for: mfs -> vm (a)\nwait-for: vm -> mfs (b)\ncircle: mfs -> vm -> mfs\n";
    let judged = said(&test, Ended::Wedged, text);
    assert!(judged.passed && judged.graph.len() == 2, "{:?}", judged.why);
    for missing in text.lines().skip(1) {
        let judged = said(&test, Ended::Wedged, &text.replace(missing, ""));
        assert!(!judged.passed, "without {missing}");
    }
    let other = Test::new("t", "sys_t").wedged(&["mfs -> vm", "vm -> mfs"], "vm -> vfs");
    assert!(!said(&other, Ended::Wedged, text).passed);
    assert!(!said(&test, Ended::TimedOut("late".into()), text).passed);
    assert!(!of(&test, Ended::Exited(0), &case(true, 0, 0, "")).passed);
    assert!(!said(&Test::new("t", "sys_t"), Ended::Wedged, text).passed);
    // The report page's copy serves where the console lost it.
    let graph = ["mfs -> vm (a)", "vm -> mfs (b)", "circle: vm -> mfs -> vm"].map(str::to_owned).to_vec();
    let elsewhere = Played { graph, ..played(Ended::Wedged, "") };
    assert!(judge(&test, &elsewhere, Told::default(), &[]).passed);
}

#[test]
fn what_cannot_be_run_is_skipped_with_its_reason() {
    let judged = of(&Test::new("t", "sys_t"), Ended::Exited(0), "@skip second-stage: no monitor\n");
    assert_eq!((judged.verdict, judged.passed), (Verdict::Skip, false));
    assert_eq!(judged.why, ["second-stage: no monitor"]);
    let judged =
        of(&Test::new("t", "sys_t"), Ended::Exited(0), &format!("@skip a part\n{}", case(true, 0, 0, "")));
    assert!(judged.passed && judged.skips == ["a part"]);
}

#[test]
fn what_lacks_nothing_is_not_skipped() {
    let text = &whole("@skip second-stage: no monitor\n");
    let monitor = Some(Monitor { conserved: true, reflected: 1 });
    let there = Played { monitor, ..played(Ended::Exited(1), text) };
    let judged = judge(&Test::new("t", "sys_t").monitor(), &there, console::read(text), &[]);
    assert_eq!((judged.verdict, judged.passed), (Verdict::Failed, false));
    assert!(judged.why[0].contains("nothing is missing"), "{:?}", judged.why);
    // A program that was killed did not leave itself out.
    assert_eq!(said(&Test::new("t", "sys_t"), Ended::Exited(139), text).verdict, Verdict::Failed);
    assert_eq!(said(&Test::new("t", "sys_t"), Ended::Exited(1), text).verdict, Verdict::Skip);
}

#[test]
fn a_monitor_that_nobody_met_is_a_failure() {
    let text = whole(&case(true, 3, 0, ""));
    for (reflected, passed) in [(0, false), (1, true)] {
        let monitor = Some(Monitor { conserved: true, reflected });
        let there = Played { monitor, ..played(Ended::Exited(0), &text) };
        let needs = Test::new("t", "sys_t").faults().monitor();
        assert_eq!(judge(&needs, &there, console::read(&text), &[]).passed, passed);
        assert!(judge(&Test::new("t", "sys_t"), &there, console::read(&text), &[]).passed);
        let there = Played { monitor, ..played(Ended::Wedged, "wait-for: a -> b\n") };
        let wedged = Test::new("t", "sys_t").monitor().wedged(&["a -> b"], "");
        assert_eq!(judge(&wedged, &there, console::read(&there.console), &[]).passed, passed);
    }
    let monitor = Some(Monitor { conserved: false, reflected: 1 });
    let there = Played { monitor, ..played(Ended::Exited(0), &text) };
    assert!(!judge(&Test::new("t", "sys_t"), &there, console::read(&text), &[]).passed);
}

#[test]
fn an_expected_failure_hides_no_other() {
    let short = case(false, 1, 0, ",\"verdict\":\"SHORT\"");
    let test = Test::new("t", "sys_t").expect(Expect::Short);
    assert!(of(&test, Ended::Exited(1), &short).passed);
    for other in ["", ",\"verdict\":\"LEAK\"", ",\"verdict\":\"CORRUPT\""] {
        let text = short.clone() + &case(false, 1, 0, other);
        assert!(!of(&test, Ended::Exited(1), &text).passed, "{other}");
    }
    let test = Test::new("t", "sys_t").wedged(&["a -> b"], "");
    let edge = "wait-for: a -> b\n";
    assert!(said(&test, Ended::Wedged, &(case(true, 1, 0, "") + edge)).passed);
    assert!(!said(&test, Ended::Wedged, &(case(false, 1, 0, "") + edge)).passed);
    assert!(!said(&test, Ended::Wedged, &format!("@case {{\n{edge}")).passed);
}

#[test]
fn a_console_that_was_cut_off_is_a_failure() {
    let text = case(true, 0, 0, "") + crate::vm::console::CUT_OFF;
    let judged = of(&Test::new("t", "sys_t"), Ended::Exited(0), &text);
    assert!(!judged.passed && judged.why[0].contains("cannot be read"), "{:?}", judged.why);
}

#[test]
fn programs_are_judged_by_what_they_print() {
    let test = Test::new("t", "cat /hello.txt").prints("Hello");
    assert!(said(&test, Ended::Exited(0), "Hello.\n").passed);
    assert!(!said(&test, Ended::Exited(0), "Bye.\n").passed);
    assert!(!said(&test, Ended::Exited(2), "Hello.\n").passed);
    assert_eq!(said(&test, Ended::Crashed("triple fault".into()), "Hello.\n").verdict, Verdict::Crash);
    // Unless it speaks to the host as well, or is to.
    let speaks = case(true, 0, 0, "") + "Hello.\n";
    assert!(of(&test, Ended::Exited(0), &speaks).passed);
    assert!(!said(&test, Ended::Exited(0), &speaks).passed);
    assert!(!said(&test.clone().cases(1), Ended::Exited(0), "Hello.\n").passed);
}

#[test]
fn a_program_says_at_its_end_how_much_it_said() {
    let test = Test::new("t", "sys_t");
    let two = case(true, 0, 0, "") + &case(true, 0, 0, "") + "@skip a part\n";
    assert!(said(&test, Ended::Exited(0), &(two.clone() + &end(2, 1))).passed);
    let wrong = [
        (two.clone(), "did not say"),
        (two.clone() + &end(1, 1), "reported 1 cases and left out 1"),
        (two.clone() + &end(3, 1), "the console shows 2 and 1"),
        (two.clone() + &end(2, 0), "left out 0"),
        (two.clone() + &end(2, 1) + &end(2, 1), "ended 2 times"),
        (case(true, 0, 0, "") + &end(2, 1) + &case(true, 0, 0, "") + "@skip a part\n", "went on"),
        (two + "@end {\"cases\":2}\n", "cannot be read"),
    ];
    for (text, reason) in wrong {
        let judged = said(&test, Ended::Exited(0), &text);
        assert_eq!((judged.verdict, judged.passed), (Verdict::Failed, false), "{text}");
        assert!(judged.why.iter().any(|why| why.contains(reason)), "{:?}: {text}", judged.why);
    }
    // Nor may it leave itself out half way.
    let judged = said(&test, Ended::Exited(1), "@skip second-stage: no monitor\n");
    assert_eq!(judged.verdict, Verdict::Failed);
}

#[test]
fn fewer_cases_than_a_test_is_made_of_are_a_failure() {
    let text = case(true, 0, 0, "").repeat(3);
    for (least, passed) in [(0, true), (3, true), (4, false)] {
        let judged = of(&Test::new("t", "sys_t").cases(least), Ended::Exited(0), &text);
        assert_eq!(judged.passed, passed, "{:?}", judged.why);
        assert_eq!(passed, judged.why.is_empty());
    }
    // Also where a failing case is what is expected.
    let short = case(false, 1, 0, ",\"verdict\":\"SHORT\"").repeat(2);
    let test = |least| Test::new("t", "sys_t").expect(Expect::Short).cases(least);
    assert!(of(&test(2), Ended::Exited(1), &short).passed);
    assert!(!of(&test(3), Ended::Exited(1), &short).passed);
}
