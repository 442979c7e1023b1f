//! The terminal driver: what a program writes goes to the serial console. Reading finds the end of input.
//!
//! The user's memory is copied by a grant without CPF_TRY: an absent page suspends this driver on VM, which
//! nobody who serves VM waits for.
#![no_std]
#![no_main]

use refault_abi::cdev::{self, Transfer};
use refault_abi::{Errno, GrantId, Message, Result};
use refault_rt::server::{self, Answer};
use refault_rt::{diag, kernel};

refault_rt::entry!(main);

/// Data port of the first serial port of a PC.
const PORT: u32 = 0x3f8;
/// Bytes copied and written at once: the most DEVIO_OUT takes.
const PIECE: usize = 4096;

fn main(_args: refault_rt::start::Args) -> i32 {
    let mut piece = [0u8; PIECE];
    server::serve(|request| match request.message.kind() {
        _ if request.delivery.is_notify() => Answer::Later,
        cdev::WRITE => Answer::status(write(&request.message, &mut piece)),
        cdev::READ => Answer::status(Ok(0)),
        kind => {
            diag!("tty: request {kind:#x} from {}", request.message.source);
            Answer::status(Err(Errno::EBADREQUEST))
        }
    })
}

/// Writes everything, or what could be copied before an error.
fn write(message: &Message, piece: &mut [u8; PIECE]) -> Result<u64> {
    let transfer: Transfer = message.get();
    let mut done = 0u64;
    while done < transfer.bytes {
        let count = usize::try_from(transfer.bytes - done).unwrap_or(PIECE).min(PIECE);
        let Some(part) = piece.get_mut(..count) else { break };
        let moved = kernel::safecopy_from(message.sender(), GrantId(transfer.grant), done, part);
        let whole = usize::try_from(moved.bytes).unwrap_or(0).min(count);
        if let Some(part) = part.get(..whole)
            && !part.is_empty()
        {
            kernel::devio_out(PORT, part)?;
        }
        done += whole as u64;
        match moved.result {
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
            Ok(()) => {}
        }
    }
    Ok(done)
}
