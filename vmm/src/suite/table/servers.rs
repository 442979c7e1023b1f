//! Servers that die or hang while programs use them, and the shell's way of running programs.

use crate::suite::{Expect, Test};

/// These tests.
pub fn tests() -> Vec<Test> {
    vec![
        Test::new("servers.restart", "sys_restart")
            .prints("rs: blk restarted")
            .prints("rs: mfs restarted")
            .prints("does not answer")
            .limit(240),
        Test::new("shell.pipeline", "sh")
            .typed("cat /a.bin | cat | cat > /copy && sum /a.bin /copy\ncat /hello.txt | cat | cat\nexit 4\n")
            .prints("Hello from a MINIX file system.")
            .expect(Expect::Status(4)),
        Test::new("shell.not-found", "sh")
            .typed("nothing\nexit\n")
            .prints("sh: nothing: not found")
            .expect(Expect::Status(127)),
    ]
}
