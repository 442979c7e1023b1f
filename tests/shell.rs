//! The shell, typed at: through a pipe, and on a terminal as a user has it.

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::Suite;
use common::command::{REFAULT, Said, run};

/// How long something may take to appear: far beyond any machine's slowness.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let mut suite = Suite::new("shell");
    suite.kvm("lines_from_a_pipe_are_run", lines_from_a_pipe_are_run);
    suite.kvm("the_end_of_the_input_ends_the_shell", the_end_of_the_input_ends_the_shell);
    suite.kvm("pipelines_carry_every_byte", pipelines_carry_every_byte);
    suite.kvm("redirections_and_conditions", redirections_and_conditions);
    suite.kvm("files_are_moved_linked_and_removed", files_are_moved_linked_and_removed);
    suite.kvm("the_system_can_be_looked_at", the_system_can_be_looked_at);
    suite.kvm("a_terminal_edits_lines_and_interrupts", a_terminal_edits_lines_and_interrupts);
    suite.kvm("the_quit_key_ends_the_machine_and_restores_the_terminal", quit_key);
    suite.run()
}

/// Runs the shell on a fresh disk and types `text`.
fn shell(text: &str) -> Said {
    let mut command = Command::new(REFAULT);
    command.args(["run", "-i"]);
    run(command, text.as_bytes())
}

/// Whether a program's line was shown. Something typed, or a prompt, may stand before it, wherever the shell was when it came; so
/// what is typed must be written otherwise (`go'ne'`).
fn has_line(said: &Said, line: &str) -> bool {
    said.out.lines().any(|shown| shown.ends_with(line))
}

/// The sums that were shown, with the bytes they are of.
fn sums(said: &Said) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for line in said.out.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let sum = pair[0].get(pair[0].len().saturating_sub(16)..).unwrap_or_default();
            if sum.len() == 16 && sum.chars().all(|c| c.is_ascii_hexdigit()) && pair[1].parse::<u64>().is_ok()
            {
                found.push((sum, pair[1]));
            }
        }
    }
    found
}

fn lines_from_a_pipe_are_run() {
    let said = shell("echo 'one  two' \"st=$?\" three\\ four\nfalse || echo fai'led'\nexit 7\n");
    assert_eq!(said.code, Some(7), "{}", said.all());
    assert!(has_line(&said, "one  two st=0 three four"), "{}", said.out);
    assert!(has_line(&said, "failed"), "{}", said.out);
}

fn the_end_of_the_input_ends_the_shell() {
    // The second time behind a line that is not ended.
    for text in ["echo a'b'\n", "echo a'b'"] {
        let said = shell(text);
        assert_eq!(said.code, Some(0), "{text:?}: {}", said.all());
        assert!(has_line(&said, "ab"), "{text:?}: {}", said.out);
    }
}

fn pipelines_carry_every_byte() {
    let said = shell("cat /a.bin | cat | cat > /copy\nsum /a.bin /copy\ncat /a.bin | cat | sum\nexit\n");
    let sums = sums(&said);
    assert_eq!(sums.len(), 3, "{}", said.out);
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    assert_ne!(sums[0].1, "0");
}

fn redirections_and_conditions() {
    let said = shell(
        "echo fi'rst' > /f && echo sec'ond' >> /f\ncat < /f\nls /nothing 2> /e || cat /e\nls /nothing > /g 2>&1\nsum < /e\nsum < /g\nnope; stat'us'\n",
    );
    for line in
        ["first", "second", "ls: /nothing: no such file or directory (ENOENT)", "sh: nope: not found", "127"]
    {
        assert!(has_line(&said, line), "{line}: {}", said.all());
    }
    let sums = sums(&said);
    assert_eq!(sums.len(), 2, "{}", said.out);
    assert_eq!(sums[0], sums[1]);
    assert_ne!(sums[0].1, "0");
}

fn files_are_moved_linked_and_removed() {
    let said = shell(
        "mkdir /new && cp /hello.txt /new && mv /new/hello.txt /new/h && ln /new/h /new/i && ln -s i /new/j\n\
         cat /new/j\nrm /new/h; cat /new/i; rm /new/i /new/j; rmdir /new && echo go'ne'\nls /new\ntouch /t; ls '/'t\nsync && echo sync'ed'\n",
    );
    let hello = said.out.lines().filter(|line| line.ends_with("Hello from a MINIX file system.")).count();
    assert_eq!(hello, 2, "{}", said.out);
    for line in ["gone", "ls: /new: no such file or directory (ENOENT)", "/t", "synced"] {
        assert!(has_line(&said, line), "{line}: {}", said.out);
    }
}

fn the_system_can_be_looked_at() {
    let said = shell("ps\nfaults\ngrants\nkill 1; kill -0 0 && echo the're'\nkill 99\n");
    for part in
        [" pm ", " mfs ", " ps ", " marks_set", " grants\n", "not permitted (EPERM)", "99: no such process"]
    {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    assert!(has_line(&said, "there"), "{}", said.out);
}

/// A terminal with the command on the other side.
struct Terminal {
    master: File,
    /// The command's side, kept open to look at its settings.
    slave: OwnedFd,
    shown: Receiver<Vec<u8>>,
    /// Shown and not yet expected.
    left: String,
    child: Child,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Terminal {
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: two places for descriptors; the other arguments may be null.
        let made = unsafe {
            libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
        };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: openpty has just made them, and nobody else has them.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut command = Command::new(REFAULT);
        command.args(arguments).env_remove("REFAULT_LOG");
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap());
        command.stderr(slave.try_clone().unwrap());
        // SAFETY: both calls may be made between fork and exec. The terminal becomes the command's own, so that its keys are.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let (tell, shown) = channel();
        let mut from = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if tell.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { master, slave, shown, left: String::new(), child }
    }

    /// Waits until `text` is shown; answers what came before it.
    fn expect(&mut self, text: &str) -> String {
        loop {
            if let Some((before, after)) = self.left.split_once(text) {
                let before = before.to_owned();
                self.left = after.to_owned();
                return before;
            }
            match self.shown.recv_timeout(LIMIT) {
                Ok(bytes) => self.left.push_str(&String::from_utf8_lossy(&bytes)),
                Err(why) => panic!("{text:?} was not shown ({why}), but: {:?}", self.left),
            }
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether the terminal gives whole lines and echoes, as it does before and after the command.
    fn is_cooked(&self) -> bool {
        // SAFETY: a structure of integers; the descriptor is open and the structure may be written.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.slave.as_raw_fd(), &mut settings), 0);
            settings
        };
        settings.c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }

    fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After a failed expectation the command still runs; after a good end there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_terminal_edits_lines_and_interrupts() {
    let mut terminal = Terminal::start(&["run", "-it"]);
    terminal.expect("$ ");
    assert!(!terminal.is_cooked());
    // Delete takes a character back, Ctrl-W a word.
    terminal.type_in("echo helo\x7flo wx\x17world\r");
    terminal.expect("\nhello world\r\n$ ");
    // A program reads a line at a time and is ended by Ctrl-C; the line under way is lost.
    terminal.type_in("cat\r");
    terminal.expect("cat\r\n");
    terminal.type_in("abc\r");
    terminal.expect("abc\r\nabc\r\n");
    terminal.type_in("lost\x03");
    terminal.expect("^C\r\n$ ");
    terminal.type_in("status\r");
    terminal.expect("\n130\r\n$ ");
    // Every part of a pipeline is ended, and the shell is not.
    terminal.type_in("cat | cat | cat\r");
    terminal.expect("\r\n");
    terminal.type_in("through\r");
    terminal.expect("through\r\nthrough\r\n");
    terminal.type_in("\x03");
    terminal.expect("^C\r\n$ ");
    terminal.type_in("echo rubbish\x03");
    terminal.expect("^C\r\n$ ");
    // Ctrl-D ends a program's input.
    terminal.type_in("cat > /typed\r");
    terminal.expect("\r\n");
    terminal.type_in("kept\r\x04");
    terminal.expect("kept\r\n$ ");
    terminal.type_in("cat /typed\r");
    terminal.expect("\nkept\r\n$ ");
    // A background job does not read what is typed for the shell.
    terminal.type_in("cat &\r");
    terminal.expect("$ ");
    terminal.type_in("wait; exit 9\r");
    assert_eq!(terminal.code(), Some(9));
    assert!(terminal.is_cooked());
}

fn quit_key() {
    let mut terminal = Terminal::start(&["run", "-it"]);
    terminal.expect("$ ");
    terminal.type_in("cat\r");
    terminal.expect("cat\r\n");
    terminal.type_in("\x1c");
    assert_eq!(terminal.code(), Some(130));
    assert!(terminal.is_cooked());
}
