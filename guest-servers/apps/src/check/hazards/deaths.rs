//! D12: processes die while VM has their pages brought in.
//!
//! The one thing to hold in mind: how many pages are free says little, because caches keep pages and servers' heaps grow. So the
//! books are compared instead: VM accounts for every page ([`user::memory_usage`]), and whatever else the dead had is counted
//! before and after. Both sides of each comparison are exact.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::kcall::rts;
use refault_abi::layout::PAGE;
use refault_abi::options::Mode;
use refault_abi::vfs::{O_CREAT, O_RDONLY, O_RDWR};
use refault_abi::{Endpoint, Errno, pattern, pm};
use refault_rt::user::{self, Descriptor};
use refault_rt::{ipc, kernel};

use super::absent;
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::family::{Child, here, look_later, wait_for_go};
use crate::check::measure::Snapshot;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect};

/// Processes that die at once. Each way has two such crowds.
const CROWD: u64 = 8;
/// Most turns in which something is waited for that happens within a few.
const TURNS: u32 = 100_000;
/// Most looks, with time between them, at something that may take until a server has been replaced.
const LOOKS: u32 = 1200;

/// How a process has its pages brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It touches one.
    PageFault,
    /// A read goes into them.
    Read,
    /// A write comes from them.
    Write,
}

/// What there is of everything that processes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Books {
    /// Pages that nothing holds.
    unclaimed: u32,
    /// Pages held by others than are counted.
    miscounted: u32,
    /// Address spaces.
    spaces: u32,
    /// Process slots in use.
    slots: usize,
    /// Files that VFS keeps because they are mapped.
    mapped_files: u32,
    /// Pages kept for a device.
    quarantined: u32,
    /// Requests of processes that VFS is at work on.
    requests: u64,
    /// Grants of VFS.
    grants: u64,
}

impl Books {
    /// Now.
    fn now() -> Result<Books, String> {
        let usage = user::memory_usage().explain("memory usage")?;
        let counter = |which| kernel::counter(which).explain("COUNTER");
        let slots = (0..NR_PROCS).filter_map(|slot| i32::try_from(slot).ok());
        Ok(Books {
            unclaimed: usage.unclaimed,
            miscounted: usage.miscounted,
            spaces: usage.processes,
            slots: slots.filter(|slot| kernel::proc_info(*slot).is_ok()).count(),
            mapped_files: usage.files,
            quarantined: usage.quarantined,
            requests: counter(Counter::VfsCalls)?.wrapping_sub(counter(Counter::VfsAnswers)?),
            grants: counter(Counter::VfsGrants)?.wrapping_sub(counter(Counter::VfsRevokes)?),
        })
    }
}

/// Looks until something is so, with a turn of everybody else between two looks.
fn until(what: &str, mut done: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    for _ in 0..TURNS {
        if done()? {
            return Ok(());
        }
        ipc::yield_now();
    }
    Err(format!("{what}: never"))
}

/// Looks until VFS has answered everything that VM asked it, which may take until the reincarnation server is through.
fn until_answered() -> Result<(), String> {
    for _ in 0..LOOKS {
        if user::memory_usage().explain("memory usage")?.requests == 0 {
            return Ok(());
        }
        look_later()?;
    }
    Err(String::from("VFS does not answer what VM asked"))
}

/// D12.
pub fn meanwhile(suite: &mut Suite) {
    for (name, way) in [("page-fault", Way::PageFault), ("read", Way::Read), ("write", Way::Write)] {
        suite.check(&format!("D12.{name}"), |record| balanced(record, || in_passing(way)));
    }
    if suite.options().mode == Mode::Hardened && suite.options().watchdog == 0 {
        suite.check("D12.driver-hangs", |record| balanced(record, driver_hangs));
    } else {
        suite.skip("D12.driver-hangs", "no heartbeats where a standstill is to be seen");
    }
}

/// Whether the books after something are those before it.
fn balanced(record: &mut Record, action: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let before = Books::now()?;
    expect("pages unclaimed and miscounted before", (before.unclaimed, before.miscounted), (0, 0))?;
    let start = Snapshot::now()?;
    action()?;
    until_answered()?;
    record.add(&start.until_now()?);
    expect("the books", Books::now()?, before)
}

/// Processes die at different moments, of which the disk's speed decides.
fn in_passing(way: Way) -> Result<(), String> {
    for turns in [0, 4] {
        let crowd = Crowd::new(way)?;
        let asked = || kernel::counter(Counter::VmFilePages).explain("COUNTER");
        let before = asked()?;
        crowd.go()?;
        until("a page is asked for", || Ok(asked()? != before))?;
        for _ in 0..turns {
            ipc::yield_now();
        }
        crowd.end()?;
    }
    Ok(())
}

/// Processes die while the driver of the disk hangs, so that nobody's page can come before he is gone. The reincarnation server
/// replaces the driver; what was asked of it is answered then, to nobody.
fn driver_hangs() -> Result<(), String> {
    let ended = || kernel::counter(Counter::VmEndedMeanwhile).explain("COUNTER");
    let before = ended()?;
    let crowd = Crowd::new(Way::PageFault)?;
    let driver = user::process_info(Endpoint::BLK.slot()).explain("who drives the disk")?.endpoint;
    user::kill(Endpoint::from_raw(driver), pm::SIGSTOP).explain("stopping the driver")?;
    crowd.go()?;
    until("everybody's page is asked for", || {
        let waits =
            |child: &Child| kernel::proc_info(child.0.slot()).map(|info| info.flags & rts::PAGEFAULT != 0);
        let waiting: refault_abi::Result<Vec<bool>> = crowd.children.iter().map(waits).collect();
        Ok(waiting.explain("a child's state")?.into_iter().all(|waits| waits))
    })?;
    crowd.end()?;
    expect("processes that ended while pages of theirs were brought in", ended()?.wrapping_sub(before), CROWD)
}

/// Processes that wait for a word to begin.
struct Crowd {
    children: Vec<Child>,
    /// The end of a pipe for reading; those for writing are the children's alone.
    pipe: Descriptor,
}

impl Crowd {
    /// Makes them, and sees to it that what they are going to touch is nowhere.
    fn new(way: Way) -> Result<Crowd, String> {
        // The children have these from their parent: to close them asks nothing of the file system, which would answer for the
        // page first.
        let file = user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?;
        let sink = user::open("/sink", O_RDWR | O_CREAT, 0o644).explain("/sink")?;
        let mapped = Mapped::pattern("/a.bin", pattern::FILE_A)?;
        let (pipe, writing) = user::pipe().explain("pipe")?;
        let mut children = Vec::new();
        for number in 0..CROWD {
            children.push(Child::run(|| have_pages_brought_in(way, number, mapped, file, sink))?);
        }
        for descriptor in [file, sink, mapped.descriptor, writing] {
            user::close(descriptor).explain("close")?;
        }
        for child in &children {
            child.arrived()?;
        }
        user::flush_caches().explain("flushing the caches")?;
        Ok(Crowd { children, pipe })
    }

    /// Lets them begin.
    fn go(&self) -> Result<(), String> {
        self.children.iter().try_for_each(|child| child.go())
    }

    /// Kills them; whoever began last has the longest to wait for the disk, and goes first.
    fn end(self) -> Result<(), String> {
        for child in self.children.iter().rev() {
            user::kill(child.0, pm::SIGKILL).explain("kill")?;
        }
        for _ in &self.children {
            let (gone, status) = user::wait().explain("wait")?;
            expect("somebody killed", self.children.contains(&Child(gone)), true)?;
            expect("the status of the killed", status, 128 + i64::from(pm::SIGKILL))?;
        }
        for child in &self.children {
            expect("a signal to the killed", user::kill(child.0, 0), Err(Errno::ESRCH))?;
        }
        // This is the end of the pipe, or it waits for ever.
        expect("bytes in a pipe of the dead", user::read(self.pipe, &mut [0]).explain("read")?, 0)?;
        user::close(self.pipe).explain("close")
    }
}

/// In a child, for ever: everybody's pages are others.
fn have_pages_brought_in(
    way: Way,
    number: u64,
    mapped: Mapped,
    file: Descriptor,
    sink: Descriptor,
) -> Result<(), String> {
    let bytes = absent().bytes;
    let layout = Layout::plain(77, CROWD * PAGE + bytes).without(u64::MAX);
    let buffer = || Buffer::new(mapped, layout, Stage::First, way != Way::Write);
    let mut current = buffer()?;
    here(0)?;
    wait_for_go()?;
    loop {
        let address = current.address() + number * PAGE;
        match way {
            Way::PageFault => {
                core::hint::black_box(current.bytes().get((number * PAGE) as usize).copied());
            }
            // SAFETY: the range is in the buffer, which nobody has borrowed.
            Way::Read => drop(unsafe { user::pread_raw(file, address, bytes, 77) }),
            Way::Write => drop(user::write_raw(sink, address, bytes)),
        }
        drop(current);
        current = buffer()?;
    }
}
