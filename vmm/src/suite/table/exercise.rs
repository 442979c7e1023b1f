//! The workloads of campaigns, each without faults, and some with. `sys_exercise`.

use crate::suite::Test;

/// Bit 7 of an argument: a thorough look at what is left.
const THOROUGH: u64 = 0x80;

/// Workloads in the order of their numbers: name, cases beside the one about what is left.
const WORKLOADS: [(&str, usize); 15] = [
    ("requests", 8),
    ("READ", 1),
    ("WRITE", 1),
    ("BREAD", 1),
    ("BWRITE", 1),
    ("GETDENTS", 1),
    ("RDLINK", 1),
    ("SLINK", 1),
    ("STAT", 1),
    ("fsx", 1),
    ("pipes", 1),
    ("names", 1),
    ("crowd", 1),
    ("mix", 8 + 4),
    ("touch", 1),
];

fn workload(name: String, argument: u64, cases: usize) -> Test {
    Test::new(name, &format!("sys_exercise {:#x}", argument | THOROUGH)).cases(cases + 1)
}

/// The tests.
pub fn tests() -> Vec<Test> {
    let mut tests: Vec<Test> = (0..)
        .zip(WORKLOADS)
        .map(|(number, (name, cases))| workload(format!("X0.{name}"), number, cases))
        .collect();
    tests.extend([
        workload("X0.requests.rounds".into(), 5 << 16, 8),
        workload("X0.requests.granter".into(), 2 << 16, 8)
            .rule("page=1 side=granter attempt=1: reflect")
            .faults(),
        workload("X0.requests.grantee".into(), 2 << 16, 8)
            .rule("page=0 side=grantee attempt=1: reflect")
            .faults(),
        workload("X0.fsx.faults".into(), 1 << 32 | 9, 1).rule("page=1 attempt=1: reflect").faults(),
        workload("X0.pipes.faults".into(), 2 << 32 | 2 << 8 | 10, 1)
            .rule("page=0 side=granter attempt=1: reflect")
            .faults(),
        workload("X0.names.faults".into(), 3 << 32 | 11, 1).rule("page=0: reflect").faults(),
        workload("X0.crowd.faults".into(), 4 << 32 | 3 << 8 | 12, 1)
            .rule("page=1 attempt=1: reflect")
            .faults(),
        workload("X0.crowd.small-cache".into(), 6 << 32 | 3 << 8 | 12, 1).words("cache=8"),
        workload("X0.touch.away".into(), 5 << 32 | 14, 1).monitor().faults(),
    ]);
    tests
}
