//! Pages of each class, and what becomes of a touch of one, with the real guest (`docs/fault-abi.md`, section 9).

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{kvm_or_skip, runtime};
use refault::guest_image;
use refault::inject::parse_rule;
use refault::snapshot::{Ran, Run, Session};
use refault::suite::{DiskKind, disk};
use refault::vm::config::Disk;
use refault::vm::{Config, End};

async fn session() -> Session {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    std::fs::write(&path, disk::image(DiskKind::Standard).unwrap()).unwrap();
    let config = Config {
        image: Some(Arc::from(guest_image::BOOT_IMAGE)),
        program: vec!["sys_exercise".into()],
        disks: vec![Disk::new(path)],
        memory: 32 << 20,
        ..Config::new(guest_image::KERNEL)
    };
    Session::boot(config).await.unwrap()
}

#[test]
fn explore() {
    if !kvm_or_skip("explore") {
        return;
    }
    runtime().block_on(async {
        let mut session = session().await;
        for class in ["granttables", "messages", "virtqueues", "pagetables", "descriptors", "kernel"] {
            for action in ["reflect", "reflect*3", "delay=100us", "poison"] {
                let rules = vec![parse_rule(&format!("gpa=ram class={class}: {action}")).unwrap()];
                let timeout = Some(Duration::from_secs(10));
                let ran = session.run(Run { rules, timeout, ..Run::default() }).await;
                match ran {
                    Ok(Ran { end, counters, console, guest_before, guest_after, .. }) => {
                        let delta = |at: usize| guest_after.get(at).copied().unwrap_or(0).wrapping_sub(guest_before.get(at).copied().unwrap_or(0));
                        eprintln!("{class} {action}: {end:?} armed {} trapped {} never {} reflected {}+{} resolved {}+{} delayed {}+{} poisoned {}+{} back {} refused {} | user {} kernel {} p {} {} {}",
                            counters.armed, counters.trapped, counters.never_touched, counters.reflected, counters.reflected_again,
                            counters.resolved, counters.resolved_again, counters.delayed, counters.delayed_again, counters.poisoned, counters.poisoned_again, counters.asked_back, counters.memory_refused,
                            delta(16), delta(17), delta(24), delta(25), delta(26));
                        if end != End::Exited(0) { eprintln!("{}", console.lines().rev().take(6).collect::<Vec<_>>().join("\n")); }
                    }
                    Err(why) => eprintln!("{class} {action}: session: {why}"),
                }
            }
        }
    });
}
