//! Output that waits for a slow reader, but not beyond the machine's end.
//!
//! The guest's console goes to whatever standard output is, and a vCPU thread does the writing. A pipe that nobody
//! reads would keep that thread for ever, and with it everybody who waits for the machine to end: its kick is a
//! signal that is blocked outside KVM_RUN.
//!
//! The one thing to hold in mind: as long as the machine runs, nothing is lost. Only what the reader has not taken
//! when the machine is told to end is.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Says, once and for good, that a machine is ending.
#[derive(Debug, Clone)]
pub struct EndSignal(Arc<EventFd>);

impl EndSignal {
    /// Not yet.
    ///
    /// # Errors
    /// Descriptors have run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::new(EFD_NONBLOCK)?)))
    }

    /// Now.
    pub fn declare(&self) {
        // Nobody reads it, so a failure means that it has been said often enough.
        let _ = self.0.write(1);
    }
}

/// A descriptor written to with patience. See the [module documentation](self).
#[derive(Debug)]
pub struct PatientOutput {
    to: File,
    ending: EndSignal,
}

impl PatientOutput {
    /// Writes to `to` until `ending`.
    pub fn new(to: OwnedFd, ending: EndSignal) -> Self {
        Self { to: File::from(to), ending }
    }

    /// Waits until the descriptor takes bytes, or fails; an error if the machine ends before.
    fn wait(&self) -> io::Result<()> {
        let watch = |fd: &dyn AsRawFd, events| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
        let mut watched = [watch(&self.to, libc::POLLOUT), watch(&*self.ending.0, libc::POLLIN)];
        loop {
            // SAFETY: the array is valid for as many entries as the call is told.
            let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
            if ready < 0 {
                let why = io::Error::last_os_error();
                if why.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(why);
            }
            let [to, _] = watched;
            return match to.revents {
                0 => Err(io::Error::other("the machine ended before its output was taken")),
                _ => Ok(()),
            };
        }
    }
}

impl Write for PatientOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What says that it takes bytes takes one; more could wait again, out of reach.
        let Some(first) = bytes.get(..1) else { return Ok(0) };
        loop {
            self.wait()?;
            match self.to.write(first) {
                // Somebody has made it a descriptor that does not wait, and somebody else was faster.
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::FromRawFd;

    use super::*;

    fn pipe() -> (File, OwnedFd) {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        // SAFETY: the kernel just returned these descriptors and nobody else owns them.
        unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) }
    }

    #[test]
    fn a_reader_that_takes_its_time_gets_everything() {
        let (mut from, to) = pipe();
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || {
            PatientOutput::new(to, EndSignal::new().unwrap()).write_all(&sent).unwrap();
        });
        let mut got = Vec::new();
        from.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        assert!(got == bytes);
    }

    #[test]
    fn the_machines_end_ends_the_waiting() {
        let (from, to) = pipe();
        let ending = EndSignal::new().unwrap();
        let mut out = PatientOutput::new(to, ending.clone());
        out.write_all(b"there is room for this").unwrap();
        // More than any pipe holds, and nobody reads.
        let writer = std::thread::spawn(move || out.write_all(&vec![0; 8 << 20]).is_err());
        ending.declare();
        assert!(writer.join().unwrap());
        drop(from);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error() {
        let (from, to) = pipe();
        drop(from);
        let error = PatientOutput::new(to, EndSignal::new().unwrap()).write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
