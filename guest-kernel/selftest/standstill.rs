//! Systems in which nothing goes on, and one that only looks so: run with `watchdog=` and the name of the case as `selftest=`.

use core::cell::UnsafeCell;

use refault_abi::grant::READ;
use refault_abi::ipc::Call;
use refault_abi::kcall::{self, Alarm, Wait, WaitTable, privilege};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Message};

use crate::grants::{ABSENT, DATA, direct};
use crate::same;
use crate::trap::{kernel_call, primitive};
use crate::world::{ARENA, Agent, World, head};

#[repr(align(64))]
struct Table(UnsafeCell<[Wait; 1]>);
// SAFETY: this program has one thread.
unsafe impl Sync for Table {}

static WAITS: Table = Table(UnsafeCell::new([Wait {
    serial: 0,
    subject: 0,
    target: 0,
    target_subject: 0,
    reserved: 0,
    reason: [0; 40],
}]));

/// A copy by `name` in `slot` out of an absent page of another process; whoever it is waits for VM.
fn suspended(world: &mut World, slot: i32, name: &str) -> Agent {
    let granter = world.agent("softread", privilege::SERVER, 6);
    let grantee = world.agent_in(slot, name, privilege::SERVER, 5);
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    let grant = direct(world, &granter, 1, READ, ABSENT, PAGE);
    world.settle();
    world.start_safecopy(&grantee, kcall::SAFECOPYFROM, granter.endpoint, grant, [0, DATA, 8]);
    world.settle();
    grantee
}

/// Receives whatever comes, with an alarm every few milliseconds: neither is progress.
fn beat() -> ! {
    loop {
        kernel_call(kcall::SETALARM, &Alarm { microseconds: 5_000 });
        let mut message = Message::default();
        primitive(Call::Receive, Endpoint::NONE, Endpoint::ANY, &mut message);
    }
}

/// Nothing but alarms.
pub fn silence(world: &mut World) -> ! {
    suspended(world, Endpoint::MFS.slot(), "mfs");
    beat()
}

/// The deadlock that CPF_TRY prevents: the file system waits for VM, VM for VFS, VFS for the file system.
pub fn circle(world: &mut World) -> ! {
    let mfs = suspended(world, Endpoint::MFS.slot(), "mfs");
    let vfs = world.agent_in(Endpoint::VFS.slot(), "vfs", privilege::SERVER, 5);
    world.settle();
    world.order(&vfs, Call::SendRec, mfs.endpoint, mfs.endpoint, &[head(0x61)]);
    world.settle();
    world.memory_request();
    let mut reason = [0; 40];
    reason[..7].copy_from_slice(b"page-in");
    let wait = Wait {
        serial: 1,
        subject: mfs.endpoint.raw(),
        target: Endpoint::VFS.raw(),
        target_subject: Endpoint::SELF.raw(),
        reserved: 0,
        reason,
    };
    // SAFETY: nobody else looks at it before the kernel is told of it.
    unsafe { WAITS.0.get().cast::<Wait>().write_volatile(wait) };
    let table = WaitTable { address: WAITS.0.get() as u64, entries: 1 };
    same!(kernel_call(kcall::WAITS, &table).0, 0, "WAITS");
    beat()
}

/// VM goes round and round with one copy.
pub fn livelock(world: &mut World) -> ! {
    suspended(world, Endpoint::MFS.slot(), "mfs");
    loop {
        if let Some(request) = world.memory_request() {
            world.answer_memory_request(&request, 0);
        }
    }
}

/// Somebody computes for longer than the watchdog's time, and messages go to and fro: no reason to end.
pub fn busy(world: &mut World, milliseconds: u64) {
    let a = world.agent("a", privilege::TEST, 5);
    let end = time_stamp() + 3 * milliseconds * world.info().tsc_khz;
    while time_stamp() < end {
        core::hint::spin_loop();
    }
    same!(world.call(&a, kcall::NULL, &[]).result, 0, "a process after a long computation");
    world.remove(&a);
}

fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads the time stamp.
    unsafe { core::arch::asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) }
    u64::from(low) | u64::from(high) << 32
}
