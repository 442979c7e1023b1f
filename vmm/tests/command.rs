//! The command as a user has it: what goes in, what comes out, and with which exit code.
//!
//! Every bad input gives one message that says what, where and what to do, an exit code of its own, and leaves the
//! disk image as it was.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{away_guest, crashing_guest, endless_guest, exit_guest, kvm_or_skip, panicking_guest};

/// The command with `arguments`, to its end.
fn refault(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_refault"));
    command.args(arguments).stdin(Stdio::null()).env_remove("REFAULT_LOG");
    command
}

/// Its exit code and what it said to standard error.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = refault(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn demo_disk(&self) -> PathBuf {
        let path = self.0.path().join("demo.img");
        refault::mkfs::make_demo_image(&path, false).unwrap();
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_cannot_be_understood_is_code_160() {
    for (arguments, word) in [
        (vec!["rnu"], "rnu"),
        (vec!["run", "--mem", "lots"], "lots"),
        (vec!["run", "--cpus", "0"], "--cpus"),
        (vec!["run", "--timeout", "soon"], "soon"),
        (vec!["run", "--no-such"], "--no-such"),
    ] {
        let (code, said) = failure(&arguments);
        assert_eq!(code, 160, "{arguments:?}: {said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn help_is_no_failure_and_has_examples() {
    for verb in [None, Some("run"), Some("mkfs"), Some("doctor")] {
        let arguments: Vec<&str> = verb.into_iter().chain(["--help"]).collect();
        let output = refault(&arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("Example"), "{verb:?}");
    }
}

#[test]
fn a_bad_rule_is_shown_with_its_place() {
    let (code, said) = failure(&["run", "--inject", "read pge=1: reflect", "--", "echo"]);
    assert_eq!(code, 163);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[1..3], ["    read pge=1: reflect", "         ^^^"]);
    assert!(lines[3].starts_with("expected here: one of the keys"));
}

#[test]
fn bad_disks_are_code_162_and_stay_as_they_are() {
    if !kvm_or_skip("bad_disks_are_code_162_and_stay_as_they_are") {
        return;
    }
    let files = Files::new();
    let odd = files.file("odd.img", &[7; 1000]);
    let empty = files.file("empty.img", &[]);
    let missing = files.0.path().join("missing.img");
    let good = files.demo_disk();
    let with_cache = format!("{},cache=on", text(&good));
    for (disk, word) in [
        (text(&missing), "missing.img"),
        (text(files.0.path()), "directory"),
        (text(&empty), "empty"),
        (text(&odd), "512"),
        (with_cache.as_str(), "cache=on"),
        (",readonly=on", "names no image"),
    ] {
        let (code, said) = failure(&["run", "--disk", disk, "--", "echo"]);
        assert_eq!(code, 162, "{disk}: {said}");
        assert!(said.contains(word), "{disk}: {said}");
    }
    assert_eq!(fs::read(&odd).unwrap(), [7; 1000]);
    assert!(!missing.exists());
}

#[test]
fn a_disk_in_use_is_not_given_twice() {
    if !kvm_or_skip("a_disk_in_use_is_not_given_twice") {
        return;
    }
    let files = Files::new();
    let disk = files.demo_disk();
    let _held = refault_devices::virtio::blk::image::Image::open(&disk, false).unwrap();
    // The lock belongs to this process's open file; another process has to respect it.
    let (code, said) = failure(&["run", "--disk", text(&disk), "--", "echo"]);
    assert_eq!(code, 162);
    assert!(said.contains("in use by another machine"), "{said}");
}

#[test]
fn a_read_only_file_needs_readonly() {
    if !kvm_or_skip("a_read_only_file_needs_readonly") {
        return;
    }
    // SAFETY: the call has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        eprintln!("\n*** SKIPPED: a_read_only_file_needs_readonly: root may write every file\n");
        return;
    }
    let files = Files::new();
    let disk = files.demo_disk();
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o444)).unwrap();
    let (code, said) = failure(&["run", "--disk", text(&disk), "--", "echo"]);
    assert_eq!(code, 162);
    assert!(said.contains("readonly=on"), "{said}");
}

#[test]
fn what_is_no_kernel_is_code_161() {
    if !kvm_or_skip("what_is_no_kernel_is_code_161") {
        return;
    }
    let files = Files::new();
    let script = files.file("script", b"#!/bin/sh\n");
    let big = files.file("big", &refault::micro::elf(&vec![0; 8 << 20], 0x10_0000, 0x10_0000));
    let no_note = {
        let mut image = exit_guest(0);
        image[64 + 2 * 56 + 8] = 17;
        files.file("no-note", &image)
    };
    let missing = files.0.path().join("missing");
    for (kernel, word) in [(&script, "not an ELF"), (&big, "--mem"), (&no_note, "PVH"), (&missing, "missing")]
    {
        let (code, said) = failure(&["run", "--mem", "4M", "--kernel", text(kernel)]);
        assert_eq!(code, 161, "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn the_ways_a_guest_can_end() {
    if !kvm_or_skip("the_ways_a_guest_can_end") {
        return;
    }
    let files = Files::new();
    for (image, code, word) in [
        (exit_guest(5), 5, ""),
        (exit_guest(300), 127, ""),
        (panicking_guest(0), 170, "panicked"),
        (crashing_guest(), 171, "triple-faulted"),
        (endless_guest(), 172, "--timeout"),
    ] {
        let kernel = files.file("kernel", &image);
        let (got, said) = failure(&["run", "--kernel", text(&kernel), "--timeout", "2s"]);
        assert_eq!(got, code, "{said}");
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn the_document_has_the_promised_keys() {
    if !kvm_or_skip("the_document_has_the_promised_keys") {
        return;
    }
    let files = Files::new();
    let kernel = files.file("kernel", &away_guest());
    let rule = "read page=1,2: reflect";
    let output = refault(&["run", "--kernel", text(&kernel), "--inject", rule, "--seed", "9", "--json", "-"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "refault.run/1");
    assert_eq!(document["end"]["kind"], "exited");
    assert_eq!(document["request"]["seed"], 9);
    assert_eq!(document["request"]["rules"][0], "read page=1,2 : reflect");
    assert!(document["request"]["command_line"].as_str().unwrap().contains("refault.doorbell=4K@"));
    let faults = &document["stats"]["faults"];
    assert_eq!((faults["armed"].as_u64(), faults["reflected"].as_u64()), (Some(2), Some(2)));
    for key in ["kernel", "kvm_module", "nested", "cpu", "ring0", "mechanism"] {
        assert!(!document["host"][key].is_null(), "{key}");
    }
    assert!(document["stats"]["times"]["end_us"].as_u64() > Some(0));
}

#[test]
fn an_interrupt_ends_the_machine_and_is_code_130() {
    if !kvm_or_skip("an_interrupt_ends_the_machine_and_is_code_130") {
        return;
    }
    let files = Files::new();
    let kernel = files.file(
        "kernel",
        &refault::micro::elf(
            // Prints one letter, then loops: the letter says that the machine runs.
            &[0xb0, b'x', 0xba, 0xf8, 0x03, 0, 0, 0xee, 0xeb, 0xfe],
            0x10_0000,
            0x10_0000,
        ),
    );
    let mut child = command(&["run", "--kernel", text(&kernel)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut letter = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut letter).unwrap();
    // SAFETY: the child is ours and has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_program_runs_on_a_fresh_demo_disk() {
    if !kvm_or_skip("a_program_runs_on_a_fresh_demo_disk") {
        return;
    }
    let output = refault(&["run", "--timeout", "60s", "--", "cat", "/hello.txt"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Hello from a MINIX file system."), "{said}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_demo_shows_what_it_must() {
    if !kvm_or_skip("the_demo_shows_what_it_must") {
        return;
    }
    let output = refault(&["run", "--json", "-", "--timeout", "120s"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((document["schema"].as_str(), document["ok"].as_bool()), (Some("refault.demo/1"), Some(true)));
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let policy = row["policy"].as_str().unwrap();
        let got = row["got"].as_u64().unwrap();
        let repeats = row["repeats"].as_u64().unwrap();
        assert_eq!(row["bytes_right"], true, "{row}");
        assert!(row["marks"].as_u64().unwrap() >= 1, "{row}");
        match policy {
            "efault" => assert!(got < 65536 && got > 0 && repeats == 0 && row["verdict"] == "SHORT", "{row}"),
            "mark" => assert!(got == 65536 && repeats == 1 && row["verdict"] == "RETRIED", "{row}"),
            _ => assert!(got == 65536 && repeats >= 1 && row["verdict"] == "RETRIED", "{row}"),
        }
        if row["source"] == "second-stage" {
            assert!(row["reflected"].as_u64().unwrap() >= 1, "{row}");
            // Both ends of the wire agree: what the monitor reflected, the kernel met.
            assert_eq!(row["reflected"], row["soft_faults_second_stage"], "{row}");
        }
    }
    for run in document["runs"].as_array().unwrap() {
        assert_eq!(run["image"]["identical"], true, "{}", run["image"]);
    }
}

/// A guest that prints without end.
fn chattering_guest() -> Vec<u8> {
    // mov $'x', %al; mov $0x3f8, %edx; out; jmp back
    refault::micro::elf(&[0xb0, b'x', 0xba, 0xf8, 0x03, 0, 0, 0xee, 0xeb, 0xfd], 0x10_0000, 0x10_0000)
}

/// The exit code of a command that must end although nobody reads what it says.
fn code_of(mut child: std::process::Child) -> Option<i32> {
    let id = child.id();
    let (tell, ended) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let code = child.wait().unwrap().code();
        let _ = tell.send(());
        code
    });
    if ended.recv_timeout(std::time::Duration::from_secs(120)).is_err() {
        // SAFETY: the child is ours and has not been waited for.
        unsafe { libc::kill(id as i32, libc::SIGKILL) };
    }
    waiter.join().unwrap()
}

#[test]
fn a_reader_that_does_not_read_keeps_no_machine_alive() {
    if !kvm_or_skip("a_reader_that_does_not_read_keeps_no_machine_alive") {
        return;
    }
    let files = Files::new();
    let kernel = files.file("kernel", &chattering_guest());
    let mut child = command(&["run", "--kernel", text(&kernel), "--timeout", "2s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let unread = child.stdout.take();
    assert_eq!(code_of(child), Some(172));
    drop(unread);
}

#[test]
fn a_time_beyond_the_clock_is_no_limit() {
    if !kvm_or_skip("a_time_beyond_the_clock_is_no_limit") {
        return;
    }
    let files = Files::new();
    let kernel = files.file("kernel", &exit_guest(5));
    let (code, said) = failure(&["run", "--kernel", text(&kernel), "--timeout", "18446744073709551615"]);
    assert_eq!(code, 5, "{said}");
}

/// A pipe whose reader has gone.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_result_that_nobody_takes_is_code_169_and_no_panic() {
    let files = Files::new();
    let image = files.0.path().join("disk.img");
    let export = files.0.path().join("guest");
    for arguments in [
        vec!["mkfs", text(&image), "--size", "1M"],
        vec!["mkfs", text(&image), "--size", "1M", "--force", "--json", "-"],
        vec!["export", text(&export)],
        vec!["doctor"],
        vec!["doctor", "--json", "-"],
    ] {
        let output = command(&arguments).stdout(closed_pipe()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(169), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn an_error_that_nobody_reads_keeps_its_code() {
    for (arguments, code) in
        [(vec!["run", "--inject", "nonsense"], 163), (vec!["mkfs", "/nonexistent/x.img"], 168)]
    {
        let status = command(&arguments).stderr(closed_pipe()).stdout(closed_pipe()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn an_interrupted_mkfs_leaves_nothing_behind() {
    let files = Files::new();
    let image = files.0.path().join("disk.img");
    let mut child = command(&["mkfs", text(&image), "--size", "64G"]).stdout(Stdio::null()).spawn().unwrap();
    // It is at work once it holds a file of the directory open, named or not.
    let fds = format!("/proc/{}/fd", child.id());
    let inside = |fd: fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(files.0.path()));
    while !fs::read_dir(&fds).unwrap().flatten().any(inside) && child.try_wait().unwrap().is_none() {}
    // SAFETY: the child is ours and has not been waited for, or nothing is left of it but its status.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let finished = child.wait().unwrap().success();
    let left: Vec<_> = fs::read_dir(files.0.path()).unwrap().flatten().map(|f| f.file_name()).collect();
    assert_eq!(left, if finished { vec!["disk.img"] } else { vec![] });
}

#[test]
fn a_delay_by_address_needs_nothing_of_the_guest() {
    if !kvm_or_skip("a_delay_by_address_needs_nothing_of_the_guest") {
        return;
    }
    let files = Files::new();
    // It knows nothing of the doorbell but its exit: one page that it touches, and one that it never does.
    let kernel = files.file("kernel", &refault::micro::elf(&TOUCHING, 0x10_0000, 0x10_0000));
    let rule = "gpa=0x200000-0x201fff: delay=1ms";
    let output = refault(&["run", "--kernel", text(&kernel), "--inject", rule, "--json", "-"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let faults = &document["stats"]["faults"];
    let counts =
        ["armed", "trapped", "delayed", "never_touched", "reflected"].map(|key| faults[key].as_u64());
    assert_eq!(counts, [2, 1, 1, 1, 0].map(Some), "{faults}");
}

/// Adds one to a word at 0x200000 and ends with it as its status.
const TOUCHING: [u8; 20] = [
    0xff, 0x05, 0, 0, 0x20, 0, // incl 0x200000
    0xa1, 0, 0, 0x20, 0, // mov 0x200000, %eax
    0xba, 0xf4, 0, 0, 0, 0xef, 0xf4, // mov $0xf4, %edx; out; hlt
    0x90, 0x90,
];

#[test]
fn rules_of_a_file() {
    if !kvm_or_skip("rules_of_a_file") {
        return;
    }
    let files = Files::new();
    let kernel = files.file("kernel", &refault::micro::elf(&TOUCHING, 0x10_0000, 0x10_0000));
    let config = files.file(
        "good.toml",
        format!(
            "kernel = {:?}\nmem = \"16M\"\n\n[[rule]]\ngpa = \"0x200000-0x200fff\"\naction = \"delay=1ms\"\n",
            text(&kernel)
        )
        .as_bytes(),
    );
    let output = refault(&["run", "--config", text(&config), "--json", "-"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["stats"]["faults"]["delayed"], 1);
}

#[test]
fn a_disk_under_an_overlay_is_never_written() {
    if !kvm_or_skip("a_disk_under_an_overlay_is_never_written") {
        return;
    }
    let files = Files::new();
    let disk = files.demo_disk();
    let before = fs::read(&disk).unwrap();
    let overlaid = format!("{},overlay=on", text(&disk));
    let rule = "disk op=write nth=1: delay=1ms";
    let run = |disk: &str| {
        refault(&["run", "--disk", disk, "--inject", rule, "--timeout", "60s", "--", "mkdir", "/new"])
    };
    let output = run(&overlaid);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(&disk).unwrap() == before, "the image was written");
    // Without an overlay the same is written.
    assert_eq!(run(text(&disk)).status.code(), Some(0));
    assert!(fs::read(&disk).unwrap() != before);
}

#[test]
fn a_bad_configuration_is_shown_with_line_and_column() {
    let files = Files::new();
    let rule = "mem = \"16M\"\n\n[[rule]]\ngpa = \"ram\"\n";
    for (toml, place, line) in [
        (format!("{rule}evry = 3\naction = \"delay=1ms\"\n"), "line 5, column 1:", "evry = 3"),
        (format!("{rule}action = \"delay=1 ms\"\n"), "line 5, column ", "delay=1 ms"),
        ("mem = \"16M\"\nmemory = 5\n".to_owned(), "line 2, column 1:", "memory = 5"),
    ] {
        let config = files.file("bad.toml", toml.as_bytes());
        let (code, said) = failure(&["run", "--config", text(&config)]);
        assert_eq!(code, 160, "{said}");
        for word in [text(&config), place, line, "^", "expected here"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
