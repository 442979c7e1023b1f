//! The verb `refault test`: what it lists, what it says of a test that fails, its document and its exit codes.

mod common;

use std::process::{Command, ExitCode, Stdio};

use common::command::{Guest, REFAULT, refault};
use common::{Need, Suite};
use serde_json::Value;

/// A test of the table that passes everywhere.
const TEST: &str = "softread.hardened.first-stage";

fn main() -> ExitCode {
    let mut suite = Suite::new("test_command");
    suite.host("the list names each test once", the_list);
    suite.host("a pattern that fits nothing is an error", no_such_test);
    suite.kvm("any number of machines at once may be asked for", many_jobs);
    suite.kvm("an interrupt ends machines and removes their files", interrupt);
    suite.host("words that the guest does not know are refused", bad_words);
    suite.host("an emulator that cannot be run is one error", no_such_emulator);
    suite.kvm("a test that passes, and its document", passes);
    suite.kvm("a test that fails says why, what was printed, and how to repeat it", fails);
    suite.kvm("a wedged guest has a code of its own, and its graph", wedged);
    suite.test(
        "what needs the monitor is left out of emulation",
        &[Need::Tool("qemu-system-x86_64")],
        left_out,
    );
    suite.run()
}

fn document(arguments: &[&str], code: i32) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("tests.json");
    let mut all = vec!["test", "--json", json.to_str().unwrap()];
    all.extend(arguments);
    let said = refault(all);
    assert_eq!(said.code, Some(code), "{}", said.all());
    (said.err, serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap())
}

fn the_list() {
    let said = refault(["test", "--list"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let names: Vec<&str> = said.out.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&TEST), "{}", said.out);
    let one = refault(["test", "--list", TEST]);
    assert_eq!(one.out.lines().count(), 1, "{}", one.out);
    let many = refault(["test", "--list", "softread.*"]);
    assert!(many.out.lines().count() > 1 && many.out.lines().all(|line| line.starts_with("softread.")));
}

fn no_such_test() {
    let said = refault(["test", "nonesuch"]);
    assert_eq!(said.code, Some(160), "{}", said.all());
    assert!(said.err.contains("nonesuch") && said.err.contains("--list"), "{}", said.err);
}

fn many_jobs() {
    let (_, document) = document(&[TEST, "--jobs", &usize::MAX.to_string()], 0);
    assert_eq!(document["passed"], 1);
    for jobs in ["0", "-1", "99999999999999999999"] {
        assert_eq!(refault(["test", TEST, "--jobs", jobs]).code, Some(160), "{jobs}");
    }
}

fn interrupt() {
    let directory = tempfile::tempdir().unwrap();
    // A machine that would not end before its time is over.
    for arguments in [&["test", "programs.shell.typed", "memory", "--jobs", "2"][..], &["bench", "costs"]] {
        for signal in [libc::SIGINT, libc::SIGQUIT] {
            let mut child = Command::new(REFAULT)
                .args(arguments)
                .env("TMPDIR", directory.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Its files are there once it listens for signals.
            while std::fs::read_dir(directory.path()).unwrap().next().is_none() {
                assert_eq!(child.try_wait().unwrap(), None, "{arguments:?} ended by itself");
                std::thread::yield_now();
            }
            // SAFETY: the child has not been waited for, so the number is its own.
            unsafe { libc::kill(child.id() as libc::pid_t, signal) };
            assert_eq!(child.wait().unwrap().code(), Some(130), "{arguments:?}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{arguments:?}");
        }
    }
}

fn bad_words() {
    let said = refault(["test", TEST, "--words", "retry=never"]);
    assert_eq!(said.code, Some(160), "{}", said.all());
    assert!(said.err.contains("--words") && said.err.contains("retry=never"), "{}", said.err);
}

fn no_such_emulator() {
    let said = refault(["test", "--under", "/nonexistent/qemu"]);
    assert_eq!(said.code, Some(166), "{}", said.all());
    assert!(said.err.contains("/nonexistent/qemu") && said.err.lines().count() < 5, "{}", said.err);
}

fn passes() {
    let (_, document) = document(&[TEST], 0);
    assert_eq!(document["schema"], "refault.test/1");
    assert_eq!(
        (&document["passed"], &document["failed"], &document["skipped"]),
        (&1.into(), &0.into(), &0.into())
    );
    let test = &document["tests"][0];
    assert_eq!((&test["name"], &test["verdict"]), (&TEST.into(), &"PASS".into()));
    assert!(test["faults"].is_u64() && test["repeats"].is_u64(), "{test}");
}

fn fails() {
    // With this policy the program gets the short read that the test is not about.
    let (said, document) = document(&[TEST, "--words", "retry=efault"], 175);
    assert_eq!((&document["passed"], &document["failed"]), (&0.into(), &1.into()));
    let test = &document["tests"][0];
    assert_eq!((&test["verdict"], &test["passed"]), (&"FAILED".into(), &false.into()));
    assert!(test["why"][0].as_str().unwrap().contains("got 65536"), "{test}");
    assert!(!test["console"].as_array().unwrap().is_empty(), "{test}");
    for text in ["SHORT", &format!("refault test {TEST} --words 'retry=efault'"), "0 passed, 1 failed"] {
        assert!(said.contains(text), "no {text:?} in: {said}");
    }
}

fn wedged() {
    let words = "mode=faithful try=off watchdog=1500";
    let guest = Guest::program(["softread", "--case", "first-stage"]).words(words).run();
    guest.assert_code(174);
    let end = &guest.document["end"];
    assert_eq!((&end["kind"], &end["status"]), (&"wedged".into(), &121.into()));
    for edge in ["mfs -> vm", "vm -> vfs", "vfs -> mfs"] {
        assert!(end["detail"].as_str().unwrap().contains(edge), "{end}");
        assert!(guest.said.err.contains(edge) && guest.said.out.contains(edge), "{}", guest.said.all());
    }
}

fn left_out() {
    let name = "softread.hardened.second-stage";
    let (said, document) = document(&["--under", "qemu-system-x86_64", name], 0);
    assert_eq!((&document["passed"], &document["skipped"]), (&0.into(), &1.into()));
    assert_eq!(document["tests"][0]["verdict"], "SKIP");
    assert!(said.contains("monitor"), "{said}");
}
