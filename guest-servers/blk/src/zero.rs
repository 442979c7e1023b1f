//! The endless source of zeroes: reading fills the user's memory by SAFEMEMSET, writing is forgotten.
//!
//! The one thing to hold in mind: whether a page that is away suspends this driver is decided by the grant and the kernel's
//! mode. Without CPF_TRY, or where the kernel does not honour it here, the driver waits for VM, which may wait for a file
//! system that waits for this driver.

use refault_abi::cdev::{self, Transfer};
use refault_abi::{Errno, GrantId, Message, Result};
use refault_rt::kernel;
use refault_rt::server::Answer;

/// READ or WRITE.
pub fn serve(message: &Message) -> Answer {
    let transfer: Transfer = message.get();
    if transfer.minor != cdev::ZERO {
        return Answer::unit(Err(Errno::ENXIO));
    }
    match message.kind() {
        cdev::READ => Answer::status(fill(message, &transfer)),
        _ => Answer::status(Ok(transfer.bytes)),
    }
}

/// Bytes filled by one kernel call, during which nobody else runs.
const PIECE: u64 = 64 << 10;

/// The whole, or the error: VFS repeats the whole, whatever part of it has been filled.
fn fill(message: &Message, transfer: &Transfer) -> Result<u64> {
    let mut done = 0u64;
    while done < transfer.bytes {
        let count = PIECE.min(transfer.bytes - done);
        kernel::safememset(message.sender(), GrantId(transfer.grant), done, count, 0).whole()?;
        done += count;
    }
    Ok(done)
}
