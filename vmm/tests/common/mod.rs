//! What tests with machines share: micro-guests, a runtime, and the loud skip.

#![allow(dead_code)]

use std::arch::global_asm;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use refault::guest_image;
use refault::micro;
use refault::snapshot::Session;
use refault::suite::{DiskKind, disk};
use refault::vm::config::{Console, Disk};
use refault::vm::console::Capture;
use refault::vm::{Config, Outcome, Vm};

global_asm!(include_str!("../micro/machine.s"), options(att_syntax, raw));
global_asm!(include_str!("../micro/away.s"), options(att_syntax, raw));

unsafe extern "C" {
    static micro_machine: u8;
    static micro_machine_end: u8;
    static micro_away: u8;
    static micro_away_end: u8;
}

/// Where micro-guests are loaded and entered.
const LOAD: u32 = 0x10_0000;

/// Everything a kernel needs from a machine, one letter each.
pub fn machine_guest() -> Vec<u8> {
    // SAFETY: both symbols delimit one contiguous read-only object of the assembly above.
    let code = unsafe {
        let start = &raw const micro_machine;
        std::slice::from_raw_parts(start, (&raw const micro_machine_end).offset_from_unsigned(start))
    };
    micro::elf(code, LOAD, LOAD)
}

/// A guest whose pages go away.
pub fn away_guest() -> Vec<u8> {
    // SAFETY: as above.
    let code = unsafe {
        let start = &raw const micro_away;
        std::slice::from_raw_parts(start, (&raw const micro_away_end).offset_from_unsigned(start))
    };
    micro::elf(code, LOAD, LOAD)
}

/// A guest that writes `status` to the exit port.
pub fn exit_guest(status: u32) -> Vec<u8> {
    let mut code = vec![0xb8]; // mov $status, %eax
    code.extend_from_slice(&status.to_le_bytes());
    code.extend_from_slice(&[0xba, 0xf4, 0, 0, 0, 0xef, 0xf4]); // mov $0xf4, %edx; out; hlt
    micro::elf(&code, LOAD, LOAD)
}

/// A guest whose kernel says at the doorbell that it panicked, and then ends with `status`.
pub fn panicking_guest(status: u8) -> Vec<u8> {
    let mut code = Vec::new();
    for (register, value) in [(0xd010_0058_u32, 6_u32), (0xd010_005c, 0)] {
        code.extend_from_slice(&[0xc7, 0x05]); // movl $value, register
        code.extend_from_slice(&register.to_le_bytes());
        code.extend_from_slice(&value.to_le_bytes());
    }
    code.extend_from_slice(&[0xb0, status, 0xe6, 0xf4, 0xf4]); // mov $status, %al; out %al, $0xf4; hlt
    micro::elf(&code, LOAD, LOAD)
}

/// A guest that begins a measurement, enters its kernel as far as anybody can tell, begins another one, and then
/// executes some two thousand instructions before it ends.
pub fn measuring_guest() -> Vec<u8> {
    let begin = [(0xd010_0058_u32, 7_u32), (0xd010_005c, 1)].map(|(register, value)| {
        let [register, value] = [register, value].map(u32::to_le_bytes);
        [&[0xc7, 0x05][..], &register, &value].concat() // movl $value, register
    });
    let mut code = begin.concat();
    code.extend_from_slice(&[0xe6, 0xe0]); // out %al, $0xe0
    code.extend(begin.concat());
    code.extend_from_slice(&[0xb9, 0xe8, 0x03, 0, 0, 0x49, 0x75, 0xfd]); // mov $1000, %ecx; 1: dec %ecx; jnz 1b
    code.extend_from_slice(&[0xb0, 0, 0xe6, 0xf4, 0xf4]); // mov $0, %al; out %al, $0xf4; hlt
    micro::elf(&code, LOAD, LOAD)
}

/// A guest that says it is ready, then adds one to a word of its memory and ends with that word's value plus the low half of the
/// doorbell's ARGUMENT.
pub fn ready_guest() -> Vec<u8> {
    let mut code = Vec::new();
    for (register, value) in [(0xd010_0058_u32, 5_u32), (0xd010_005c, 0)] {
        code.extend_from_slice(&[0xc7, 0x05]); // movl $value, register
        code.extend_from_slice(&register.to_le_bytes());
        code.extend_from_slice(&value.to_le_bytes());
    }
    code.extend_from_slice(&[0xff, 0x05, 0, 0, 0x20, 0]); // incl 0x200000
    code.extend_from_slice(&[0x8b, 0x0d, 0, 0, 0x20, 0]); // mov 0x200000, %ecx
    code.extend_from_slice(&[0xa1, 0x70, 0, 0x10, 0xd0]); // mov ARGUMENT, %eax
    code.extend_from_slice(&[0x01, 0xc8]); // add %ecx, %eax
    code.extend_from_slice(&[0xba, 0xf4, 0, 0, 0, 0xef, 0xf4]); // mov $0xf4, %edx; out; hlt
    micro::elf(&code, LOAD, LOAD)
}

/// A guest that never ends.
pub fn endless_guest() -> Vec<u8> {
    micro::elf(&[0xeb, 0xfe], LOAD, LOAD) // jmp .
}

/// A guest without a single descriptor table that executes UD2.
pub fn crashing_guest() -> Vec<u8> {
    micro::elf(&[0x0f, 0x0b], LOAD, LOAD)
}

/// Tests skipped so far in this binary.
static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether machines can run here; says loudly, with the count so far, that `test` cannot if not.
pub fn kvm_or_skip(test: &str) -> bool {
    match refault::host::open_kvm() {
        Ok(_) => true,
        Err(why) => {
            let count = SKIPPED.fetch_add(1, SeqCst) + 1;
            // Past the harness, which keeps what a test that passes prints with a macro.
            let line = format!("*** SKIPPED ({count} so far): {test} needs a machine, and {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            false
        }
    }
}

/// A configuration for a micro-guest, and where its output goes.
pub fn config(kernel: Vec<u8>) -> (Config, Capture) {
    let capture = Capture::default();
    let config = Config {
        memory: 16 << 20,
        console: Console { output: Box::new(capture.clone()), input: None },
        timeout: Some(Duration::from_secs(60)),
        ..Config::new(kernel)
    };
    (config, capture)
}

/// Runs a machine to its end.
pub fn run(config: Config) -> Outcome {
    runtime().block_on(Vm::start(config).unwrap().run())
}

/// RAM of the real guest in sessions, in bytes.
pub const GUEST_RAM: u64 = 32 << 20;

/// A session of the campaigns' program on the standard test disk.
pub async fn guest_session() -> Session {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    std::fs::write(&path, disk::image(DiskKind::Standard).unwrap()).unwrap();
    let config = Config {
        image: Some(Arc::from(guest_image::BOOT_IMAGE)),
        program: vec!["sys_exercise".into()],
        disks: vec![Disk::new(path)],
        memory: GUEST_RAM,
        ..Config::new(guest_image::KERNEL)
    };
    Session::boot(config).await.unwrap()
}

/// A tokio runtime as the command has it.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
