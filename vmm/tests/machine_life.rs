//! Machines as handles: they end, are ended, and live side by side.

mod common;

use std::time::Duration;

use common::{config, crashing_guest, endless_guest, exit_guest, kvm_or_skip, measuring_guest, run, runtime};
use refault::vm::{AssembleError, End, Vm};

/// Threads of this process whose name begins with `prefix`.
fn threads(prefix: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with(prefix))
        .count()
}

/// Waits until there are `vcpus` and `devices` threads. A thread names itself after it has started, and stays in the list
/// a moment after it has been joined; neither gives an event to wait for.
fn becomes(vcpus: usize, devices: usize) -> bool {
    let begin = std::time::Instant::now();
    while (threads("vcpu"), threads("devices")) != (vcpus, devices) {
        if begin.elapsed() > Duration::from_secs(30) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

#[test]
fn the_guests_status_comes_out() {
    if !kvm_or_skip("the_guests_status_comes_out") {
        return;
    }
    for status in [0, 5, 255, 0xdead_beef] {
        assert_eq!(run(config(exit_guest(status)).0).end, End::Exited(status));
    }
}

#[test]
fn an_endless_guest_is_ended() {
    if !kvm_or_skip("an_endless_guest_is_ended") {
        return;
    }
    let (mut config, _) = config(endless_guest());
    let time = Duration::from_millis(50);
    config.timeout = Some(time);
    assert_eq!(run(config).end, End::TimedOut(time));
}

#[test]
fn a_crash_is_told_from_an_end() {
    if !kvm_or_skip("a_crash_is_told_from_an_end") {
        return;
    }
    let end = run(config(crashing_guest()).0).end;
    assert!(matches!(end, End::Crashed(_)), "{end:?}");
}

#[test]
fn many_machines_live_in_one_process() {
    if !kvm_or_skip("many_machines_live_in_one_process") {
        return;
    }
    runtime().block_on(async {
        let machines: Vec<_> =
            (0..8).map(|n| tokio::spawn(Vm::start(config(exit_guest(n)).0).unwrap().run())).collect();
        for (n, machine) in (0..8).zip(machines) {
            assert_eq!(machine.await.unwrap().end, End::Exited(n));
        }
    });
}

#[test]
fn several_processors_are_made_and_stopped() {
    if !kvm_or_skip("several_processors_are_made_and_stopped") {
        return;
    }
    let (mut config, _) = config(exit_guest(3));
    config.cpus = 4;
    assert_eq!(run(config).end, End::Exited(3));
    let (mut config, _) = common::config(exit_guest(3));
    config.cpus = 0;
    assert!(matches!(Vm::start(config), Err(AssembleError::Processors(0))));
}

#[test]
fn a_dropped_handle_leaves_no_thread_behind() {
    // In a process of its own, where no other test has machines.
    if std::env::var_os("REFAULT_TEST_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_dropped_handle_leaves_no_thread_behind", "--nocapture"])
            .env("REFAULT_TEST_CHILD", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    if !kvm_or_skip("a_dropped_handle_leaves_no_thread_behind") {
        return;
    }
    for _ in 0..10 {
        let vm = Vm::start(config(endless_guest()).0).unwrap();
        assert!(becomes(1, 1));
        drop(vm);
        assert!(becomes(0, 0));
    }
    // Also when the future that runs it is dropped half way.
    runtime().block_on(async {
        let vm = Vm::start(config(endless_guest()).0).unwrap();
        let running = tokio::time::timeout(Duration::from_millis(20), vm.run()).await;
        assert!(running.is_err());
    });
    assert!(becomes(0, 0));
}

#[test]
fn a_measurement_begun_anew_ends_the_stepping_of_the_last() {
    if !kvm_or_skip("a_measurement_begun_anew_ends_the_stepping_of_the_last") {
        return;
    }
    let (config, _) = config(measuring_guest());
    let outcome = run(config);
    assert_eq!(outcome.end, End::Exited(0));
    let steps = outcome.stats.exits["debug"];
    assert!(steps < 100, "{steps} of the instructions after the second beginning were stepped");
    assert!(outcome.stats.costs.is_empty(), "nothing was measured to its end");
}
