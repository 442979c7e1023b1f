//! Signals of a vCPU thread: taken one at a time, never by a handler.
//!
//! Two signals matter to a vCPU thread: the *kick*, by which the rest of the VMM asks it to look up, and
//! SIGBUS, by which the kernel reports that the guest touched an armed page. Both are blocked on the thread
//! and unblocked only inside KVM_RUN (KVM_SET_SIGNAL_MASK), so a pending one ends KVM_RUN with EINTR and
//! stays pending; [`take`] then fetches it as a value.
//!
//! The one thing to hold in mind: because nothing runs in handler context, a trap is ordinary sequential
//! code, and any number of virtual machines can live in one process without sharing a handler.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::SIGRTMIN;

/// The signal that kicks a vCPU thread out of KVM_RUN.
pub fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

/// Asks a vCPU thread to look at the machine's state. It has to be prepared ([`prepare_thread`]) and not been joined.
pub fn kick(thread: &JoinHandle<()>) {
    // SAFETY: the thread has not been joined, so its identifier is valid; the signal is blocked there, so it cannot run a handler
    // or end the process.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), kick_signal()) };
}

/// What was pending on the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Another thread wants this one to look at the machine's state.
    Kick,
    /// The guest touched a page that is not there; the address is in the vCPU view (host virtual).
    MemoryGone {
        /// Host virtual address of the page.
        address: u64,
    },
    /// Nothing is pending.
    Nothing,
}

/// KVMIO ioctl 0x8b; the structure's fixed part is the 32-bit length.
const KVM_SET_SIGNAL_MASK: libc::c_ulong = 0x4004_ae8b;

/// Size of the kernel's signal set, in bytes: 64 signals.
const KERNEL_SIGSET_LEN: u32 = 8;

#[repr(C, packed)]
struct SignalMask {
    len: u32,
    set: u64,
}

/// Blocks the kick and SIGBUS on the calling thread, and has KVM_RUN of `vcpu` unblock them while the guest
/// runs. Call on the vCPU's own thread, before the first run.
pub fn prepare_thread(vcpu: &VcpuFd) -> io::Result<()> {
    let ours = our_set();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are valid for the call; `before` is written by it.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &ours, before.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::from_raw_os_error(rc));
    }
    // SAFETY: zero-initialised above and filled in by the call.
    let mut inside = unsafe { before.assume_init() };
    for signal in [kick_signal(), libc::SIGBUS] {
        // SAFETY: `inside` is an initialised set and the signal number is valid.
        unsafe { libc::sigdelset(&mut inside, signal) };
    }
    let mask = SignalMask { len: KERNEL_SIGSET_LEN, set: first_64(&inside) };
    // SAFETY: the argument points to a kvm_signal_mask whose `len` states the 8 bytes that follow it.
    let rc = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK as _, &mask) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes one pending signal off the calling thread, without waiting.
pub fn take() -> Taken {
    let ours = our_set();
    let no_wait = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: all three pointers are valid for the call; `info` is only read when a signal was taken.
    let signal = unsafe { libc::sigtimedwait(&ours, info.as_mut_ptr(), &no_wait) };
    if signal == libc::SIGBUS {
        // SAFETY: zero-initialised and filled in by the call; SIGBUS carries an address.
        let address = unsafe { info.assume_init().si_addr() } as u64;
        Taken::MemoryGone { address }
    } else if signal > 0 {
        Taken::Kick
    } else {
        Taken::Nothing
    }
}

fn our_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigemptyset initialises the set, sigaddset then gets valid signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), kick_signal());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGBUS);
        set.assume_init()
    }
}

/// The set as the kernel has it: bit n-1 stands for signal n.
fn first_64(set: &libc::sigset_t) -> u64 {
    (1..=64).fold(0, |bits, signal| {
        // SAFETY: `set` is initialised and the number is valid.
        let member = unsafe { libc::sigismember(set, signal) } == 1;
        bits | u64::from(member) << (signal - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_kick_is_taken_as_a_value() {
        std::thread::spawn(|| {
            let ours = our_set();
            // SAFETY: blocks two signals on this thread only, then sends itself one of them.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, &ours, std::ptr::null_mut());
                libc::pthread_kill(libc::pthread_self(), kick_signal());
            }
            assert_eq!(take(), Taken::Kick);
            assert_eq!(take(), Taken::Nothing);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_kernel_form_of_a_set_has_bit_n_minus_1() {
        let bits = first_64(&our_set());
        assert_eq!(bits, 1 << (libc::SIGBUS - 1) | 1 << (kick_signal() - 1));
    }
}
