//! The guest's command line: modes, devices, and the program to run.
//!
//! Space-separated words; the first `--` ends the options and begins the program and its arguments.
//! Unknown words are ignored (other monitors add their own), a known word with a bad value is an error,
//! because a mode that silently is not the one asked for would falsify a comparison.

use crate::bugs::Bug;

/// Which system this is: as the seed's system behaves, weak points included, or ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The seed's behaviour, so that each weak point can be shown: SAFEMEMSET ignores CPF_TRY, suspensions are unbounded,
    /// marks can be lost, grant tables move when they grow, page-ins go through descriptors and their locks.
    Faithful,
    /// Ours (default).
    Hardened,
}

/// When VFS repeats an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only when the file system answered EFAULT: before the cure. Shows the short read.
    Efault,
    /// When the grant carries a mark: one repeat, without CPF_TRY.
    Mark,
    /// Bounded repeats that keep CPF_TRY (default).
    Hardened,
}

/// How the kernel stores the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A plain flag.
    Flag,
    /// The grant's identifier.
    Id,
    /// Conditional on the sequence, in one atomic word.
    Atomic,
}

/// What the file system answers after a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsReply {
    /// Fails the call.
    Whole,
    /// The count so far if there is one, else the error (default).
    Partial,
    /// Pretends success.
    Swallow,
    /// Answers ERESTART, which only VFS itself may use, to every read.
    Restart,
    /// Answers EFAULT to every read, without having copied anything.
    Efault,
}

/// Whether the big kernel lock is held across the data copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyLock {
    /// Held (default).
    Held,
    /// Released.
    Dropped,
}

/// A memory-mapped virtio device announced by `virtio_mmio.device=SIZE@BASE:IRQ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMmio {
    /// Bytes of the register window.
    pub size: u64,
    /// GPA of the window.
    pub base: u64,
    /// Global system interrupt.
    pub irq: u32,
}

/// The guest's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `mode=`
    pub mode: Mode,
    /// `retry=`
    pub retry: Retry,
    /// `mark=`
    pub mark: Mark,
    /// `fs=`
    pub fs: FsReply,
    /// `copylock=`
    pub copylock: CopyLock,
    /// `try=on` (default) or `try=off`: whether VFS lends with CPF_TRY. Without it a copy that meets an absent page waits for
    /// VM: what TRY costs, and the circle that it breaks, are seen by comparing.
    pub cpf_try: bool,
    /// `measure=on`: kernel entries are announced to the monitor, which steps through them. That takes so long that servers
    /// would be taken for dead, so nobody asks for signs of life.
    pub measure: bool,
    /// `watchdog=`: milliseconds of the guest's time in which nothing at all runs, after which the kernel declares the
    /// system wedged, prints who waits for whom and ends the machine; 0 (default) for never.
    pub watchdog: u32,
    /// `seek=`: microseconds that the block driver lets go by before each transfer, during which others run; 0 (default) for none. A
    /// disk that is a file in the host's memory answers at once; what happens only while a disk works needs one that does not.
    pub seek: u32,
    /// `cache=`: most pages of files that the file system keeps; 0 (default) for as many as it likes. With few, what several
    /// processes use is thrown out and brought back all the time.
    pub cache: u32,
    /// `bug=`: the seeded bug to have, for the mutation score; only builds with bugs compiled in take one.
    pub bug: Option<Bug>,
}

/// A known word with a bad value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadOption<'a> {
    /// The whole word.
    pub word: &'a str,
    /// What it may be.
    pub expected: &'static str,
}

/// The options part of a command line: the words before the first `--`.
fn words(cmdline: &str) -> impl Iterator<Item = &str> {
    cmdline.split_ascii_whitespace().take_while(|word| *word != "--")
}

impl Options {
    /// Reads the options of `cmdline`.
    pub fn parse(cmdline: &str) -> Result<Options, BadOption<'_>> {
        let mut options = Options {
            mode: Mode::Hardened,
            retry: Retry::Hardened,
            mark: Mark::Atomic,
            fs: FsReply::Partial,
            copylock: CopyLock::Held,
            cpf_try: true,
            measure: false,
            watchdog: 0,
            seek: 0,
            cache: 0,
            bug: None,
        };
        let (mut mark, mut retry) = (None, None);
        for word in words(cmdline) {
            let Some((key, value)) = word.split_once('=') else { continue };
            match (key, value) {
                ("mode", "faithful") => options.mode = Mode::Faithful,
                ("mode", "hardened") => options.mode = Mode::Hardened,
                ("mode", _) => return Err(BadOption { word, expected: "faithful or hardened" }),
                ("retry", "efault") => retry = Some(Retry::Efault),
                ("retry", "mark") => retry = Some(Retry::Mark),
                ("retry", "hardened") => retry = Some(Retry::Hardened),
                ("retry", _) => return Err(BadOption { word, expected: "efault, mark or hardened" }),
                ("mark", "flag") => mark = Some(Mark::Flag),
                ("mark", "id") => mark = Some(Mark::Id),
                ("mark", "atomic") => mark = Some(Mark::Atomic),
                ("mark", _) => return Err(BadOption { word, expected: "flag, id or atomic" }),
                ("fs", "whole") => options.fs = FsReply::Whole,
                ("fs", "partial") => options.fs = FsReply::Partial,
                ("fs", "swallow") => options.fs = FsReply::Swallow,
                ("fs", "restart") => options.fs = FsReply::Restart,
                ("fs", "efault") => options.fs = FsReply::Efault,
                ("fs", _) => {
                    return Err(BadOption { word, expected: "whole, partial, swallow, restart or efault" });
                }
                ("copylock", "held") => options.copylock = CopyLock::Held,
                ("copylock", "dropped") => options.copylock = CopyLock::Dropped,
                ("copylock", _) => return Err(BadOption { word, expected: "held or dropped" }),
                ("try", "on") => options.cpf_try = true,
                ("try", "off") => options.cpf_try = false,
                ("try", _) => return Err(BadOption { word, expected: "on or off" }),
                ("measure", "on") => options.measure = true,
                ("watchdog", value) => {
                    let expected = "milliseconds, 0 to 3600000";
                    let parsed = value.parse().ok().filter(|time| *time <= WATCHDOG_MAX);
                    options.watchdog = parsed.ok_or(BadOption { word, expected })?;
                }
                ("seek", value) => {
                    let expected = "microseconds, 0 to 1000000";
                    let parsed = value.parse().ok().filter(|time| *time <= SEEK_MAX);
                    options.seek = parsed.ok_or(BadOption { word, expected })?;
                }
                ("cache", value) => {
                    let expected = "pages, 0 to 65536";
                    let parsed = value.parse().ok().filter(|pages| *pages <= CACHE_MAX);
                    options.cache = parsed.ok_or(BadOption { word, expected })?;
                }
                ("bug", name) => {
                    options.bug = Some(Bug::named(name).ok_or(BadOption { word, expected: BUGS })?)
                }
                _ => {}
            }
        }
        // The seed's system goes with the seed's policy, and its policy with its mark, unless others are asked for.
        options.retry = retry.unwrap_or(match options.mode {
            Mode::Faithful => Retry::Mark,
            Mode::Hardened => Retry::Hardened,
        });
        let natural = if options.retry == Retry::Hardened { Mark::Atomic } else { Mark::Id };
        options.mark = mark.unwrap_or(natural);
        Ok(options)
    }
}

/// Longest watchdog time, in milliseconds.
const WATCHDOG_MAX: u32 = 3_600_000;
/// Longest time of a seek, in microseconds.
const SEEK_MAX: u32 = 1_000_000;
/// Most pages of a cache: 256 MiB of files.
const CACHE_MAX: u32 = 65_536;
/// What `bug=` may be.
const BUGS: &str = "the name of a seeded bug that is compiled in";

/// A number as the Linux kernel's command line writes it: decimal or 0x, with an optional K, M or G.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 20),
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok()?,
        None => digits.parse().ok()?,
    };
    value.checked_mul(1 << shift)
}

/// What a device's word begins with. QEMU puts these at the very end, behind the program's arguments.
const DEVICE_KEY: &str = "virtio_mmio.device=";

/// The `index`-th virtio-mmio device on the command line, wherever it stands.
pub fn virtio_mmio(cmdline: &str, index: usize) -> Option<VirtioMmio> {
    let value =
        cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix(DEVICE_KEY)).nth(index)?;
    let (size, place) = value.split_once('@')?;
    let mut parts = place.split(':');
    let base = number(parts.next()?)?;
    let irq = u32::try_from(number(parts.next()?)?).ok()?;
    Some(VirtioMmio { size: number(size)?, base, irq })
}

/// Address of the doorbell, if one is announced.
pub fn doorbell(cmdline: &str) -> Option<u64> {
    let value =
        words(cmdline).find_map(|word| word.strip_prefix(crate::doorbell::CMDLINE_KEY)?.strip_prefix('='))?;
    let (size, base) = value.split_once('@')?;
    (number(size)? >= crate::doorbell::SIZE).then_some(())?;
    number(base)
}

/// The program and its arguments: the words behind the first `--`, devices aside.
pub fn program(cmdline: &str) -> impl Iterator<Item = &str> {
    let behind = cmdline.split_ascii_whitespace().skip_while(|word| *word != "--").skip(1);
    behind.filter(|word| !word.starts_with(DEVICE_KEY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_defaults() {
        let options = Options::parse("console=ttyS0 retry=mark fs=whole -- retry=bad").unwrap();
        assert_eq!((options.retry, options.mark, options.fs), (Retry::Mark, Mark::Id, FsReply::Whole));
        assert_eq!(Options::parse("").unwrap().mark, Mark::Atomic);
        assert_eq!(Options::parse("retry=efault mark=flag").unwrap().mark, Mark::Flag);
        assert_eq!(Options::parse("fs=half").unwrap_err().word, "fs=half");
        let faithful = Options::parse("mode=faithful watchdog=2000").unwrap();
        assert_eq!((faithful.retry, faithful.mark, faithful.watchdog), (Retry::Mark, Mark::Id, 2000));
        assert_eq!(Options::parse("mode=faithful retry=hardened").unwrap().retry, Retry::Hardened);
        assert!(faithful.cpf_try && !Options::parse("try=off").unwrap().cpf_try);
        assert!(Options::parse("measure=on").unwrap().measure && !faithful.measure);
        assert_eq!(Options::parse("try=maybe").unwrap_err().expected, "on or off");
        assert_eq!(Options::parse("watchdog=soon").unwrap_err().word, "watchdog=soon");
        assert_eq!(Options::parse("seek=1000").unwrap().seek, 1000);
        assert_eq!(Options::parse("seek=1000001").unwrap_err().word, "seek=1000001");
        assert_eq!((Options::parse("cache=16").unwrap().cache, faithful.cache), (16, 0));
        assert_eq!(Options::parse("cache=all").unwrap_err().expected, "pages, 0 to 65536");
    }

    #[test]
    fn devices() {
        let line = "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=512@0xfeb00e00:12:1 refault.doorbell=4K@0xd0100000 -- x";
        assert_eq!(virtio_mmio(line, 0), Some(VirtioMmio { size: 4096, base: 0xd000_0000, irq: 5 }));
        assert_eq!(virtio_mmio(line, 1), Some(VirtioMmio { size: 512, base: 0xfeb0_0e00, irq: 12 }));
        assert_eq!(virtio_mmio(line, 2), None);
        assert_eq!(doorbell(line), Some(0xd010_0000));
        assert_eq!(doorbell("a -- refault.doorbell=4K@1"), None);
    }

    #[test]
    fn program_words() {
        let mut words = program("a=b -- cat /hello.txt -- x");
        assert_eq!(words.next(), Some("cat"));
        assert_eq!(words.next(), Some("/hello.txt"));
        assert_eq!(words.next(), Some("--"));
        assert_eq!(program("a=b").next(), None);
    }

    #[test]
    fn devices_behind_the_program() {
        let line = "-- ls / virtio_mmio.device=512@0xfeb00e00:12";
        assert_eq!(program(line).last(), Some("/"));
        assert_eq!(virtio_mmio(line, 0).map(|device| device.irq), Some(12));
    }
}
