//! What files are like, and what failed writes leave; the disk is compared afterwards. `sys_files`.

use crate::suite::Test;

/// The tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("files.data", "sys_files data").cases(7),
        Test::new("files.names", "sys_files names").cases(6),
        Test::new("files.sizes", "sys_files sizes").cases(15).faults(),
        Test::new("files.sizes.whole", "sys_files sizes").cases(15).words("fs=whole").faults(),
        Test::new("files.two-file-systems", "sys_files mnt").second_disk(),
    ]
}
