//! The console's output on its way out: times of first lines, and a place to keep it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Output kept of one machine; what comes after is dropped, and marked as dropped.
const CAPTURE_LIMIT: usize = 4 << 20;

/// What stands at the end of output of which not everything was kept; a line for the judge of guest tests, too.
pub const CUT_OFF: &str = "\n@cut-off the rest of the console was not kept\n";

/// When the console said something for the first time.
#[derive(Debug)]
pub struct ConsoleTimes {
    started: Instant,
    program_running: AtomicBool,
    /// Nanoseconds, 0 for not yet.
    first_line: AtomicU64,
    first_program_line: AtomicU64,
}

impl ConsoleTimes {
    /// Times counted from `started`.
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            program_running: AtomicBool::new(false),
            first_line: AtomicU64::new(0),
            first_program_line: AtomicU64::new(0),
        }
    }

    /// The guest says that its first program starts.
    pub fn program_starts(&self) {
        self.program_running.store(true, Relaxed);
    }

    /// When the first line was complete.
    pub fn first_line(&self) -> Option<Duration> {
        read(&self.first_line)
    }

    /// When the first line was complete after the program had started.
    pub fn first_program_line(&self) -> Option<Duration> {
        read(&self.first_program_line)
    }

    fn line(&self) {
        self.note(&self.first_line);
        if self.program_running.load(Relaxed) {
            self.note(&self.first_program_line);
        }
    }

    fn note(&self, slot: &AtomicU64) {
        if slot.load(Relaxed) == 0 {
            let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
            // The first one wins; the console has one writer at a time anyway.
            let _ = slot.compare_exchange(0, now, Relaxed, Relaxed);
        }
    }
}

fn read(slot: &AtomicU64) -> Option<Duration> {
    Some(slot.load(Relaxed)).filter(|&nanos| nanos != 0).map(Duration::from_nanos)
}

/// A writer that passes everything on and notes the times.
pub struct TimedOutput {
    inner: Box<dyn Write + Send>,
    times: Arc<ConsoleTimes>,
}

impl TimedOutput {
    /// Passes on to `inner`.
    pub fn new(inner: Box<dyn Write + Send>, times: Arc<ConsoleTimes>) -> Self {
        Self { inner, times }
    }
}

impl Write for TimedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        if bytes.get(..written).is_some_and(|b| b.contains(&b'\n')) {
            self.times.line();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Keeps a machine's output in memory.
#[derive(Debug, Clone, Default)]
pub struct Capture(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    cut_off: bool,
}

impl Capture {
    /// What has been printed so far, as text.
    pub fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept.bytes).into_owned();
        if kept.cut_off { text + CUT_OFF } else { text }
    }

    /// Forgets what has been printed.
    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = CAPTURE_LIMIT.saturating_sub(kept.bytes.len());
        kept.bytes.extend(bytes.iter().take(room));
        kept.cut_off |= bytes.len() > room;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_timed_once_and_the_programs_apart() {
        let times = Arc::new(ConsoleTimes::new(Instant::now()));
        let kept = Capture::default();
        let mut out = TimedOutput::new(Box::new(kept.clone()), times.clone());
        out.write_all(b"boot").unwrap();
        assert_eq!(times.first_line(), None);
        out.write_all(b"ing\n").unwrap();
        let first = times.first_line();
        assert!(first.is_some() && times.first_program_line().is_none());
        times.program_starts();
        out.write_all(b"hello\nworld\n").unwrap();
        assert_eq!(times.first_line(), first);
        assert!(times.first_program_line() >= first);
        assert_eq!(kept.text(), "booting\nhello\nworld\n");
    }

    #[test]
    fn what_is_not_kept_leaves_a_mark() {
        let mut kept = Capture::default();
        kept.write_all(&vec![b'x'; CAPTURE_LIMIT]).unwrap();
        assert_eq!(kept.text().len(), CAPTURE_LIMIT);
        for _ in 0..3 {
            kept.write_all(b"more").unwrap();
            let text = kept.text();
            assert!(text.len() == CAPTURE_LIMIT + CUT_OFF.len() && text.ends_with(CUT_OFF));
        }
    }
}
