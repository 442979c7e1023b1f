//! D1 to D12 and H1 to H10: the seed's system wedges, this one does not. `sys_hazard`.

use crate::suite::Test;

/// What the seed's system is given: time enough to be sure that nothing goes on.
const FAITHFUL: &str = "mode=faithful watchdog=1500";

/// The same where two have to be at work at once: each runs while the other's disk takes its time.
const TAKING_TURNS: &str = "mode=faithful watchdog=1500 seek=1000";

/// A scenario: its names, edges of the graph in which the seed's system ends, and its circle. In D7 nobody waits in a circle as far as
/// the kernel can tell: VM works for PM, and is asked by VFS for the process whose strings PM copies.
const SCENARIOS: [(&str, &str, &[&str], &str); 11] = [
    ("D2-H2", "H2", &["free worker", "vm -> vfs (page-in", "HANDLEMEM", "(file lock"], "vfs -> vm"),
    (
        "D3-H3",
        "H3",
        &["mfs -> vm (copy suspended", "vm -> vfs (page-in", "vfs -> mfs (READ"],
        "vfs -> mfs -> vm",
    ),
    ("D4-H4", "H4", &["open-file lock", "vm -> vfs (page-in", "vfs -> vm (HANDLEMEM"], "vfs -> vm"),
    ("D5-H5", "H5", &["(file lock", "vm -> vfs (page-in", "vfs -> vm (HANDLEMEM"], "vfs -> vm"),
    ("D5-H5.two", "H5.two", &["(file lock", "vm -> vfs (page-in", "vfs -> vm (HANDLEMEM"], "vm -> vfs"),
    ("D6-H6", "H6", &["lock of all disks", "vm -> vfs (page-in", "vfs -> vm (HANDLEMEM"], "vfs -> vm"),
    ("D7-H7", "H7", &["process lock of vm", "vm -> vfs (page-in", "vfs -> vm (HANDLEMEM, for pm"], ""),
    ("D8-H8", "H8", &["pm -> vm (copy suspended", "vfs -> pm", "vm -> vfs (page-in"], "pm -> vm -> vfs"),
    (
        "D9-H9",
        "H9",
        &["blk -> vm (copy suspended", "mfs -> blk", "vfs -> mfs (PEEK"],
        "blk -> vm -> vfs -> mfs",
    ),
    ("H10", "H10", &["sys_hazard -> vm (page fault", "one request at a time", "open-file lock"], "vfs -> vm"),
    ("D10", "D10", &["open-file lock", "one request at a time", "vm -> vfs (page-in"], "vfs -> vm"),
];

/// The tests.
pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("D1", "sys_hazard D1").faults(),
        Test::new("D1.try-off", "sys_hazard D1").words("try=off watchdog=1500").wedged(
            &["mfs -> vm (copy suspended", "vm -> vfs (page-in", "vfs -> mfs (READ"],
            "vfs -> mfs -> vm",
        ),
        Test::new("D1.faithful", "sys_hazard D1").words("mode=faithful").faults(),
        Test::new("H1", "sys_hazard H1").faults().monitor(),
        Test::new("H1.faithful", "sys_hazard H1")
            .words(FAITHFUL)
            .monitor()
            .wedged(&["mfs -> vm (copy suspended"], ""),
        Test::new("D11", "sys_hazard D11").cases(2).faults(),
        Test::new("D11.faithful", "sys_hazard D11").cases(2).words("mode=faithful").faults(),
        Test::new("D11.two-file-systems", "sys_hazard D11.mnt").cases(6).second_disk().faults(),
        Test::new("D12", "sys_hazard D12").cases(4).faults(),
        Test::new("read-same-file", "sys_hazard read-same-file").faults(),
        Test::new("read-same-file.faithful", "sys_hazard read-same-file").words("mode=faithful").faults(),
        Test::new("same-page", "sys_hazard same-page").faults(),
    ];
    for (name, scenario, edges, circle) in SCENARIOS {
        let program = format!("sys_hazard {scenario}");
        tests.push(Test::new(name, &program).faults());
        let words = if matches!(scenario, "H2" | "H5.two" | "D10") { TAKING_TURNS } else { FAITHFUL };
        tests.push(Test::new(format!("{name}.faithful"), &program).words(words).wedged(edges, circle));
    }
    tests
}
