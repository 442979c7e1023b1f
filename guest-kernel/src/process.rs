//! A process as the kernel sees it: registers, why it cannot run, whom it waits for, what it may do.
//!
//! The one thing to hold in mind: a process runs exactly if [`Process::flags`] is zero. What is not here:
//! address spaces (VM builds them; the kernel only loads [`Process::root`]) and policy of any kind.

use refault_abi::Endpoint;
use refault_abi::endpoint::NR_PROCS;
use refault_abi::ipc::Call;
use refault_abi::kcall::{self, WaitTable, privilege, rts};

use crate::frame::Frame;
use crate::vmrequest::{Patience, VmRequest};

/// "No process" in the links between table slots.
pub const NIL: u8 = 0xff;
/// Scheduling levels; 0 goes first.
pub const LEVELS: usize = 16;

/// Pending notification from [`Endpoint::HARDWARE`].
pub const FROM_HARDWARE: u32 = 1;
/// Pending notification from [`Endpoint::CLOCK`].
pub const FROM_CLOCK: u32 = 2;
/// Pending notification about finished asynchronous sends, from [`Endpoint::ASYNCM`].
pub const FROM_ASYNCM: u32 = 4;

/// Signal bit in word 1 of a HARDWARE notification: suspended copies wait for VM.
pub const SIGNAL_KMEM: u64 = 1 << 63;

/// What a class of processes may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Primitives, one bit per [`Call`] number.
    pub traps: u32,
    /// Destinations, one bit per slot.
    pub send: u64,
    /// Kernel calls, one bit per number above [`kcall::BASE`].
    pub calls: u64,
}

/// The bit of a kernel call in [`Rights::calls`].
pub const fn call_bit(number: u16) -> u64 {
    1 << (number.wrapping_sub(kcall::BASE) & 63)
}

const fn bits(numbers: &[u16]) -> u64 {
    let mut all = 0;
    let mut at = 0;
    while at < numbers.len() {
        all |= call_bit(numbers[at]);
        at += 1;
    }
    all
}

const USER_CALLS: u64 = bits(&[kcall::REPORT, kcall::EVENT, kcall::ARGUMENT, kcall::NULL]);
const TEST_CALLS: u64 = USER_CALLS
    | bits(&[
        kcall::SAFECOPYFROM,
        kcall::SAFECOPYTO,
        kcall::VSAFECOPY,
        kcall::SETGRANT,
        kcall::SAFEMEMSET,
        kcall::SETALARM,
        kcall::DIAG,
        kcall::PROC_INFO,
        kcall::GRANT_INFO,
        kcall::COUNTER,
        kcall::AWAY,
        kcall::SETGRANT_TEMPORARY,
        kcall::WAITS,
    ]);
// A server that panics ends the machine itself: PM may be waiting for it, through others.
const SERVER_CALLS: u64 = TEST_CALLS | call_bit(kcall::SHUTDOWN);
const DRIVER_CALLS: u64 =
    SERVER_CALLS | bits(&[kcall::IRQCTL, kcall::DEVIO_IN, kcall::DEVIO_OUT, kcall::VUMAP]);
/// Calls that change processes: PM and VM.
const PROCESS_CALLS: u64 = bits(&[kcall::PROC_CREATE, kcall::PROC_START, kcall::PROC_EXIT, kcall::VIRCOPY]);

const ALL_TRAPS: u32 = u32::MAX;

impl Rights {
    /// The rights of a process of class `class` in `slot`. Some servers have a right by what they are:
    /// process control is PM's and VM's, raw copies also VFS's and TTY's, page faults VM's.
    pub const fn of(class: u32, slot: usize) -> Rights {
        const PM: usize = Endpoint::PM.slot() as usize;
        const VFS: usize = Endpoint::VFS.slot() as usize;
        const TTY: usize = Endpoint::TTY.slot() as usize;
        const VM: usize = Endpoint::VM.slot() as usize;
        let special = match slot {
            PM => PROCESS_CALLS | bits(&[kcall::PROC_SET, kcall::PROC_STOP]),
            VM => PROCESS_CALLS | call_bit(kcall::VMCTL) | call_bit(kcall::PROC_FORK),
            VFS | TTY => call_bit(kcall::VIRCOPY),
            _ => 0,
        };
        match class {
            privilege::SERVER => Rights { traps: ALL_TRAPS, send: u64::MAX, calls: SERVER_CALLS | special },
            privilege::DRIVER => Rights { traps: ALL_TRAPS, send: u64::MAX, calls: DRIVER_CALLS | special },
            privilege::TEST => Rights { traps: ALL_TRAPS, send: u64::MAX, calls: TEST_CALLS },
            _ => Rights {
                traps: Call::SendRec.mask() | Call::Kernel.mask(),
                send: 1 << PM | 1 << VFS | 1 << VM,
                calls: USER_CALLS,
            },
        }
    }
}

/// A granter's table: where it is in the granter's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantTable {
    /// Address, 64-byte aligned.
    pub address: u64,
    /// Entries; 0 when none is registered.
    pub entries: u64,
    /// Whose table it is: another process's while that one is being replaced; NONE when none was ever registered.
    pub owner: Endpoint,
}

impl GrantTable {
    /// None.
    pub const NONE: GrantTable = GrantTable { address: 0, entries: 0, owner: Endpoint::NONE };
}

/// One slot of the process table. 512 bytes, so that indexing is a shift.
#[derive(Clone, Debug)]
#[repr(C, align(512))]
pub struct Process {
    /// Registers; the trap entry writes them.
    pub frame: Frame,
    /// Physical address of the top-level page table.
    pub root: u64,
    /// [`rts`] flags; 0 is runnable.
    pub flags: u32,
    /// This incarnation's endpoint; NONE for a free slot.
    pub endpoint: Endpoint,
    /// Whom a RECEIVING process waits for.
    pub receive_from: Endpoint,
    /// Whom a SENDING process waits for.
    pub send_to: Endpoint,
    /// In the receive half of a SENDREC: notifications and NOREPLY entries must not satisfy it.
    pub reply_pending: bool,
    /// A SENDING process's message is [`Process::kernel_message`], not its registers.
    pub kernel_message_pending: bool,
    /// Scheduling level.
    pub level: u8,
    /// Call number a SENDING process's message is delivered under.
    pub sending_call: u8,
    /// First process sending to this one.
    pub queue_head: u8,
    /// Last process sending to this one.
    pub queue_tail: u8,
    /// Next process sending to the same one.
    pub queue_next: u8,
    /// Next process of the same level that is ready.
    pub ready_next: u8,
    /// Notifications pending from the kernel ([`FROM_HARDWARE`] and so on).
    pub notify_kernel: u32,
    /// Permitted primitives, see [`Rights`].
    pub trap_mask: u32,
    /// One bit per level whose processes would keep this one from running or share its turn.
    pub rivals: u32,
    /// Notifications pending, one bit per sender's slot.
    pub notify: u64,
    /// Senders that may have an asynchronous entry for this process.
    pub async_pending: u64,
    /// Permitted destinations, one bit per slot.
    pub send_mask: u64,
    /// Permitted kernel calls.
    pub call_mask: u64,
    /// Interrupt lines and signals of the next HARDWARE notification.
    pub signals: u64,
    /// Table of asynchronous sends: address in this process's memory.
    pub async_address: u64,
    /// Its length, 0 for none.
    pub async_length: u64,
    /// Grant table.
    pub grants: GrantTable,
    /// Table of what its unfinished requests wait for.
    pub waits: WaitTable,
    /// Time stamp at which the alarm goes off; `u64::MAX` for none.
    pub alarm: u64,
    /// A message the kernel made in this process's name.
    pub kernel_message: [u64; 8],
    /// The request of a suspended kernel call.
    pub vm: VmRequest,
    /// How often the present kernel call has been suspended, and how far it came.
    pub patience: Patience,
    /// Privilege class.
    pub class: u32,
    /// Endpoint the slot's next process gets.
    pub next_endpoint: Endpoint,
    /// Name, NUL padded.
    pub name: [u8; 16],
}

const _: () = assert!(size_of::<Process>() == 512 && NR_PROCS <= 64);

impl Process {
    /// A free slot. Its number is filled in by the table.
    pub const FREE: Process = Process {
        frame: Frame::EMPTY,
        root: 0,
        flags: rts::FREE,
        endpoint: Endpoint::NONE,
        receive_from: Endpoint::NONE,
        send_to: Endpoint::NONE,
        reply_pending: false,
        kernel_message_pending: false,
        level: 0,
        sending_call: 0,
        queue_head: NIL,
        queue_tail: NIL,
        queue_next: NIL,
        ready_next: NIL,
        notify_kernel: 0,
        trap_mask: 0,
        rivals: 0,
        notify: 0,
        async_pending: 0,
        send_mask: 0,
        call_mask: 0,
        signals: 0,
        async_address: 0,
        async_length: 0,
        grants: GrantTable::NONE,
        waits: WaitTable { address: 0, entries: 0 },
        alarm: u64::MAX,
        kernel_message: [0; 8],
        vm: VmRequest::NONE,
        patience: Patience::FRESH,
        class: 0,
        next_endpoint: Endpoint::NONE,
        name: [0; 16],
    };

    /// Levels up to and including `level`, as a mask for [`Process::rivals`].
    pub const fn rivals_of(level: u8) -> u32 {
        (2u32 << (level & 15)) - 1
    }

    /// The name up to its first NUL; `?` when it is not UTF-8.
    pub fn name(&self) -> &str {
        let bytes = self.name.split(|byte| *byte == 0).next().unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_can_neither_end_the_machine_nor_reach_into_others() {
        let servers_only = bits(&[
            kcall::SHUTDOWN,
            kcall::VIRCOPY,
            kcall::PROC_CREATE,
            kcall::PROC_START,
            kcall::PROC_EXIT,
            kcall::PROC_FORK,
            kcall::VMCTL,
            kcall::VUMAP,
            kcall::IRQCTL,
            kcall::DEVIO_OUT,
            kcall::DEVIO_IN,
            kcall::PROC_SET,
            kcall::PROC_STOP,
        ]);
        for slot in Endpoint::FIRST_DYNAMIC_SLOT..NR_PROCS {
            for class in [privilege::USER, privilege::TEST] {
                assert_eq!(Rights::of(class, slot).calls & servers_only, 0);
            }
            let user = Rights::of(privilege::USER, slot);
            assert_eq!(user.traps, Call::SendRec.mask() | Call::Kernel.mask());
            assert_eq!(user.send.count_ones(), 3);
        }
        for slot in [Endpoint::VFS, Endpoint::MFS, Endpoint::VM, Endpoint::PM] {
            let rights = Rights::of(privilege::SERVER, slot.slot() as usize);
            assert_ne!(rights.calls & call_bit(kcall::SHUTDOWN), 0);
        }
    }
}
