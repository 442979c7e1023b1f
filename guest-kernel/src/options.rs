//! The few command-line words the kernel itself needs.
//!
//! The one thing to hold in mind: this runs in ring 0, which some hosts interpret at a microsecond per
//! instruction, so words are found eight bytes at a time and only those that begin like one of ours are
//! looked at. Their meaning is that of [`refault_abi::options`], against which this is tested; servers parse
//! the line with that.

use refault_abi::bugs::Bug;
use refault_abi::options::{CopyLock, Mark, Mode, Options, Retry};

/// A trap instruction, when the probe is not to choose one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// Probe.
    Probe,
    /// Do not try SYSCALL.
    Int3,
}

/// What the kernel takes from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelOptions {
    /// `mode=`
    pub mode: Mode,
    /// `watchdog=`: milliseconds without progress after which the machine ends, 0 for never.
    pub watchdog: u32,
    /// `bug=`
    pub bug: Option<Bug>,
    /// `retry=`
    pub retry: Retry,
    /// `mark=`
    pub mark: Mark,
    /// `copylock=`
    pub copylock: CopyLock,
    /// `trap=int3` keeps the kernel from using SYSCALL.
    pub trap: Trap,
    /// `measure=on`: announce every system-call trap to the monitor, which then counts instructions.
    pub measure: bool,
    /// `lapic_hz=`: frequency of the local APIC's timer, where it cannot be known otherwise.
    pub lapic_hz: Option<u64>,
    /// The doorbell's address.
    pub doorbell: Option<u64>,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Offset of the first space of `text` at or after `from`, or its length.
fn next_space(text: &[u8], mut from: usize) -> usize {
    while let Some(chunk) = text.get(from..).and_then(|rest| rest.first_chunk::<8>()) {
        let differs = u64::from_le_bytes(*chunk) ^ (ONES * b' ' as u64);
        let zero = differs.wrapping_sub(ONES) & !differs & HIGHS;
        if zero != 0 {
            return from + (zero.trailing_zeros() / 8) as usize;
        }
        from += 8;
    }
    while text.get(from).is_some_and(|byte| *byte != b' ') {
        from += 1;
    }
    from
}

impl KernelOptions {
    /// What an empty command line means.
    pub const DEFAULT: KernelOptions = KernelOptions {
        mode: Mode::Hardened,
        watchdog: 0,
        bug: None,
        retry: Retry::Hardened,
        mark: Mark::Atomic,
        copylock: CopyLock::Held,
        trap: Trap::Probe,
        measure: false,
        lapic_hz: None,
        doorbell: None,
    };

    /// Reads them. A bad value gives the offending word, because a mode that silently is not the one asked
    /// for would falsify a comparison.
    pub fn parse(line: &str) -> Result<KernelOptions, &str> {
        let mut options = KernelOptions::DEFAULT;
        let (mut mark, mut retry) = (None, None);
        let mut doorbell_seen = false;
        let mut at = 0;
        while at < line.len() {
            let end = next_space(line.as_bytes(), at);
            let word = line.get(at..end).unwrap_or_default();
            at = end + 1;
            let Some(first) = word.as_bytes().first() else { continue };
            match first {
                b'-' if word == "--" => break,
                b'r' if word.starts_with("retry=") => {
                    retry = Some(Options::parse(word).map_err(|_| word)?.retry);
                }
                // The first such word counts, as for the servers.
                b'r' if !doorbell_seen && word.starts_with("refault.doorbell=") => {
                    doorbell_seen = true;
                    options.doorbell = refault_abi::options::doorbell(word);
                }
                b'm' if word.starts_with("mode=") => {
                    options.mode = Options::parse(word).map_err(|_| word)?.mode;
                }
                b'w' if word.starts_with("watchdog=") => {
                    options.watchdog = Options::parse(word).map_err(|_| word)?.watchdog;
                }
                b'b' if word.starts_with("bug=") => {
                    options.bug = Options::parse(word).map_err(|_| word)?.bug;
                }
                b'm' if word == "measure=on" => options.measure = true,
                b'm' if word.starts_with("mark=") => {
                    mark = Some(Options::parse(word).map_err(|_| word)?.mark);
                }
                b'c' if word.starts_with("copylock=") => {
                    options.copylock = Options::parse(word).map_err(|_| word)?.copylock;
                }
                b't' if word == "trap=int3" => options.trap = Trap::Int3,
                b'l' => {
                    if let Some(value) = word.strip_prefix("lapic_hz=") {
                        options.lapic_hz =
                            Some(value.parse().ok().filter(|hz| *hz >= 1_000_000).ok_or(word)?);
                    }
                }
                _ => {}
            }
        }
        options.retry = retry.unwrap_or(match options.mode {
            Mode::Faithful => Retry::Mark,
            Mode::Hardened => Retry::Hardened,
        });
        let natural = if options.retry == Retry::Hardened { Mark::Atomic } else { Mark::Id };
        options.mark = mark.unwrap_or(natural);
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn own_words() {
        let line = "console=ttyS0 trap=int3  lapic_hz=25000000 measure=on refault.doorbell=4K@0xd0100000 copylock=dropped -- mark=bad";
        let options = KernelOptions::parse(line).unwrap();
        assert_eq!(options.trap, Trap::Int3);
        assert!(options.measure);
        assert_eq!(options.lapic_hz, Some(25_000_000));
        assert_eq!(options.doorbell, Some(0xd010_0000));
        assert_eq!(options.copylock, CopyLock::Dropped);
        assert_eq!(KernelOptions::parse("mark=wrong"), Err("mark=wrong"));
        assert_eq!(KernelOptions::parse("lapic_hz=x"), Err("lapic_hz=x"));
    }

    proptest! {
        #[test]
        fn agrees_with_the_servers_parser(words in prop::collection::vec(prop::sample::select(vec![
            "mode=faithful", "mode=hardened", "mode=", "watchdog=1500", "watchdog=x", "bug=", "bug=no-such-bug",
            "retry=efault", "retry=mark", "retry=hardened", "mark=flag", "mark=id", "mark=atomic", "mark=x",
            "copylock=dropped", "copylock=held", "", "noise", "fs=whole", "--", "refault.doorbell=4K@0x1000",
            "refault.doorbell=1@0x1000", "retry=", "a-rather-long-word-that-spans-chunks=1",
        ]), 0..12)) {
            let line = words.join(" ");
            let theirs = Options::parse(&line);
            match KernelOptions::parse(&line) {
                Ok(ours) => {
                    let theirs = theirs.expect("the kernel took a line the servers refuse");
                    prop_assert_eq!(ours.retry, theirs.retry);
                    prop_assert_eq!((ours.mode, ours.watchdog, ours.bug), (theirs.mode, theirs.watchdog, theirs.bug));
                    prop_assert_eq!(ours.mark, theirs.mark);
                    prop_assert_eq!(ours.copylock, theirs.copylock);
                    prop_assert_eq!(ours.doorbell, refault_abi::options::doorbell(&line));
                }
                Err(word) => prop_assert_eq!(word, theirs.expect_err("only the kernel refused").word),
            }
        }
    }
}
