//! A test's machine in another monitor: QEMU's own emulation of a microvm, without KVM and without a doorbell.
//!
//! The same kernel and boot image as everywhere. What needs the monitor (pages taken away at the second stage, rules)
//! cannot be run there and is left out by name.
//!
//! The one thing to hold in mind: QEMU is a child process. It dies with the future that waits for it, whatever ends that.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::Test;
use super::console;
use super::judge::{Ended, Played};
use crate::guest_image;
use refault_abi::doorbell::WEDGED_STATUS;

/// Bytes of a console that are kept.
const CONSOLE_LIMIT: u64 = 4 << 20;
/// What the console shows when it waits for somebody to type.
const PROMPT: &[u8] = b"$ ";
/// Emulation is slower than a machine of one's own, and shares the processors with its like.
const PATIENCE: u32 = 3;
/// RAM in megabytes: microvm's firmware-less boot wants some room of its own.
const MEMORY: &str = "128";

/// The guest as files, for QEMU to load.
pub struct Emulator {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Emulator {
    /// Writes kernel and boot image beside each other.
    ///
    /// # Errors
    /// They cannot be written, or `program` cannot be run.
    pub fn new(program: &Path) -> io::Result<Self> {
        let tried = std::process::Command::new(program).arg("--version").stdin(Stdio::null()).output();
        let unusable = |why: &dyn std::fmt::Display| {
            io::Error::other(format!("{} cannot be used as an emulator: {why}", program.display()))
        };
        match tried {
            Err(why) => return Err(unusable(&why)),
            Ok(said) if !said.status.success() => return Err(unusable(&"it does not know --version")),
            Ok(_) => {}
        }
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("kernel.elf"), guest_image::KERNEL)?;
        std::fs::write(directory.path().join("boot.cpio"), guest_image::BOOT_IMAGE)?;
        Ok(Self { program: program.into(), directory })
    }

    /// Why `test` cannot be run here.
    pub fn lacks(test: &Test) -> Option<String> {
        test.needs_monitor.then(|| "needs a monitor that takes pages away".into())
    }

    fn command(&self, test: &Test, disks: &[PathBuf], words: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args([
                "-M",
                "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=on",
                "-accel",
                "tcg",
                "-cpu",
                "max",
            ])
            .args(["-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"])
            .args(["-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(["-global", "virtio-mmio.force-legacy=false"]);
        for (index, path) in disks.iter().enumerate() {
            let path = path.display().to_string().replace(',', ",,");
            command
                .arg("-drive")
                .arg(format!("id=d{index},file={path},format=raw,if=none,cache=unsafe"))
                .arg("-device")
                .arg(format!("virtio-blk-device,drive=d{index}"));
        }
        command
            .arg("-kernel")
            .arg(self.directory.path().join("kernel.elf"))
            .arg("-initrd")
            .arg(self.directory.path().join("boot.cpio"))
            .arg("-append")
            .arg(format!("{} {words} -- {}", test.words, test.program.join(" ")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs `test` with these disks. `words` are added to those of the test.
    pub async fn play(&self, test: &Test, disks: &[PathBuf], words: &str) -> Played {
        let limit = Duration::from_secs(u64::from(test.limit.saturating_mul(PATIENCE)));
        let mut kept = Vec::new();
        let done = tokio::time::timeout(limit, self.run(test, disks, words, &mut kept)).await;
        let console = String::from_utf8_lossy(&kept).into_owned();
        let ended = match done {
            Err(_) => {
                Ended::TimedOut(format!("the guest had not ended after {} s in emulation", limit.as_secs()))
            }
            Ok(Err(why)) => Ended::Failed(format!("{} cannot be run: {why}", self.program.display())),
            Ok(Ok((code, said))) => ended(code, &said, &console),
        };
        Played { ended, console, graph: Vec::new(), monitor: None }
    }

    async fn run(
        &self,
        test: &Test,
        disks: &[PathBuf],
        words: &str,
        kept: &mut Vec<u8>,
    ) -> io::Result<(Option<i32>, String)> {
        let mut child = self.command(test, disks, words).spawn()?;
        // Kept open to the end: the serial line must not see its end before the machine does.
        let mut to = child.stdin.take();
        let mut typed = Some(test.typed.as_bytes()).filter(|text| !text.is_empty());
        let errors = child.stderr.take();
        let said = tokio::spawn(async move {
            let mut text = Vec::new();
            if let Some(errors) = errors {
                let _ = errors.take(CONSOLE_LIMIT).read_to_end(&mut text).await;
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut from = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.take(CONSOLE_LIMIT);
        while from.read_buf(kept).await? != 0 {
            // This serial line forgets what came before its driver set it up, as a real one does.
            let prompted = typed.is_some() && kept.windows(PROMPT.len()).any(|text| text == PROMPT);
            if let (Some(to), Some(text)) = (to.as_mut(), typed.take_if(|_| prompted)) {
                to.write_all(text).await?;
                to.flush().await?;
            }
        }
        let status = child.wait().await?;
        drop(to);
        Ok((status.code(), said.await.unwrap_or_default()))
    }
}

/// What QEMU's exit code says: isa-debug-exit ends it with twice the status and one.
fn ended(code: Option<i32>, said: &str, text: &str) -> Ended {
    let status =
        code.and_then(|code| u32::try_from(code).ok()).filter(|code| code % 2 == 1).map(|code| code / 2);
    // QEMU's own failures end it with 1 as well, but with a message.
    match status {
        Some(0) if !said.trim().is_empty() => Ended::Failed(format!("QEMU: {}", said.trim())),
        Some(WEDGED_STATUS) if console::read(text).wedged.is_some() => Ended::Wedged,
        Some(status) => Ended::Exited(status),
        None => {
            Ended::Crashed(format!("QEMU ended with {code:?}, which is no guest's status: {}", said.trim()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_come_through_the_exit_device() {
        assert_eq!(ended(Some(1), "", ""), Ended::Exited(0));
        assert_eq!(ended(Some(3), "a warning", ""), Ended::Exited(1));
        assert_eq!(ended(Some(243), "", "wedged: x\n"), Ended::Wedged);
        assert_eq!(ended(Some(243), "", ""), Ended::Exited(121));
        assert!(matches!(ended(Some(1), "qemu: no such file", ""), Ended::Failed(_)));
        assert!(matches!(ended(Some(0), "", ""), Ended::Crashed(_)));
        assert!(matches!(ended(None, "", ""), Ended::Crashed(_)));
    }
}
