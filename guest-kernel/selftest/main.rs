//! `kselftest`: tests the kernel alone. It takes VM's place in a boot image and needs no other server.
//!
//! The one thing to hold in mind: this program is VM, so it must not wait for a process that waits for it. Other
//! processes (agents) run one trap at a time as they are told; an agent of the lowest priority tells when
//! nobody else can run any more. `selftest=` on the command line chooses single cases. Ends the machine with the number of failed checks as its status; with
//! `selftest=crash` on the command line it makes the kernel panic instead.
#![no_std]
#![no_main]

mod agent;
mod bench;
mod family;
mod grants;
mod looks;
mod memory;
mod messages;
mod modes;
mod runtime;
mod second_stage;
mod standstill;
mod trap;
mod world;

use core::fmt::Arguments;
use core::sync::atomic::{AtomicU32, Ordering};

use refault_abi::info::StartInfo;
use refault_abi::kcall;
use refault_abi::message::Status;

use trap::kernel_call;

static CHECKS: AtomicU32 = AtomicU32::new(0);
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// Counts a check and prints it when it fails.
pub fn check(holds: bool, what: Arguments<'_>) {
    CHECKS.fetch_add(1, Ordering::Relaxed);
    if !holds {
        FAILURES.fetch_add(1, Ordering::Relaxed);
        diag!("kselftest: FAILED: {what}");
    }
}

/// Checks that two values are equal.
#[macro_export]
macro_rules! same {
    ($left:expr, $right:expr, $what:literal) => {{
        let (left, right) = (&$left, &$right);
        $crate::check(left == right, format_args!(concat!($what, ": {:?}, expected {:?}"), left, right));
    }};
}

extern "C" fn start(_: *const StartInfo) -> ! {
    let mut world = world::World::new();
    if world.info().cmdline().split(' ').any(|word| word == "selftest=crash") {
        // The kernel cannot go on without VM: this must end in a readable panic.
        // SAFETY: there is nothing at this address, which is the point.
        unsafe { core::ptr::with_exposed_provenance_mut::<u64>(0x10).write_volatile(0) };
    }
    let has = |word: &str| world.info().cmdline().split(' ').any(|other| other == word);
    let faithful = has("mode=faithful");
    let chosen = world.info().cmdline().split(' ').find_map(|word| word.strip_prefix("selftest="));
    match chosen {
        Some("second-stage") => second_stage::run(&mut world),
        Some("silence") => standstill::silence(&mut world),
        Some("circle") => standstill::circle(&mut world),
        Some("livelock") => standstill::livelock(&mut world),
        // By itself, because PM must be the first one in its slot.
        Some("family") => family::run(&mut world),
        Some("looks") => looks::run(&mut world),
        Some("modes") => modes::run(&mut world, faithful),
        Some("busy") => standstill::busy(&mut world, 200),
        _ if faithful => {
            messages::run(&mut world);
            modes::run(&mut world, faithful);
            memory::run(&mut world);
        }
        _ => {
            messages::run(&mut world);
            grants::run(&mut world);
            looks::run(&mut world);
            modes::run(&mut world, faithful);
            memory::run(&mut world);
            bench::run(&mut world);
        }
    }
    let (checks, failures) = (CHECKS.load(Ordering::Relaxed), FAILURES.load(Ordering::Relaxed));
    diag!("kselftest: {checks} checks, {failures} failures");
    let (result, _) = kernel_call(kcall::SHUTDOWN, &Status { result: i64::from(failures.min(100)) });
    panic!("SHUTDOWN came back with {result}");
}

core::arch::global_asm!(
    ".section .text._start,\"ax\",@progbits",
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    ".text",
    start = sym start,
);
