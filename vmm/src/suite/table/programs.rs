//! Programs that are no tests by themselves: judged by their status and by what they print.

use crate::suite::{Expect, Test};

/// These tests.
pub fn tests() -> Vec<Test> {
    let softread = |policy: &str, text: &str| {
        Test::new(format!("softread.{policy}.first-stage"), "softread --case first-stage")
            .words(&format!("retry={policy} fs=partial"))
            .prints(text)
    };
    vec![
        softread("efault", "SHORT"),
        softread("mark", "got 65536"),
        softread("hardened", "got 65536"),
        Test::new("softread.hardened.second-stage", "softread")
            .rule("read page=1,7,last side=granter: reflect")
            .prints("got 65536"),
        // Why there is CPF_TRY at all.
        Test::new("softread.without-try.wedges", "softread --case first-stage")
            .words("mode=faithful try=off watchdog=1500")
            .wedged(&["mfs -> vm", "vm -> vfs", "vfs -> mfs"], "vfs -> mfs -> vm"),
        // Which disk is which must not depend on the monitor.
        Test::new("programs.second-disk", "cat /hello.txt /mnt/second.txt")
            .second_disk()
            .prints("Hello from a MINIX file system.")
            .prints("The second disk."),
        Test::new("programs.shell.typed", "sh")
            .typed("ls /etc\ncat /hello.txt | cat\nexit 3\n")
            .prints("motd")
            .prints("Hello from a MINIX file system.")
            .expect(Expect::Status(3)),
    ]
}
