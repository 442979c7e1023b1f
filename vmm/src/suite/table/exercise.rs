//! The workloads of campaigns, each without faults, and some with. `sys_exercise`.

use crate::suite::Test;

/// Bit 7 of an argument: a thorough look at what is left.
const THOROUGH: u64 = 0x80;

/// Workloads by their numbers: name, cases beside the one about what is left.
const WORKLOADS: [(&str, usize); 9] = [
    ("requests", 8),
    ("READ", 1),
    ("WRITE", 1),
    ("BREAD", 1),
    ("BWRITE", 1),
    ("GETDENTS", 1),
    ("RDLINK", 1),
    ("SLINK", 1),
    ("STAT", 1),
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
        workload("X0.requests.for-ever".into(), 0, 8).rule("page=1 side=granter: reflect*forever").faults(),
    ]);
    tests
}
