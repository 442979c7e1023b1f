//! G1 to G10 and M1 to M12: grants and marks, without a file system. `sys_grants`, `sys_marks`.

use crate::suite::Test;

/// The modes in which marks are kept, with the part they are in a test's name.
const MARKS: [(&str, &str); 3] = [("atomic", ""), ("id", ".mark-id"), ("flag", ".mark-flag")];

/// Cases of `sys_grants`, and of a stage of `sys_marks`.
const GRANT_CASES: usize = 33;
const MARK_CASES: usize = 25;

/// The tests.
pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("G1-G10", "sys_grants").cases(GRANT_CASES),
        Test::new("G1-G10.faithful", "sys_grants").words("mode=faithful").cases(GRANT_CASES),
        Test::new("G1-G10.mark-id", "sys_grants").words("mark=id").cases(GRANT_CASES),
        Test::new("M10-M11", "sys_marks M10").cases(2).faults(),
        Test::new("M10-M11.faithful", "sys_marks M10").words("mode=faithful").cases(2).faults(),
    ];
    for (mark, suffix) in MARKS {
        let words = format!("mark={mark}");
        tests.extend([
            Test::new(format!("M1-M9.first-stage{suffix}"), "sys_marks first")
                .words(&words)
                .cases(MARK_CASES)
                .faults(),
            Test::new(format!("M1-M9.second-stage{suffix}"), "sys_marks second")
                .words(&words)
                .cases(MARK_CASES)
                .faults()
                .monitor(),
        ]);
    }
    tests.extend([
        Test::new("M1-M12.faithful", "sys_marks first").words("mode=faithful").cases(MARK_CASES).faults(),
        Test::new("M1-M12.faithful.second-stage", "sys_marks second")
            .words("mode=faithful")
            .cases(MARK_CASES)
            .faults()
            .monitor(),
    ]);
    tests
}
