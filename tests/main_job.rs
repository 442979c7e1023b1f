//! The main job: a read into memory whose pages are away, under each policy, and what must hold of every figure.
//!
//! The one thing to hold in mind: relations, not constants. A count is compared with another count of somebody else (the
//! injector's with the kernel's, the kernel's with the file server's), because each alone could be wrong and look right.

mod common;

use std::process::ExitCode;

use common::command::{Guest, Ran, refault};
use common::disk::Image;
use common::{Need, Suite, machine, tool};
use refault::demo::row::{Row, Source, Verdict};
use refault::vm::End;
use refault_abi::doorbell::event;
use refault_abi::layout::PAGE;
use serde_json::Value;

/// Where `softread`'s buffer begins in its first page.
const OFFSET: u64 = 123;
/// Bytes it reads.
const ASKED: u64 = 65_536;
/// Pages of its buffer.
const PAGES: u64 = (OFFSET + ASKED).div_ceil(PAGE);
/// Faults that one page may have in one operation before it is given up.
const BOUND: u64 = 8;

fn main() -> ExitCode {
    let mut suite = Suite::new("main_job");
    suite.kvm("the_demo_shows_what_it_must", the_demo_shows_what_it_must);
    suite.kvm("the_demo_without_arguments_prints_its_table", the_demo_without_arguments_prints_its_table);
    suite.test("the_demo_says_that_the_images_are_sound", &[Need::Kvm, Need::Tool("fsck.minix")], || {
        for run in demo()["runs"].as_array().unwrap() {
            assert_eq!(run["image"]["fsck_accepts"], true, "{run}");
        }
    });
    for policy in ["efault", "mark", "hardened"] {
        suite.kvm(format!("without_a_fault_nothing_is_shown::{policy}"), move || {
            without_a_fault_nothing_is_shown(policy);
        });
    }
    for (rule, pages) in [
        ("read page=0 side=granter: reflect", vec![0]),
        ("read page=3 side=granter: reflect", vec![3]),
        ("read page=last side=granter: reflect", vec![PAGES - 1]),
        ("read page=1,2,3,15 side=granter: reflect", vec![1, 2, 3, 15]),
        ("read page=1,7,last side=granter: reflect*2", vec![1, 1, 7, 7, PAGES - 1, PAGES - 1]),
        ("read page=4 attempt=1 side=granter access=write: reflect", vec![4]),
        ("read side=granter: reflect", (0..PAGES).collect()),
    ] {
        let expected = pages.clone();
        suite.kvm(format!("hardened::{rule}"), move || hardened(rule, &expected));
        suite.kvm(format!("mark::{rule}"), move || mark(rule, &pages));
    }
    suite.kvm("a_rule_that_never_matches_arms_nothing", a_rule_that_never_matches_arms_nothing);
    for policy in ["efault", "mark", "hardened"] {
        suite.kvm(format!("a_page_away_for_ever_ends_in_an_error::{policy}"), move || for_ever(policy));
    }
    suite.kvm("the_copiers_own_page", the_copiers_own_page);
    suite.kvm("a_file_system_that_hides_the_fault", a_file_system_that_hides_the_fault);
    suite.kvm("first_stage_from_other_places", first_stage_from_other_places);
    suite.kvm("the_mapped_file_itself", the_mapped_file_itself);
    suite.kvm("a_write_is_repeated", a_write_is_repeated);
    suite.kvm("a_directory_is_read_once_more", a_directory_is_read_once_more);
    suite.kvm("a_stat_is_repeated", a_stat_is_repeated);
    suite.kvm("a_link_is_read_once_more", a_link_is_read_once_more);
    suite.kvm("every_site_once", every_site_once);
    suite.kvm("pages_away_by_either_mechanism", pages_away_by_either_mechanism);
    suite.run()
}

/// The demo's document, made once.
fn demo() -> &'static Value {
    static DEMO: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| {
        let directory = tempfile::tempdir().unwrap();
        let json = directory.path().join("demo.json");
        let said = refault(["run".into(), "--json".into(), json.clone().into_os_string()]);
        assert_eq!(said.code, Some(0), "{}", said.all());
        serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
    });
    &DEMO
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn the_demo_shows_what_it_must() {
    let demo = demo();
    assert_eq!((&demo["schema"], &demo["ok"]), (&"refault.demo/1".into(), &true.into()));
    assert_eq!(demo["problems"], Value::Array(vec![]));
    let rule = refault::inject::parse_rule(demo["rule"].as_str().unwrap()).unwrap();
    let refault::inject::Rule::Site(rule) = rule else {
        panic!("the demo's rule is about sites, not {rule}")
    };
    let wanted = rule.pages.unwrap().len() as u64;
    let (rows, runs) = (demo["rows"].as_array().unwrap(), demo["runs"].as_array().unwrap());
    let mut seen = Vec::new();
    assert_eq!(rows.len(), runs.len());
    for (row, run) in rows.iter().zip(runs) {
        for (key, value) in row.as_object().unwrap() {
            assert_eq!(&run[key], value, "a row and its run differ in {key}");
        }
        seen.push((row["source"].as_str().unwrap(), row["policy"].as_str().unwrap()));
        a_row(row, run, wanted);
    }
    let all = ["second-stage", "first-stage"].map(|s| ["efault", "mark", "hardened"].map(|p| (s, p)));
    assert_eq!(seen, all.concat());
}

/// What must hold of one row and the machine behind it.
fn a_row(row: &Value, run: &Value, wanted: u64) {
    let count = |key: &str| number(row, key);
    let guest = |key: &str| run["stats"]["guest"][key].as_u64().unwrap_or(0);
    let (asked, got) = (count("asked"), count("got"));
    let (marks, repeats) = (count("marks"), count("repeats"));
    assert_eq!((&row["bytes_right"], &row["error"]), (&true.into(), &Value::Null), "{row}");
    assert!(marks >= 1 && marks == guest("vfs_marks_seen"), "{row}");
    assert_eq!((repeats, repeats), (guest("vfs_repeats"), guest("vfs_handlemem")));
    assert_eq!((guest("marks_failed"), guest("marks_stale")), (0, 0));
    assert_eq!(guest("suspends"), guest("resumes"));
    assert!(guest("copy_bytes") >= got, "more was delivered than copied: {row}");
    // Read from the disk, not made up: the buffer's file and the source.
    let disk = &run["stats"]["disks"][0];
    assert!(number(disk, "bytes_read") >= got && number(disk, "errors") == 0, "{disk}");
    assert_eq!(number(disk, "writes"), 0);
    assert_eq!(run["image"]["identical"], true);

    let policy = row["policy"].as_str().unwrap();
    if policy == "efault" {
        assert_eq!((row["verdict"].as_str(), repeats), (Some("SHORT"), 0));
        assert!(got < asked);
        assert_eq!((OFFSET + got) % PAGE, 0, "what was delivered ends where a page begins");
    } else {
        assert_eq!((row["verdict"].as_str(), got), (Some("RETRIED"), asked));
    }
    // `mark` repeats once and then waits for VM in the copy; `hardened` repeats for every fault and never waits.
    let (reflected, soft) = (count("reflected"), count("soft_faults_second_stage"));
    match policy {
        "mark" => assert_eq!((repeats, marks), (1, 1)),
        "hardened" => assert_eq!((repeats, guest("suspends")), (marks, 0)),
        _ => {}
    }
    if row["source"] == "second-stage" {
        let faults = &run["stats"]["faults"];
        let figure = |key: &str| number(faults, key);
        assert_eq!(reflected, soft, "a reflected trap that the kernel took for something else");
        assert_eq!(count("soft_faults_first_stage"), 0, "{row}");
        let hit = if policy == "efault" { 1 } else { wanted };
        assert_eq!((reflected, figure("reflected")), (hit, hit));
        assert_eq!(figure("armed"), figure("trapped") + figure("never_touched"));
        assert_eq!(figure("trapped"), figure("reflected") + figure("resolved") + figure("poisoned"));
        assert!(figure("asked_back") >= figure("reflected"));
        match policy {
            "mark" => assert_eq!(guest("suspends"), reflected - 1),
            "hardened" => assert_eq!(repeats, reflected),
            _ => {}
        }
    } else {
        assert_eq!((reflected, soft), (0, 0), "{row}");
        assert_eq!(run["stats"]["faults"], Value::Null);
        assert!(count("soft_faults_first_stage") >= 1);
    }
}

fn the_demo_without_arguments_prints_its_table() {
    let said = refault::<&str>([]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    for policy in ["efault", "mark", "hardened"] {
        let verdict = if policy == "efault" { "SHORT" } else { "RETRIED" };
        let rows = said.out.lines().filter(|line| line.starts_with(&format!("retry={policy} ")));
        let rows: Vec<&str> = rows.filter(|line| line.trim_end().ends_with(verdict)).collect();
        assert_eq!(rows.len(), 2, "{}", said.out);
    }
    let expected = if tool("fsck.minix").is_some() { "accepts 6 of 6" } else { "6 of 6 unchanged" };
    assert!(said.out.contains(expected), "{}", said.out);
}

/// Nothing away, nothing absent: a full read without a repeat, which proves nothing and must not pass for a proof.
fn without_a_fault_nothing_is_shown(policy: &'static str) {
    let image = Image::demo();
    let program = ["softread", "--case", "second-stage"];
    let (outcome, text) = machine::run(&image, &format!("retry={policy}"), &[], &program);
    assert_eq!(outcome.end, End::Exited(0), "{text}");
    let row = Row::of(policy, "partial", Source::SecondStage, &outcome);
    assert_eq!((row.asked, row.got, row.bytes_right), (Some(ASKED), Some(ASKED), Some(true)));
    assert_eq!((row.marks, row.repeats, row.reflected), (Some(0), Some(0), Some(0)));
    assert_eq!((row.soft_faults_first_stage, row.soft_faults_second_stage), (Some(0), Some(0)));
    assert_eq!(row.verdict, Verdict::Void);
    assert_ne!(row.verdict, row.expected(), "the table would accept a row in which nothing happened");
    image.assert_unchanged();
}

/// A read with second-stage faults; the row, and each fault's page in order.
fn read_with(policy: &'static str, words: &str, rule: &str) -> (Row, Vec<u64>) {
    let image = Image::demo();
    let program = ["softread", "--case", "second-stage"];
    let (outcome, text) = machine::run(&image, &format!("retry={policy} {words}"), &[rule], &program);
    assert_eq!(outcome.end, End::Exited(0), "{text}");
    let faults = outcome.stats.faults.unwrap();
    assert!(faults.conserved(), "{faults:?}");
    let row = Row::of(policy, "partial", Source::SecondStage, &outcome);
    assert_eq!(row.bytes_right, Some(true), "{text}");
    // Every fault in the log is a reflected one with a number of its own, in the order of the numbers.
    let during: Vec<_> = outcome.faults.iter().filter(|fault| !fault.user).collect();
    assert!(during.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "{during:?}");
    assert_eq!(outcome.faults.len() as u64, faults.all_reflected());
    assert_eq!(outcome.events.iter().filter(|event| event.code == event::CASE_END).count(), 1);
    image.assert_unchanged();
    (row, during.iter().map(|fault| u64::from(fault.page)).collect())
}

/// Every page in turn: one fault, one mark, one repeat, until none is left.
fn hardened(rule: &str, expected: &[u64]) {
    let (row, pages) = read_with("hardened", "", rule);
    assert_eq!((pages.as_slice(), row.got), (expected, Some(ASKED)));
    let faults = Some(expected.len() as u64);
    assert_eq!((row.reflected, row.marks, row.repeats), (faults, faults, faults));
    assert_eq!((row.verdict, row.soft_faults_second_stage), (Verdict::Retried, faults));
}

/// The first fault is marked and the operation repeated once; the other faults wait for VM in the kernel.
fn mark(rule: &str, expected: &[u64]) {
    let (row, pages) = read_with("mark", "", rule);
    assert_eq!(pages, expected);
    let faults = Some(expected.len() as u64);
    assert_eq!((row.reflected, row.soft_faults_second_stage, row.got), (faults, faults, Some(ASKED)));
    assert_eq!((row.marks, row.repeats, row.verdict), (Some(1), Some(1), Verdict::Retried));
}

fn a_rule_that_never_matches_arms_nothing() {
    // `softread` has one attempt without faults, and no page 99.
    let rules =
        ["read attempt=2: reflect", "read page=99: reflect", "write: reflect", "read request=4000: reflect"];
    let image = Image::demo();
    let (outcome, text) = machine::run(&image, "", &rules, &["softread", "--case", "second-stage"]);
    assert_eq!(outcome.end, End::Exited(0), "{text}");
    let faults = outcome.stats.faults.unwrap();
    assert!(faults.sites >= PAGES, "{faults:?}");
    assert_eq!((faults.armed, faults.trapped, faults.all_reflected()), (0, 0, 0));
    let row = Row::of("hardened", "partial", Source::SecondStage, &outcome);
    assert_eq!((row.verdict, row.got), (Verdict::Void, Some(ASKED)));
}

/// A page that goes away again whenever it comes back: a bound, then a defined end. Never a hang.
fn for_ever(policy: &'static str) {
    let (row, pages) = read_with(policy, "", "read page=3 side=granter: reflect*forever");
    assert!(pages.iter().all(|page| *page == 3), "{pages:?}");
    let reflected = row.reflected.unwrap();
    if policy == "efault" {
        assert_eq!((row.verdict, row.repeats), (Verdict::Short, Some(0)));
        assert_eq!(row.got, Some(3 * PAGE - OFFSET));
        return;
    }
    assert_eq!((row.verdict, row.error.as_deref(), row.got), (Verdict::Rejected, Some("EFAULT"), Some(0)));
    assert!((2..=2 * BOUND + 2).contains(&reflected), "{reflected} faults before it was given up");
    assert_eq!(row.soft_faults_second_stage, Some(reflected));
    if policy == "hardened" {
        assert_eq!((row.marks, row.repeats), (Some(BOUND + 1), Some(BOUND)));
    }
}

/// The other side of the copy: a page of the file server's own buffer.
fn the_copiers_own_page() {
    let (row, pages) = read_with("hardened", "", "read side=grantee: reflect");
    assert!(!pages.is_empty());
    assert_eq!((row.got, row.verdict), (Some(ASKED), Verdict::Retried));
    // The page may also be met by the server itself, in ring 3, which is a page fault and no soft fault.
    let copies = row.soft_faults_second_stage;
    assert!(copies >= Some(1) && row.reflected >= copies);
    assert_eq!((row.marks, row.repeats), (copies, copies));
}

/// The mark counts, not the answer: a file system that pretends success, or that fails the call.
fn a_file_system_that_hides_the_fault() {
    for (policy, fs) in [("mark", "fs=swallow"), ("hardened", "fs=swallow"), ("hardened", "fs=whole")] {
        let (row, _) = read_with(policy, fs, "read page=2,5 side=granter: reflect");
        assert_eq!((row.got, row.verdict), (Some(ASKED), Verdict::Retried), "{fs} {policy}");
        // Who goes on after a failed copy meets the same page again with the next one.
        assert!(row.reflected >= Some(2) && row.reflected == row.soft_faults_second_stage, "{row:?}");
    }
    // Before the cure the pretence is believed, and bytes that never came are read: what the seed was about.
    let image = Image::demo();
    let rule = "read page=2,5 side=granter: reflect";
    let (outcome, _) =
        machine::run(&image, "retry=efault fs=swallow", &[rule], &["softread", "--case", "second-stage"]);
    let row = Row::of("efault", "swallow", Source::SecondStage, &outcome);
    assert_eq!((row.verdict, row.repeats), (Verdict::Corrupt, Some(0)));
}

/// A run of `softread` by the command.
fn softread(arguments: &[&str]) -> Ran {
    let image = Image::demo();
    let ran = Guest::program([&["softread"], arguments].concat()).disk(image.path()).run();
    ran.assert_code(0);
    image.assert_unchanged();
    ran
}

/// The only report of a run.
fn report(ran: &Ran) -> Value {
    let reports = ran.document["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 1);
    serde_json::from_str(reports[0].as_str().unwrap()).unwrap()
}

fn first_stage_from_other_places() {
    for (bytes, offset) in [(1, 0), (1, 1_229_132), (4096, 4095), (5_000, 77), (100_000, 300_001)] {
        let (size, place) = (bytes.to_string(), offset.to_string());
        let ran = softread(&["--case", "first-stage", "--bytes", &size, "--offset", &place]);
        let seen = report(&ran);
        assert_eq!((number(&seen, "asked"), number(&seen, "got")), (bytes, bytes));
        assert_eq!(number(&seen, "position"), offset + bytes);
        let all_right = ["right", "untouched_ok", "position_ok"].map(|key| seen[key] == true);
        assert_eq!(all_right, [true; 3], "{seen}");
        // Within the first page, which was touched, there is nothing to fault.
        let faulted = ran.guest("soft_faults_first_stage") > 0;
        assert_eq!(faulted, OFFSET + bytes > PAGE, "{bytes} bytes");
        assert_eq!(ran.guest("vfs_repeats") > 0, faulted);
    }
}

/// The file server would have to bring in a page of the very file it is reading.
fn the_mapped_file_itself() {
    let ran = softread(&["--case", "first-stage", "--same-file", "--offset", "65536"]);
    let seen = report(&ran);
    assert_eq!((number(&seen, "got"), &seen["right"]), (ASKED, &true.into()));
    assert!(ran.guest("vfs_repeats") >= 1 && ran.guest("soft_faults_first_stage") >= 1);
}

fn a_write_is_repeated() {
    for (rule, words) in [
        ("write page=1,3 side=granter: reflect", ""),
        ("write page=0,2: reflect", "retry=mark"),
        ("write page=1: reflect*3", ""),
    ] {
        let image = Image::demo_of_size(8 << 20);
        let program = ["cp", "/dir/numbers.txt", "/copy"];
        let ran = Guest::program(program).disk(image.path()).inject(rule).words(words).run();
        ran.assert_code(0).assert_conserved();
        assert!(ran.faults("reflected") >= 2 && ran.guest("vfs_repeats") >= 1, "{}", ran.document["stats"]);
        assert_eq!(image.read("/copy"), refault::mkfs::demo_file("/dir/numbers.txt"), "{rule}");
        image.assert_sound();
    }
}

/// What `program` prints without rules and with `rule` must be the same, and faults must have happened.
fn same_output(program: &[&str], rule: &str) -> Ran {
    let image = Image::demo();
    let plain = Guest::program(program.iter().copied()).disk(image.path()).say();
    let ran = Guest::program(program.iter().copied()).disk(image.path()).inject(rule).run();
    ran.assert_code(0).assert_conserved();
    assert_eq!(plain.code, Some(0), "{}", plain.all());
    assert_eq!(ran.said.out, plain.out);
    assert!(!plain.out.is_empty() && ran.faults("reflected") >= 1 && ran.guest("vfs_repeats") >= 1);
    assert_eq!(ran.guest("marks_set"), ran.guest("vfs_marks_seen"));
    image.assert_unchanged();
    ran
}

fn a_directory_is_read_once_more() {
    same_output(&["ls", "/"], "getdents: reflect");
    same_output(&["ls", "/dir/nested"], "getdents: reflect*4");
}

fn a_stat_is_repeated() {
    same_output(&["ls", "-l", "/"], "stat: reflect");
}

fn a_link_is_read_once_more() {
    same_output(&["ls", "-l", "/greeting"], "rdlink: reflect");
}

/// Every site of every operation once, whatever it is.
fn every_site_once() {
    let ran = same_output(&["cat", "/dir/nested/up", "/etc/motd"], ": reflect");
    assert!(ran.faults("reflected") >= 6, "{}", ran.document["stats"]);
    let sum = same_output(&["sum", "/b.bin"], "read: reflect");
    assert_eq!(sum.guest("vfs_repeats"), sum.guest("marks_set"));
}

fn pages_away_by_either_mechanism() {
    for (mechanism, name) in [("poison", "UFFDIO_POISON"), ("protnone", "PROT_NONE")] {
        let image = Image::demo();
        let ran = Guest::program(["softread", "--case", "second-stage"])
            .disk(image.path())
            .option("--mechanism", mechanism)
            .inject("read page=1,7,last side=granter: reflect")
            .run();
        ran.assert_code(0).assert_conserved();
        assert_eq!(ran.document["stats"]["mechanism"], name);
        assert_eq!((ran.faults("reflected"), ran.guest("vfs_repeats")), (3, 3));
        assert_eq!(number(&report(&ran), "got"), ASKED);
    }
}
