//! Servers that die or hang while programs use them, and the shell's way of running programs.

use refault_abi::pattern;

use crate::suite::disk::PATTERN_BYTES;
use crate::suite::{Expect, Test, console};

/// These tests.
pub fn tests() -> Vec<Test> {
    let bytes: Vec<u8> =
        (0..PATTERN_BYTES).map(|offset| pattern::pattern_byte(pattern::FILE_A, offset)).collect();
    // As `sum` prints it.
    let copied = format!("{:016x} {:>10} /copy", console::fnv1a(&bytes), bytes.len());
    vec![
        Test::new("servers.restart", "sys_restart")
            .cases(6)
            .prints("rs: blk restarted")
            .prints("rs: mfs restarted")
            .prints("does not answer")
            .limit(240),
        Test::new("shell.pipeline", "sh")
            .typed("cat /a.bin | cat | cat > /copy && sum /a.bin /copy\ncat /hello.txt | cat | cat\nexit 4\n")
            .prints("Hello from a MINIX file system.")
            .prints(&copied)
            .expect(Expect::Status(4)),
        Test::new("shell.not-found", "sh")
            .typed("nothing\nexit\n")
            .prints("sh: nothing: not found")
            .expect(Expect::Status(127)),
    ]
}
