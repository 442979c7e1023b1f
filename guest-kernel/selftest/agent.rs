//! An agent: a process that executes one trap at a time as VM tells it and reports what came of it.

use refault_abi::ipc::Call;
use refault_abi::{Endpoint, Message};

use crate::trap::{primitive, trap};

/// Order: message type is this plus the call number; payload: peers, then six message words.
pub const ORDER: u16 = 0x7000;
/// Order: read the byte at payload word 0 (write it, if word 1 is 1); word 2 is the byte.
pub const TOUCH: u16 = 0x7100;
/// Order: execute an invalid instruction.
pub const INVALID: u16 = 0x7101;
/// Order: loop for ever, adding to the word at payload word 0.
pub const SPIN: u16 = 0x7102;
/// Order: repeat the trap of word 0 (call), 1 (peers), 2 (count), message words from word 3 on.
pub const REPEAT: u16 = 0x7103;
/// Order: execute SYSCALL as 32-bit code, of which the processor may make a way into ring 0 of its own.
pub const NARROW: u16 = 0x7104;
/// Report: payload: result in the low half of word 0, status in the high half, then six message words.
pub const REPORT: u16 = 0x7200;

/// An agent's program.
pub extern "C" fn main() -> ! {
    loop {
        let mut order = Message::default();
        let (result, _) = primitive(Call::Receive, Endpoint::NONE, Endpoint::VM, &mut order);
        if result != 0 {
            continue;
        }
        let mut report = Message::bare(REPORT);
        match order.kind() {
            TOUCH => {
                let place = core::ptr::with_exposed_provenance_mut::<u8>(order.payload[0] as usize);
                // SAFETY: VM chose an address that is the agent's, present or not.
                report.payload[0] = unsafe {
                    if order.payload[1] == 1 {
                        place.write_volatile(order.payload[2] as u8);
                    }
                    u64::from(place.read_volatile())
                };
            }
            // SAFETY: it ends this process.
            INVALID => unsafe { core::arch::asm!("ud2") },
            // SAFETY: it ends this process, at the latest at the invalid instruction.
            NARROW => unsafe {
                core::arch::asm!("lea {0}, [rip + 2f]", "push 0x1b", "push {0}", "retfq", "2: syscall", "ud2", out(reg) _)
            },
            SPIN => loop {
                let place = core::ptr::with_exposed_provenance_mut::<u64>(order.payload[0] as usize);
                // SAFETY: VM chose an address that is the agent's.
                unsafe { place.write_volatile(place.read_volatile().wrapping_add(1)) };
            },
            REPEAT => {
                let [call, peers, count, words @ ..] = order.payload;
                for _ in 0..count {
                    let mut message = with_words(&words);
                    let (result, status) = trap(call, peers, &mut message);
                    report.payload[0] = outcome(result, status);
                }
            }
            kind => {
                let [peers, words @ ..] = order.payload;
                let mut message = with_words(&words);
                let (result, status) = trap(u64::from(kind.wrapping_sub(ORDER)), peers, &mut message);
                report.payload[0] = outcome(result, status);
                report.payload[1] = u64::from(message.source as u32) | u64::from(message.mtype) << 32;
                report.payload[2..7].copy_from_slice(&message.payload[..5]);
            }
        }
        primitive(Call::Send, Endpoint::VM, Endpoint::NONE, &mut report);
    }
}

fn outcome(result: i64, status: u64) -> u64 {
    result.cast_unsigned() & 0xffff_ffff | status << 32
}

/// A message from its first words.
fn with_words(words: &[u64]) -> Message {
    let mut message = Message::default();
    if let [head, rest @ ..] = words {
        message.source = *head as i32;
        message.mtype = (head >> 32) as u32;
        for (place, word) in message.payload.iter_mut().zip(rest) {
            *place = *word;
        }
    }
    message
}
