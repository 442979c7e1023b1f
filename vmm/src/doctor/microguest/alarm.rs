//! A timer that ends a KVM_RUN that does not end by itself.
//!
//! It sends the kick signal to the thread that made it. That signal is blocked outside KVM_RUN and stays
//! pending, so an alarm that rings a moment too early is not lost.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use crate::vcpu::signals::kick_signal;

/// An alarm of the calling thread.
#[derive(Debug)]
pub struct Alarm {
    timer: libc::timer_t,
}

impl Alarm {
    /// A timer that is not running.
    pub fn new() -> io::Result<Self> {
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        // SAFETY: all zeroes is a valid sigevent, and gettid has no precondition.
        let event = unsafe {
            let event = event.assume_init_mut();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = kick_signal();
            event.sigev_notify_thread_id = libc::gettid();
            event
        };
        let mut timer = std::ptr::null_mut();
        // SAFETY: both pointers are valid for the call, which writes `timer`.
        match unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, event, &mut timer) } {
            0 => Ok(Self { timer }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Rings after `limit`, unless set again before.
    pub fn set(&self, limit: Duration) -> io::Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_nsec: limit.subsec_nanos() as libc::c_long,
        };
        let spec = libc::itimerspec { it_interval: zero, it_value: value };
        // SAFETY: the timer exists as long as `self`; the structure is valid for the call.
        match unsafe { libc::timer_settime(self.timer, 0, &spec, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Does not ring any more.
    pub fn cancel(&self) -> io::Result<()> {
        self.set(Duration::ZERO)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `new` and is deleted once.
        unsafe { libc::timer_delete(self.timer) };
    }
}
