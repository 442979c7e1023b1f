//! SETGRANT, SAFECOPYFROM, SAFECOPYTO, VSAFECOPY, SAFEMEMSET: memory through grants.
//!
//! The one thing to hold in mind: with CPF_TRY in the final grant a soft fault on either side ends the copy with
//! EFAULT *and* leaves a mark in that grant's entry, so that the granter learns of it whatever the grantee
//! answers. What is not here: the checks (`refault_kernel::grant`).

use refault_abi::bugs::Bug;
use refault_abi::counters::Counter;
use refault_abi::doorbell::class;
use refault_abi::grant::{Entry, GrantId, MAX_ENTRIES, READ, WRITE};
use refault_abi::kcall::{
    GrantInfo, SafeCopy, SafeMemset, SetGrant, VSAFECOPY_MAX, VSafeCopy, VSafeCopyElement,
};
use refault_abi::layout::USER_END;
use refault_abi::options::{Mark, Mode};
use refault_abi::{Endpoint, Errno, Result};
use refault_kernel::grant::{Access, Granters, Verified, mark_bits, verify};
use refault_kernel::marks::{Marks, Remembered};
use refault_kernel::process::GrantTable;
use refault_kernel::ready::MARKS_WAIT;
use refault_kernel::transfer::{End, Place, Progress, Sites, SoftFault, Stopped, transfer_user};
use zerocopy::FromBytes;

use super::copy::{copy, count_fault, poisoned, read_own, suspend, user};
use super::{answer, request};
use crate::arch::{self, Marking, Reading};
use crate::kernel::Kernel;

/// Which way a safecopy goes, seen from the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the grant to the caller.
    From,
    /// From the caller to the grant.
    To,
}

impl Granters for Kernel {
    #[inline(always)]
    fn table(&self, granter: Endpoint) -> Option<(usize, GrantTable)> {
        let slot = self.table.lookup(granter)?;
        Some((slot, self.table.procs[slot].grants))
    }

    #[inline(always)]
    fn entry(&mut self, slot: usize, address: u64) -> Option<Entry> {
        let root = self.table.procs[slot].root;
        match self.machine.read_grant(root, address, self.options.mode == Mode::Hardened) {
            Reading::Entry(entry) => Some(entry),
            Reading::Absent => None,
            Reading::Changed => {
                self.count(Counter::GrantsChanged);
                None
            }
        }
    }

    fn any_sequence(&self) -> bool {
        Bug::SkipSequence.is(self.options.bug)
    }
}

/// SETGRANT. EINVAL for a table that is misaligned, too long or not in user memory.
pub fn setgrant(kernel: &mut Kernel, me: usize) -> Result<()> {
    let owner = kernel.table.procs[me].endpoint;
    set_table(kernel, me, owner)
}

/// SETGRANT_TEMPORARY. EINVAL also for an owner that is no live process.
pub fn setgrant_temporary(kernel: &mut Kernel, me: usize) -> Result<()> {
    let request: SetGrant = request(kernel, me);
    let owner = Endpoint::from_raw(request.owner);
    kernel.table.lookup(owner).ok_or(Errno::EINVAL)?;
    set_table(kernel, me, owner)
}

fn set_table(kernel: &mut Kernel, me: usize, owner: Endpoint) -> Result<()> {
    let request: SetGrant = request(kernel, me);
    let bytes = request.entries.checked_mul(size_of::<Entry>() as u64).ok_or(Errno::EINVAL)?;
    let end = request.address.checked_add(bytes).ok_or(Errno::EINVAL)?;
    if request.entries > MAX_ENTRIES as u64 || end > USER_END || !request.address.is_multiple_of(64) {
        return Err(Errno::EINVAL);
    }
    let (root, old) = (kernel.table.procs[me].root, kernel.table.procs[me].grants);
    kernel.table.procs[me].grants = GrantTable { address: request.address, entries: request.entries, owner };
    let old_bytes = old.entries.saturating_mul(size_of::<Entry>() as u64);
    kernel.machine.name_pages(root, old.address, old_bytes, class::NONE);
    kernel.machine.name_pages(root, request.address, bytes, class::GRANT_TABLE);
    Ok(())
}

/// GRANT_INFO. EINVAL for a dead process, EPERM without such an entry or when it cannot be read now.
pub fn info(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: GrantInfo = request(kernel, me);
    let granter = Endpoint::from_raw(request.endpoint);
    let (slot, table) = Granters::table(kernel, granter).ok_or(Errno::EINVAL)?;
    if u64::from(request.index) >= table.entries {
        return Err(Errno::EPERM);
    }
    // SETGRANT has checked that the whole table lies in user memory.
    let place = table.address + u64::from(request.index) * size_of::<Entry>() as u64;
    let entry = Granters::entry(kernel, slot, place).ok_or(Errno::EPERM)?;
    request.entries = table.entries;
    request.state = entry.state;
    request.grantee = entry.grantee;
    request.other = entry.other;
    request.start = entry.start;
    request.length = entry.length;
    request.tag = entry.tag;
    answer(kernel, me, &request);
    Ok(())
}

/// The grant a call names, verified for its caller.
#[inline(always)]
fn verified_here(
    kernel: &mut Kernel,
    me: usize,
    granter: i32,
    grant: i64,
    bits: u16,
    offset: u64,
    bytes: u64,
) -> Result<Verified> {
    let granter = Endpoint::from_raw(granter);
    if granter == Endpoint::NONE {
        return Err(Errno::EFAULT);
    }
    let access = Access { grantee: kernel.table.procs[me].endpoint, bits, offset, bytes };
    verify(kernel, granter, GrantId(grant), access)
}

/// [`verified_here`], for whoever is not in a hurry.
#[inline(never)]
pub fn verified(
    kernel: &mut Kernel,
    me: usize,
    granter: i32,
    grant: i64,
    bits: u16,
    offset: u64,
    bytes: u64,
) -> Result<Verified> {
    verified_here(kernel, me, granter, grant, bits, offset, bytes)
}

/// Leaves the mark of a fault in the entry of the final grant, or remembers it until it can be left there. `false` when
/// neither can be done, and the copy must not fail.
pub fn mark(kernel: &mut Kernel, grant: &Verified, fault: &SoftFault, granted: End) -> bool {
    let bits = mark_bits(fault, granted);
    let Some(granter) = kernel.table.lookup(grant.granter) else {
        kernel.count(Counter::MarksStale);
        return true;
    };
    let root = kernel.table.procs[granter].root;
    let wanted = Remembered {
        granter: grant.granter,
        root,
        entry: grant.entry,
        id: grant.id,
        bits,
        fault: fault.address,
    };
    let marking = if Bug::MarkAfterRevoke.is(kernel.options.bug) {
        Marking::Failed
    } else {
        kernel.store_mark(&wanted)
    };
    if marking != Marking::Stale && fault.end != granted {
        kernel.count(Counter::MarksGrantee);
    }
    match marking {
        Marking::Set => kernel.count(Counter::MarksSet),
        Marking::Stale => kernel.count(Counter::MarksStale),
        Marking::Failed if kernel.options.mode == Mode::Hardened => {
            let table = &kernel.table;
            if !kernel.marks.remember(wanted, |granter| table.lookup(granter).is_some()) {
                return false;
            }
            kernel.table.procs[granter].rivals |= MARKS_WAIT;
            kernel.count(Counter::MarksPending);
        }
        Marking::Failed => {
            kernel.count(Counter::MarksFailed);
            let name = kernel.table.procs[granter].name();
            arch::log(format_args!("kernel: the mark of grant {:#x} of {name} is lost\n", grant.id.0));
        }
    }
    true
}

impl Kernel {
    /// Stores a mark as the options say.
    fn store_mark(&self, mark: &Remembered) -> Marking {
        let Remembered { root, entry, id, bits, fault, .. } = *mark;
        match self.options.mark {
            Mark::Flag => self.machine.mark_plainly(root, entry, 1, fault),
            Mark::Id => self.machine.mark_plainly(root, entry, id.0, fault),
            Mark::Atomic => self.machine.mark_atomically(root, entry, id, bits, fault),
        }
    }

    /// Stores the remembered marks of the process in `slot`, which is about to return to ring 3, as far as their pages are there.
    /// Whether it has a rival besides. `entered`: it had entered the kernel itself, and was not woken.
    #[inline(never)]
    pub fn deliver_marks(&mut self, slot: usize, entered: bool) -> bool {
        if Bug::MarkAfterRevoke.is(self.options.bug) && !entered {
            return true;
        }
        let process = &self.table.procs[slot];
        let (granter, root) = (process.endpoint, process.root);
        let mut marks = core::mem::replace(&mut self.marks, Marks::EMPTY);
        let left = marks.deliver(granter, |mark| {
            // Another program has other grants.
            let marking = if mark.root == root { self.store_mark(mark) } else { Marking::Stale };
            match marking {
                Marking::Set => self.count(Counter::MarksDelivered),
                Marking::Stale => self.count(Counter::MarksStale),
                Marking::Failed => return false,
            }
            true
        });
        self.marks = marks;
        if left == 0 {
            self.table.procs[slot].rivals &= !MARKS_WAIT;
        }
        self.table.ready.levels & self.table.procs[slot].rivals & !MARKS_WAIT != 0
    }
}

/// What a copy's progress means to its caller: done, EFAULT with a mark, or suspended.
fn conclude(
    kernel: &mut Kernel,
    me: usize,
    grant: &Verified,
    granted: End,
    bytes: u64,
    no_suspend: bool,
    progress: &Progress,
) -> Result<()> {
    let fault = match progress.stopped {
        None => return Ok(()),
        Some(Stopped::Outside) => return Err(Errno::EFAULT),
        Some(Stopped::Poison(poison)) => {
            let granters = poison.end == granted;
            let owner = if granters { kernel.table.lookup(grant.target).ok_or(Errno::ESRCH)? } else { me };
            return Err(poisoned(kernel, owner, &poison));
        }
        Some(Stopped::Soft(fault)) => fault,
    };
    if no_suspend && !Bug::TrySuspends.is(kernel.options.bug) {
        let unseen = fault.end != granted && Bug::NoMarkForGrantee.is(kernel.options.bug);
        if unseen || mark(kernel, grant, &fault, granted) {
            return Err(Errno::EFAULT);
        }
    }
    let owner =
        if fault.end == granted { kernel.table.lookup(grant.target).ok_or(Errno::ESRCH)? } else { me };
    let error = suspend(kernel, me, owner, &fault, bytes - progress.bytes);
    if error == Errno::EFAULT {
        // Whoever made the grant must not take what was moved for all there was.
        mark(kernel, grant, &fault, granted);
    }
    Err(error)
}

/// One copy through a grant: the result and the bytes moved.
#[inline(never)]
fn through(kernel: &mut Kernel, me: usize, direction: Direction, request: &SafeCopy) -> (Result<()>, u64) {
    let bits = if direction == Direction::From { READ } else { WRITE };
    let grant = match verified_here(
        kernel,
        me,
        request.granter,
        request.grant,
        bits,
        request.offset,
        request.bytes,
    ) {
        Ok(grant) => grant,
        Err(error) => return (Err(error), 0),
    };
    if request.bytes == 0 {
        return (Err(Errno::EDOM), 0);
    }
    let target =
        if grant.target == grant.granter { Some(grant.slot) } else { kernel.table.lookup(grant.target) };
    let Some(target) = target else { return (Err(Errno::ESRCH), 0) };
    kernel.copies += 1;
    kernel.count(Counter::Copies);
    let (number, grantee) = (kernel.copies, kernel.table.procs[me].endpoint);
    let mine = (kernel.table.procs[me].root, request.address);
    let theirs = (kernel.table.procs[target].root, grant.address);
    let (from, to, granted) =
        if direction == Direction::From { (theirs, mine, End::From) } else { (mine, theirs, End::To) };
    let sites = || Some(sites(number, grantee, &grant, granted));
    let progress = transfer_user(&mut kernel.machine, from, to, request.bytes, sites);
    kernel.machine.count(Counter::CopyBytes, progress.bytes);
    if progress.stopped.is_none() && !kernel.machine.drop_lock {
        return (Ok(()), progress.bytes);
    }
    (stopped(kernel, me, target, request, grant, granted, &progress), progress.bytes)
}

/// What came of a copy that did not simply end.
#[inline(never)]
fn stopped(
    kernel: &mut Kernel,
    me: usize,
    target: usize,
    request: &SafeCopy,
    grant: Verified,
    granted: End,
    progress: &Progress,
) -> Result<()> {
    count_fault(kernel, progress);
    if kernel.table.lookup(grant.target) != Some(target) {
        // Only possible when the lock was dropped during the copy.
        return Err(Errno::EDEADSRCDST);
    }
    let grant =
        if Bug::MarkWrongGrant.is(kernel.options.bug) { as_named(kernel, request, grant) } else { grant };
    conclude(kernel, me, &grant, granted, request.bytes, grant.no_suspend, progress)
}

/// The seeded bug: the grant as its user named it, and not the one at the end of the chain.
fn as_named(kernel: &Kernel, request: &SafeCopy, grant: Verified) -> Verified {
    let (granter, id) = (Endpoint::from_raw(request.granter), GrantId(request.grant));
    let table = Granters::table(kernel, granter).map_or(GrantTable::NONE, |(_, table)| table);
    let entry = table.address + id.index() as u64 * size_of::<Entry>() as u64;
    Verified { granter, id, entry, ..grant }
}

fn sites(copy: u64, grantee: Endpoint, grant: &Verified, granted: End) -> Sites {
    Sites {
        granted,
        copy,
        tag: grant.tag,
        granter: grant.granter,
        grantee,
        base: grant.base,
        length: grant.length,
    }
}

/// SAFECOPYFROM, SAFECOPYTO.
pub fn safecopy(kernel: &mut Kernel, me: usize, direction: Direction) -> Result<()> {
    let request: SafeCopy = request(kernel, me);
    let (result, moved) = through(kernel, me, direction, &request);
    if result != Err(Errno::VMSUSPEND) {
        // The rest of the request is what it was.
        const BYTES: usize = core::mem::offset_of!(SafeCopy, bytes) / 8;
        kernel.table.procs[me].frame.message[1 + BYTES] = moved;
    }
    result
}

/// VSAFECOPY: stops at the first element that fails; earlier ones stay copied. EINVAL for too many elements
/// and for one of which not exactly one side is SELF.
pub fn vsafecopy(kernel: &mut Kernel, me: usize) -> Result<()> {
    let result = elements(kernel, me);
    kernel.later = 0;
    result
}

fn elements(kernel: &mut Kernel, me: usize) -> Result<()> {
    const BYTES: usize = size_of::<VSafeCopyElement>();
    const { assert!(BYTES * VSAFECOPY_MAX <= 4096) };
    let request: VSafeCopy = request(kernel, me);
    let count =
        usize::try_from(request.count).ok().filter(|count| *count <= VSAFECOPY_MAX).ok_or(Errno::EINVAL)?;
    let buffer = kernel.buffer.as_mut_ptr() as u64;
    // Counts of at most 64, here and below.
    kernel.later = count as u8;
    read_own(kernel, me, request.address, buffer, (count * BYTES) as u64)?;
    for index in 0..count {
        let place = kernel.buffer.get(index * BYTES..(index + 1) * BYTES).ok_or(Errno::EINVAL)?;
        let element = VSafeCopyElement::read_from_bytes(place).map_err(|_| Errno::EINVAL)?;
        let (from, to) = (Endpoint::from_raw(element.from), Endpoint::from_raw(element.to));
        let (direction, granter) = match (from == Endpoint::SELF, to == Endpoint::SELF) {
            (false, true) => (Direction::From, from),
            (true, false) => (Direction::To, to),
            _ => return Err(Errno::EINVAL),
        };
        let one = SafeCopy {
            granter: granter.raw(),
            reserved: 0,
            grant: element.grant,
            offset: element.offset,
            address: element.address,
            bytes: element.bytes,
        };
        kernel.later = (count - 1 - index) as u8;
        through(kernel, me, direction, &one).0?;
    }
    Ok(())
}

/// SAFEMEMSET. The seed's system suspends even when the grant says TRY.
pub fn safememset(kernel: &mut Kernel, me: usize) -> Result<()> {
    let mut request: SafeMemset = request(kernel, me);
    let grant = verified(kernel, me, request.granter, request.grant, WRITE, request.offset, request.bytes)?;
    if request.bytes == 0 {
        return Err(Errno::EDOM);
    }
    let target = kernel.table.lookup(grant.target).ok_or(Errno::ESRCH)?;
    kernel.copies += 1;
    let sites = sites(kernel.copies, kernel.table.procs[me].endpoint, &grant, End::To);
    let to = user(kernel, target, grant.address);
    let progress = copy(kernel, Place::Fill(request.byte as u8), to, request.bytes, Some(&sites));
    let no_suspend = grant.no_suspend && kernel.options.mode == Mode::Hardened;
    let result = conclude(kernel, me, &grant, End::To, request.bytes, no_suspend, &progress);
    if result != Err(Errno::VMSUSPEND) {
        request.bytes = progress.bytes;
        answer(kernel, me, &request);
    }
    result
}
