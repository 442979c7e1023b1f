//! Whether everything is given back once a workload has ended: what was open, lent or under way then is compared with what was so at
//! the ready mark.
//!
//! The quick look needs no request at all: the servers' counters of what they began and ended. The thorough one asks the kernel for
//! every grant there is and for who is stuck, and VM for its audit. The one thing to hold in mind: servers finish what they were
//! asked for after the answer, too, so a difference is looked at again before it is one.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::grant::{State, USED};
use refault_abi::kcall::rts;
use refault_abi::vfs::O_RDONLY;
use refault_rt::info::counter;
use refault_rt::{Endpoint, kernel, user};

use crate::check::case::{Complaint, Outcome, Verdict};
use crate::check::family::look_later;
use crate::check::suite::Explain;

/// How often a difference is looked at, a twentieth of a second apart.
const LOOKS: u32 = 40;

/// What is open, lent or under way, each under a name.
type Held = Vec<(&'static str, i64)>;

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Rest {
    held: Held,
    marks: (u64, u64),
    /// Machine checks so far.
    poisoned: u64,
}

/// Memory of a dead server that a device may still write to. It is kept until the server's successor has announced a page, which the file
/// system does for mapped files only: after a page was lost, and a server with it, that may be later than now.
const QUARANTINE: &str = "pages in quarantine";

/// How much more of one has been than of the other.
fn open(begun: Counter, ended: Counter) -> i64 {
    counter(begun).wrapping_sub(counter(ended)).cast_signed()
}

/// Marks that the kernel has stored or tried to, and those that VFS has seen.
fn marks() -> (u64, u64) {
    let stored = [Counter::MarksSet, Counter::MarksDelivered, Counter::MarksPending];
    let stored = stored.iter().fold(0u64, |sum, which| sum.wrapping_add(counter(*which)));
    (stored, counter(Counter::VfsMarksSeen))
}

impl Rest {
    /// Now.
    pub fn now(thorough: bool) -> Result<Rest, String> {
        let mut held = Vec::from([
            ("requests at VFS", open(Counter::VfsCalls, Counter::VfsAnswers)),
            ("grants of VFS", open(Counter::VfsGrants, Counter::VfsRevokes)),
            ("suspended kernel calls", open(Counter::Suspends, Counter::Resumes)),
        ]);
        if thorough {
            held.extend(tables()?);
            held.extend(memory()?);
            held.push(("lowest free descriptor", lowest_descriptor()?));
        }
        let poisoned = counter(Counter::PoisonedUser).wrapping_add(counter(Counter::PoisonedCopy));
        Ok(Rest { held, marks: marks(), poisoned })
    }

    /// What differs now.
    fn difference(&self, thorough: bool) -> Result<Vec<String>, String> {
        let now = Rest::now(thorough)?;
        let pairs = self.held.iter().zip(&now.held);
        let mut different: Vec<String> = pairs
            .filter(|((_, then), (_, now))| then != now)
            .filter(|((name, _), _)| *name != QUARANTINE || now.poisoned == self.poisoned)
            .map(|((name, then), (_, now))| format!("{name}: {now}, not {then}"))
            .collect();
        let stored = now.marks.0.wrapping_sub(self.marks.0);
        let seen = now.marks.1.wrapping_sub(self.marks.1);
        if seen > stored {
            different.push(format!("marks seen: {seen} of {stored} that were stored"));
        }
        Ok(different)
    }

    /// The outcome of the case that everything is as it was.
    pub fn compare(&self, thorough: bool) -> Outcome {
        let mut looks = 0;
        loop {
            let different = self.difference(thorough).map_err(Complaint::from)?;
            if different.is_empty() {
                return Ok(None);
            }
            looks += 1;
            if looks == LOOKS {
                return Err(Complaint::of(Verdict::Leak, different.join("; ")));
            }
            look_later().map_err(Complaint::from)?;
        }
    }
}

/// Entries in use in all grant tables, and processes that wait for memory.
fn tables() -> Result<Held, String> {
    let me = user::getpid().explain("getpid")?;
    let (mut grants, mut stuck) = (0, 0);
    for slot in 0..NR_PROCS as i32 {
        // A free slot has none.
        let Ok(info) = kernel::proc_info(slot) else { continue };
        let who = Endpoint::from_raw(info.endpoint);
        if who != me && info.flags & (rts::VMREQUEST | rts::PAGEFAULT | rts::STOPPED) != 0 {
            stuck += 1;
        }
        let mut index = 0;
        // An entry that cannot be read ends the table.
        while let Ok(entry) = kernel::grant_info(who, index) {
            grants += i64::from(State(entry.state).flags() & USED != 0);
            index += 1;
            if u64::from(index) >= entry.entries {
                break;
            }
        }
    }
    Ok(Vec::from([("grants of all processes", grants), ("processes that wait for memory", stuck)]))
}

/// VM's figures, of which those that only grow by being warm are left out.
fn memory() -> Result<Held, String> {
    let usage = user::memory_usage().explain("VM's figures")?;
    Ok(Vec::from([
        ("pages that nobody holds", i64::from(usage.unclaimed)),
        ("pages counted wrongly", i64::from(usage.miscounted)),
        ("address spaces", i64::from(usage.processes)),
        ("mapped files", i64::from(usage.files)),
        ("requests of VM", i64::from(usage.requests)),
        (QUARANTINE, i64::from(usage.quarantined)),
    ]))
}

/// The descriptor that the next file opened would have.
fn lowest_descriptor() -> Result<i64, String> {
    let descriptor = user::open("/", O_RDONLY, 0).explain("/")?;
    user::close(descriptor).explain("close")?;
    Ok(i64::from(descriptor))
}
