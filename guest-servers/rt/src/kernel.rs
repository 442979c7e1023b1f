//! Kernel calls, typed. One function per call of [`refault_abi::kcall`].
//!
//! A copy reports exactly how many bytes moved, also when it failed: [`Moved`] carries both, because a soft
//! fault in the middle leaves the first bytes where they are.

use refault_abi::ipc::Call;
use refault_abi::kcall::{self, PhysRange, VSafeCopyElement};
use refault_abi::message::{Payload, Status};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use zerocopy::FromZeros;

/// What a copy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a copy can stop in the middle"]
pub struct Moved {
    /// Bytes moved, also when `result` is an error.
    pub bytes: u64,
    /// EFAULT after a soft fault; EPERM and others for a grant that does not allow it.
    pub result: Result<()>,
    /// VIRCOPY only: the address that faulted.
    pub fault: u64,
}

impl Moved {
    /// The count, if everything asked for moved.
    pub fn whole(self) -> Result<u64> {
        self.result.map(|()| self.bytes)
    }
}

/// Makes the call `number`.
///
/// # Safety
/// Addresses in `request` must be valid for what the call does with them.
unsafe fn call<T: Payload>(number: u16, request: &T) -> (Result<u64>, Message) {
    let mut message = Message::new(number, request);
    let peers = refault_abi::ipc::peers(Endpoint::NONE, Endpoint::NONE);
    // SAFETY: passed on to the caller.
    let (result, _) = unsafe { crate::ipc::trap(Call::Kernel, peers, &mut message) };
    (Errno::check(result), message)
}

/// A call that has no memory operand.
fn simple<T: Payload>(number: u16, request: &T) -> Result<Message> {
    // SAFETY: every caller of this function passes a request without addresses of its own memory.
    let (result, message) = unsafe { call(number, request) };
    result.map(|_| message)
}

/// How often a call is repeated whose granter is just being replaced. The pauses in between grow by a tick each, so this is two
/// seconds in all.
const NOT_READY_TRIES: u64 = 20;
/// Microseconds of a tick.
const TICK: u64 = 10_000;

/// Makes a call through a grant, and again while the grant's table is that of another process for a time (ENOTREADY). A
/// vectored call begins anew.
///
/// # Safety
/// As for [`call`].
unsafe fn when_ready<T: Payload>(number: u16, request: &T) -> (Result<u64>, Message) {
    // SAFETY: the caller's promise.
    let mut outcome = unsafe { call(number, request) };
    for tries in 1..=NOT_READY_TRIES {
        if outcome.0 != Err(Errno::ENOTREADY) || pause(tries * TICK).is_err() {
            break;
        }
        // SAFETY: the caller's promise.
        outcome = unsafe { call(number, request) };
    }
    outcome
}

/// Waits for about `microseconds`, and leaves the caller's own alarm as it would be without.
fn pause(microseconds: u64) -> Result<()> {
    let own = set_alarm(microseconds)?;
    let waited = crate::ipc::receive(Endpoint::CLOCK);
    if set_alarm(0)? != 0 {
        // The pause is not over: what came was the caller's own alarm, which it shall not miss.
        set_alarm(1)?;
    } else if own != 0 {
        set_alarm(own.saturating_sub(microseconds).max(1))?;
    }
    waited.map(drop)
}

/// SETALARM; answers what was left of the alarm before.
fn set_alarm(microseconds: u64) -> Result<u64> {
    simple(kcall::SETALARM, &kcall::Alarm { microseconds })
        .map(|message| message.get::<kcall::Alarm>().microseconds)
}

/// SAFECOPYFROM: from `offset` of a grant into `buffer`. Zero bytes is EDOM.
pub fn safecopy_from(granter: Endpoint, grant: GrantId, offset: u64, buffer: &mut [u8]) -> Moved {
    // SAFETY: the buffer is valid for writes of its length.
    unsafe {
        safecopy_from_raw(granter, grant, offset, buffer.as_mut_ptr() as usize as u64, buffer.len() as u64)
    }
}

/// SAFECOPYTO: `buffer` to `offset` of a grant. Zero bytes is EDOM.
pub fn safecopy_to(granter: Endpoint, grant: GrantId, offset: u64, buffer: &[u8]) -> Moved {
    safecopy(kcall::SAFECOPYTO, granter, grant, offset, buffer.as_ptr() as usize as u64, buffer.len() as u64)
}

/// [`safecopy_from`] by address.
///
/// # Safety
/// `[address, address + bytes)` must be memory that may be overwritten.
pub unsafe fn safecopy_from_raw(
    granter: Endpoint,
    grant: GrantId,
    offset: u64,
    address: u64,
    bytes: u64,
) -> Moved {
    safecopy(kcall::SAFECOPYFROM, granter, grant, offset, address, bytes)
}

/// Both directions; the callers answer for the destination.
fn safecopy(number: u16, granter: Endpoint, grant: GrantId, offset: u64, address: u64, bytes: u64) -> Moved {
    let request =
        kcall::SafeCopy { granter: granter.raw(), reserved: 0, grant: grant.0, offset, address, bytes };
    // SAFETY: the callers hold a buffer at `address` for the direction of the copy.
    let (result, message) = unsafe { when_ready(number, &request) };
    Moved { bytes: message.get::<kcall::SafeCopy>().bytes, result: result.map(drop), fault: 0 }
}

/// VSAFECOPY: up to [`kcall::VSAFECOPY_MAX`] copies. Stops at the first that fails; earlier ones stay done.
///
/// # Safety
/// Every element that writes the caller's memory must name memory that may be overwritten.
pub unsafe fn vsafecopy(elements: &[VSafeCopyElement]) -> Result<()> {
    let request =
        kcall::VSafeCopy { address: elements.as_ptr() as usize as u64, count: elements.len() as u64 };
    // SAFETY: the elements are readable; what they name is the caller's promise.
    unsafe { when_ready(kcall::VSAFECOPY, &request) }.0.map(drop)
}

/// SAFEMEMSET: stores `byte` in `[offset, offset + bytes)` of a grant.
pub fn safememset(granter: Endpoint, grant: GrantId, offset: u64, bytes: u64, byte: u8) -> Moved {
    let request =
        kcall::SafeMemset { granter: granter.raw(), byte: u32::from(byte), grant: grant.0, offset, bytes };
    // SAFETY: the request has no address of the caller.
    let (result, message) = unsafe { when_ready(kcall::SAFEMEMSET, &request) };
    Moved { bytes: message.get::<kcall::SafeMemset>().bytes, result: result.map(drop), fault: 0 }
}

/// SETGRANT: the caller's grant table.
pub fn setgrant(address: u64, entries: u64) -> Result<()> {
    simple(kcall::SETGRANT, &kcall::SetGrant { address, entries, ..Default::default() }).map(drop)
}

/// WAITS: where the caller says what its requests wait for; see [`crate::waits`].
pub(crate) fn waits(address: u64, entries: u64) -> Result<()> {
    simple(kcall::WAITS, &kcall::WaitTable { address, entries }).map(drop)
}

/// VIRCOPY between two processes, by addresses. `no_suspend` answers EFAULT instead of waiting for VM.
///
/// # Safety
/// If `to` is the caller, the destination must be memory that may be overwritten.
pub unsafe fn vircopy(
    from: Endpoint,
    source: u64,
    to: Endpoint,
    destination: u64,
    bytes: u64,
    no_suspend: bool,
) -> Moved {
    let flags = if no_suspend { kcall::COPY_TRY } else { 0 };
    let request = kcall::Copy { from: from.raw(), to: to.raw(), source, destination, bytes, flags, fault: 0 };
    // SAFETY: the caller's promise.
    let (result, message) = unsafe { call(kcall::VIRCOPY, &request) };
    let done: kcall::Copy = message.get();
    Moved { bytes: done.bytes, result: result.map(drop), fault: done.fault }
}

/// VIRCOPY from another process into `buffer`.
pub fn copy_in(from: Endpoint, source: u64, buffer: &mut [u8], no_suspend: bool) -> Moved {
    let destination = buffer.as_mut_ptr() as usize as u64;
    // SAFETY: the buffer is valid for writes of its length.
    unsafe { vircopy(from, source, Endpoint::SELF, destination, buffer.len() as u64, no_suspend) }
}

/// VIRCOPY of `buffer` to another process.
pub fn copy_out(to: Endpoint, destination: u64, buffer: &[u8], no_suspend: bool) -> Moved {
    let source = buffer.as_ptr() as usize as u64;
    // SAFETY: the caller's own memory is only read.
    unsafe { vircopy(Endpoint::SELF, source, to, destination, buffer.len() as u64, no_suspend) }
}

/// VUMAP over a grant: the physical pieces behind `[offset, offset + bytes)`, in order. Answers how many
/// entries of `pieces` were filled.
pub fn vumap_grant(
    granter: Endpoint,
    grant: GrantId,
    offset: u64,
    bytes: u64,
    access: u16,
    pieces: &mut [PhysRange],
) -> Result<usize> {
    vumap(granter, grant, offset, bytes, access, pieces)
}

/// VUMAP over the caller's own memory.
pub fn vumap_own(address: u64, bytes: u64, access: u16, pieces: &mut [PhysRange]) -> Result<usize> {
    vumap(Endpoint::SELF, GrantId::NONE, address, bytes, access, pieces)
}

/// The common part of the two.
fn vumap(
    granter: Endpoint,
    grant: GrantId,
    offset: u64,
    bytes: u64,
    access: u16,
    pieces: &mut [PhysRange],
) -> Result<usize> {
    let request = kcall::VuMap {
        granter: granter.raw(),
        count: u32::try_from(pieces.len().min(64)).unwrap_or(64),
        grant: grant.0,
        offset,
        bytes,
        access: u64::from(access),
        output: pieces.as_mut_ptr() as usize as u64,
    };
    // SAFETY: the output array is valid for writes of `count` entries.
    let (result, message) = unsafe { call(kcall::VUMAP, &request) };
    result?;
    Ok((message.get::<kcall::VuMap>().count as usize).min(pieces.len()))
}

/// PROC_CREATE: reserves a process slot (the first free dynamic one for `None`).
pub fn proc_create(slot: Option<i32>, name: &str, privilege: u32, priority: u32) -> Result<Endpoint> {
    let mut request = kcall::ProcCreate::new_zeroed();
    request.slot = slot.unwrap_or(-1);
    request.privilege = privilege;
    request.priority = priority;
    // The last byte stays NUL.
    for (place, byte) in request.name.iter_mut().take(15).zip(name.bytes()) {
        *place = byte;
    }
    simple(kcall::PROC_CREATE, &request)
        .map(|message| Endpoint::from_raw(message.get::<kcall::ProcCreate>().endpoint))
}

/// PROC_START: first run, or again with a new program.
pub fn proc_start(endpoint: Endpoint, rip: u64, rsp: u64, argument: u64, root: u64) -> Result<()> {
    let request = kcall::ProcStart { endpoint: endpoint.raw(), reserved: 0, rip, rsp, argument, root };
    simple(kcall::PROC_START, &request).map(drop)
}

/// PROC_FORK: a copy of `parent`, which waits for an answer of PM, in the address space `root`. The copy waits for PM, too.
pub fn proc_fork(parent: Endpoint, root: u64) -> Result<Endpoint> {
    let request = kcall::ProcFork { parent: parent.raw(), child: 0, root };
    simple(kcall::PROC_FORK, &request)
        .map(|message| Endpoint::from_raw(message.get::<kcall::ProcFork>().child))
}

/// PROC_EXIT: removes a process.
pub fn proc_exit(endpoint: Endpoint) -> Result<()> {
    simple(kcall::PROC_EXIT, &kcall::Target { endpoint: endpoint.raw(), reserved: 0 }).map(drop)
}

/// PROC_SET: class (USER or TEST) and name of a program.
pub fn proc_set(endpoint: Endpoint, privilege: u32, name: &str) -> Result<()> {
    let mut request = kcall::ProcSet { endpoint: endpoint.raw(), privilege, name: [0; 16] };
    // The last byte stays NUL.
    for (place, byte) in request.name.iter_mut().take(15).zip(name.bytes()) {
        *place = byte;
    }
    simple(kcall::PROC_SET, &request).map(drop)
}

/// PROC_STOP: the process runs no more.
pub fn proc_stop(endpoint: Endpoint) -> Result<()> {
    simple(kcall::PROC_STOP, &kcall::Target { endpoint: endpoint.raw(), reserved: 0 }).map(drop)
}

/// PROC_INFO of a slot.
pub fn proc_info(slot: i32) -> Result<kcall::ProcInfo> {
    let mut request = kcall::ProcInfo::new_zeroed();
    request.slot = slot;
    simple(kcall::PROC_INFO, &request).map(|message| message.get())
}

/// Operations of IRQCTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqOperation {
    /// Send HARDWARE notifications of the line to the caller.
    Route = 1,
    /// Let the next interrupt through.
    Unmask = 2,
    /// Hold interrupts back.
    Mask = 3,
    /// End the routing.
    Release = 4,
}

/// IRQCTL.
pub fn irqctl(operation: IrqOperation, line: u32) -> Result<()> {
    simple(kcall::IRQCTL, &kcall::Irq { operation: operation as u32, line }).map(drop)
}

/// DEVIO_OUT: bytes to an I/O port, at most 4096.
pub fn devio_out(port: u32, bytes: &[u8]) -> Result<()> {
    let address = bytes.as_ptr() as usize as u64;
    let request = kcall::DevIo { port, reserved: 0, address, bytes: bytes.len() as u64 };
    // SAFETY: the bytes are only read.
    unsafe { call(kcall::DEVIO_OUT, &request) }.0.map(drop)
}

/// DEVIO_IN: what the serial console has received, as far as the answer has room.
pub fn devio_in() -> Result<kcall::DevIn> {
    simple(kcall::DEVIO_IN, &kcall::DevIn::default()).map(|message| message.get())
}

/// SETALARM: a CLOCK notification in `microseconds`; 0 cancels.
pub fn setalarm(microseconds: u64) -> Result<()> {
    set_alarm(microseconds).map(drop)
}

/// SHUTDOWN: ends the machine; returns only on failure.
pub fn shutdown(status: i64) -> Result<()> {
    simple(kcall::SHUTDOWN, &Status { result: status }).map(drop)
}

/// DIAG: one piece of text, cut at 48 bytes.
pub fn diag(text: &[u8]) -> Result<()> {
    let mut request = kcall::Diag { length: 0, text: [0; 48] };
    for (place, byte) in request.text.iter_mut().zip(text) {
        *place = *byte;
        request.length += 1;
    }
    simple(kcall::DIAG, &request).map(drop)
}

/// REPORT: a text record for the monitor, at most [`kcall::REPORT_MAX`] bytes.
pub fn report(text: &str) -> Result<()> {
    let request = kcall::Report { address: text.as_ptr() as usize as u64, bytes: text.len() as u64 };
    // SAFETY: the text is only read.
    unsafe { call(kcall::REPORT, &request) }.0.map(drop)
}

/// EVENT: tells the monitor that a point was reached.
pub fn event(code: u32, value: u32) -> Result<()> {
    simple(kcall::EVENT, &kcall::Event { code, value }).map(drop)
}

/// NULL: nothing, for benchmarks.
pub fn null() -> Result<()> {
    simple(kcall::NULL, &Status { result: 0 }).map(drop)
}

/// VMCTL with everything in and out.
pub fn vmctl(request: &kcall::VmCtl) -> Result<kcall::VmCtl> {
    simple(kcall::VMCTL, request).map(|message| message.get())
}

/// COUNTER: the value of a counter of the guest. Servers and tests.
pub fn counter(which: refault_abi::counters::Counter) -> Result<u64> {
    let request = kcall::CounterValue { index: which as u64, value: 0 };
    simple(kcall::COUNTER, &request).map(|message| message.get::<kcall::CounterValue>().value)
}

/// ARGUMENT: the number that whoever started the machine left for its program. ENXIO without a monitor that has one.
pub fn argument() -> Result<u64> {
    simple(kcall::ARGUMENT, &kcall::Argument::default()).map(|message| message.get::<kcall::Argument>().value)
}

/// AWAY: the page of the caller's memory at `address` is taken away at the second stage, for `times` accesses. ENXIO
/// without a monitor that does it, EFAULT without such a page. Tests.
pub fn away(address: u64, times: u64) -> Result<()> {
    away_pages(address, 1, times)
}

/// AWAY of so many pages from `address` on, at most [`kcall::AWAY_PAGES`], in one call.
pub fn away_pages(address: u64, pages: u64, times: u64) -> Result<()> {
    simple(kcall::AWAY, &kcall::Away { address, times, pages }).map(drop)
}

/// GRANT_INFO: entry `index` of the grant table of `endpoint`. Servers and tests.
pub fn grant_info(endpoint: Endpoint, index: u32) -> Result<kcall::GrantInfo> {
    let request = kcall::GrantInfo { endpoint: endpoint.raw(), index, ..Default::default() };
    simple(kcall::GRANT_INFO, &request).map(|message| message.get())
}

/// SETGRANT_TEMPORARY: a table of the caller that for a while answers for `owner`. Servers and tests.
pub fn setgrant_temporary(address: u64, entries: u64, owner: Endpoint) -> Result<()> {
    let request = kcall::SetGrant { address, entries, owner: owner.raw(), reserved: 0 };
    simple(kcall::SETGRANT_TEMPORARY, &request).map(drop)
}
