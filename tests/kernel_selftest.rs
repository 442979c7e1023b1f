//! The kernel tested alone: its self-test has VM's place in a boot image and needs no other server.
//!
//! The checks are in the guest; this runs them and compares what the kernel saw with what the monitor counted.
//!
//! The one thing to hold in mind: a self-test that does nothing passes too. So the number of its checks is part of what
//! is tested here.

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use common::Suite;
use common::command::{Guest, Ran, refault};
use refault::guest_image::{BOOT_IMAGE, KERNEL, SELFTEST_IMAGE};
use tempfile::TempDir;

/// The rules of the cases in `guest-kernel/selftest/second_stage.rs`: each case's grant carries its number as request.
const SECOND_STAGE_RULES: [&str; 4] = [
    "read request=1 page=1 side=granter: reflect",
    "read request=2 page=0 side=grantee: reflect",
    "write request=3 page=0 side=granter: reflect",
    "read request=4 page=0 side=granter: reflect",
];

fn main() -> ExitCode {
    let mut suite = Suite::new("kernel_selftest");
    suite.host("the_exported_files_are_the_built_in_ones", the_exported_files_are_the_built_in_ones);
    suite.kvm("every_check_of_the_kernel_holds", every_check_of_the_kernel_holds);
    suite.kvm("lock_dropped_while_copying", lock_dropped_while_copying);
    suite.kvm("the_seeds_kernel_is_the_seeds", the_seeds_kernel_is_the_seeds);
    suite.kvm("forks_and_deaths", forks_and_deaths);
    suite.kvm("a_circle_is_found_and_named", a_circle_is_found_and_named);
    suite.kvm("silence_ends_the_machine_and_work_does_not", silence_ends_the_machine_and_work_does_not);
    suite.kvm("a_livelock_ends_the_machine", a_livelock_ends_the_machine);
    suite.kvm("the_kernel_meets_pages_away_everywhere", the_kernel_meets_pages_away_everywhere);
    suite.kvm("a_panic_is_readable", a_panic_is_readable);
    suite.run()
}

/// The self-test's image, and the directory that keeps it.
fn image() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("selftest.cpio");
    std::fs::write(&path, SELFTEST_IMAGE).unwrap();
    (directory, path)
}

/// Runs the self-test with words for the command line.
fn selftest(words: &str, rules: &[&str]) -> Ran {
    let (_directory, path) = image();
    let guest = Guest::program([]).option("--initrd", path).option("--timeout", "240s").words(words);
    rules.iter().fold(guest, |guest, rule| guest.inject(rule)).run()
}

/// How many checks there were and how many failed, as the guest printed it.
fn score(ran: &Ran) -> (u64, u64) {
    let line =
        ran.said.out.lines().find(|line| line.starts_with("kselftest: ") && line.ends_with(" failures"));
    let words: Vec<&str> =
        line.unwrap_or_else(|| panic!("no score: {}", ran.said.all())).split(' ').collect();
    let &["kselftest:", checks, "checks,", failures, "failures"] = words.as_slice() else {
        panic!("not a score: {words:?}")
    };
    (checks.parse().unwrap(), failures.parse().unwrap())
}

fn the_exported_files_are_the_built_in_ones() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("guest");
    let said = refault(["export".as_ref(), target.as_os_str()]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    for (name, bytes) in
        [("kernel.elf", KERNEL), ("boot.cpio", BOOT_IMAGE), ("selftest.cpio", SELFTEST_IMAGE)]
    {
        assert!(std::fs::read(target.join(name)).unwrap() == bytes, "{name}");
        assert!(said.out.contains(&format!("{name}: {} bytes", bytes.len())), "{}", said.out);
    }
}

fn every_check_of_the_kernel_holds() {
    let ran = selftest("", &[]);
    ran.assert_code(0);
    let (checks, failures) = score(&ran);
    assert!(checks > 330 && failures == 0, "{}", ran.said.all());
    assert!(ran.document["stats"]["faults"].is_null(), "no rule, no injector");
}

fn lock_dropped_while_copying() {
    let ran = selftest("copylock=dropped", &[]);
    ran.assert_code(0);
    let (checks, failures) = score(&ran);
    assert!(checks > 330 && failures == 0, "{}", ran.said.all());
}

fn the_seeds_kernel_is_the_seeds() {
    let ran = selftest("mode=faithful", &[]);
    ran.assert_code(0);
    let (checks, failures) = score(&ran);
    assert!(checks > 2000 && failures == 0, "{}", ran.said.all());
    assert!(
        ran.said.out.contains("kernel: the mark of grant 0x700005 of granter is lost\n"),
        "{}",
        ran.said.out
    );
    assert_eq!([ran.guest("marks_failed"), ran.guest("marks_pending")], [1, 0]);
}

fn forks_and_deaths() {
    for mode in ["hardened", "faithful"] {
        let ran = selftest(&format!("selftest=family mode={mode}"), &[]);
        ran.assert_code(0);
        let (checks, failures) = score(&ran);
        assert!(checks >= 60 && failures == 0, "{mode}: {}", ran.said.all());
        assert_eq!(ran.guest("forks"), 1);
    }
}

/// Runs a case that ends because nothing goes on any more; what the kernel said.
fn standstill(words: &str) -> String {
    let ran = selftest(words, &[]);
    ran.assert_code(174);
    let out = &ran.said.out;
    let start = out.find("wedged: ").unwrap_or_else(|| panic!("{}", ran.said.all()));
    out[start..].to_string()
}

fn a_circle_is_found_and_named() {
    let said = standstill("selftest=circle watchdog=200");
    let first = said.lines().next();
    assert_eq!(first, Some("wedged: nobody in the circle went on for 200 ms"), "{said}");
    for line in [
        "wait-for: vfs -> mfs (its request is not received)",
        "wait-for: vm -> vfs (page-in, for mfs)",
        "wait-for: mfs -> vm (copy suspended: page 0x10006000 of softread)",
        "circle: vfs -> mfs -> vm -> vfs",
    ] {
        assert!(said.lines().any(|other| other == line), "{line}: {said}");
    }
}

fn silence_ends_the_machine_and_work_does_not() {
    // Alarms ring all the time.
    let said = standstill("selftest=silence watchdog=200");
    assert_eq!(said.lines().next(), Some("wedged: nothing went on for 200 ms"), "{said}");
    assert!(said.contains("wait-for: mfs -> vm (copy suspended: page 0x10006000 of softread)\n"), "{said}");
    assert!(!said.contains("circle"), "{said}");
    let ran = selftest("selftest=busy watchdog=200", &[]);
    ran.assert_code(0);
    assert_eq!(score(&ran).1, 0);
}

fn a_livelock_ends_the_machine() {
    let said = standstill("selftest=livelock mode=faithful watchdog=60000");
    let first = said.lines().next();
    assert_eq!(first, Some("wedged: a copy of mfs was suspended 1000 times and came no further"), "{said}");
}

fn the_kernel_meets_pages_away_everywhere() {
    let ran = selftest("selftest=second-stage", &SECOND_STAGE_RULES);
    ran.assert_code(0);
    let (checks, failures) = score(&ran);
    assert!(checks >= 30 && failures == 0, "{}", ran.said.all());
    // One page for each rule, each touched, none given back behind the guest's back.
    let faults = |name| ran.faults(name);
    assert_eq!([faults("armed"), faults("trapped"), faults("reflected")], [4; 3]);
    assert_eq!([faults("never_touched"), faults("resolved"), faults("resolved_again")], [0; 3]);
    // Pages that stay away until somebody asks for them are met again, and every one is asked back once.
    assert!(faults("reflected_again") >= 3, "{}", ran.document["stats"]);
    assert_eq!(faults("asked_back"), 4);
    // Both ends of the wire agree: what the monitor reflected, the kernel met in a copy, in ring 3 or of its own.
    let met =
        ran.guest("soft_faults_second_stage") + ran.guest("reflected_user") + ran.guest("reflected_kernel");
    assert_eq!(faults("reflected") + faults("reflected_again"), met, "{}", ran.document["stats"]);
    let log = ran.document["faults"].as_array().unwrap();
    assert_eq!(log.len() as u64, met);
    for (index, fault) in log.iter().enumerate() {
        assert_eq!(fault["sequence"], index as u64 + 1, "{fault}");
    }
}

fn a_panic_is_readable() {
    let ran = selftest("selftest=crash", &[]);
    ran.assert_code(170);
    assert_eq!(ran.document["end"]["kind"], "panicked");
    let out = &ran.said.out;
    assert!(out.contains("kernel panic: "), "{out}");
    for register in ["rax ", "rsp ", "r15 ", "rip ", "cr2 0000000000000010", "cr3 "] {
        assert!(out.contains(register), "{register}: {out}");
    }
    // Where VM was, which has no name, and the kernel's entry from there, which has.
    let places: Vec<&str> = out.lines().filter(|line| line.starts_with("  at ")).collect();
    let (kernel, user): (Vec<&str>, Vec<&str>) =
        places.iter().partition(|at| at.starts_with("  at ffffffff"));
    assert_eq!(user.len(), 1, "{out}");
    assert!(!kernel.is_empty() && kernel.iter().all(|at| at.contains("+0x")), "{out}");
    assert!(kernel.iter().any(|at| at.contains(" entry_exception+0x")), "{out}");
}
