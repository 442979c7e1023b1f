//! Every page of the guest's memory is away while its disk transfers into it: the monitor's own accesses never trap, each request is
//! answered exactly once, and the guest, which finds each page a moment later than it expected, computes the same.

mod common;

use std::sync::Arc;

use common::{kvm_or_skip, runtime};
use refault::guest_image;
use refault::inject::parse_rule;
use refault::snapshot::{Ran, Run, Session};
use refault::suite::{DiskKind, disk};
use refault::vm::config::Disk;
use refault::vm::{Config, End};

const RAM: u64 = 32 << 20;

/// Workload 9: reads, writes and mappings of a file against a model in memory, 60 operations, seed 5.
const FSX: u64 = 9 | 60 << 16 | 5 << 32;

async fn run(session: &mut Session, rules: &[&str]) -> Ran {
    let rules = rules.iter().map(|rule| parse_rule(rule).unwrap()).collect();
    let ran = session.run(Run { rules, argument: FSX, ..Run::default() }).await.unwrap();
    assert_eq!(ran.end, End::Exited(0), "{} {:?}", ran.console, ran.reports);
    assert!(ran.unfinished.is_empty(), "{:?}", ran.unfinished);
    ran
}

#[test]
fn a_disk_transfers_into_pages_that_are_away() {
    if !kvm_or_skip("a_disk_transfers_into_pages_that_are_away") {
        return;
    }
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        std::fs::write(&path, disk::image(DiskKind::Standard).unwrap()).unwrap();
        let config = Config {
            image: Some(Arc::from(guest_image::BOOT_IMAGE)),
            program: vec!["sys_exercise".into()],
            disks: vec![Disk::new(path)],
            memory: RAM,
            ..Config::new(guest_image::KERNEL)
        };
        let mut session = Session::boot(config).await.unwrap();
        let clean = run(&mut session, &[]).await;
        assert_eq!(clean.counters.armed, 0);
        let away = run(&mut session, &["gpa=ram: delay=0s"]).await;
        let counters = away.counters;
        assert!(counters.conserved(), "{counters:?}");
        // All but the kernel's image, tables, rings and what is registered.
        assert!(counters.armed > RAM / 4096 * 9 / 10, "{counters:?}");
        assert!(counters.delayed > 100 && counters.reflected == 0, "{counters:?}");
        assert_eq!(away.disks[0].image(), clean.disks[0].image());
    });
}
