//! A program file, made by hand: the smallest ELF file with a text, a data and a longer bss segment.
//!
//! It ends with [`PROGRAM_STATUS`] if its bss is zero, although the file goes on with other bytes behind the data, and with one
//! more if it is not.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::{PAGE, STUB};
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC};
use refault_abi::{layout, pm};
use refault_rt::user;

use super::suite::{Explain, expect};

/// The program's exit status.
pub const PROGRAM_STATUS: i64 = 42;

/// First address of the data segment; the message lies there.
const DATA: u32 = layout::TEXT as u32 + PAGE as u32;
/// Bytes of data in the file: one message.
const DATA_BYTES: u32 = 64;
/// Bytes of the data segment in memory.
const DATA_MEMORY: u32 = 2 * PAGE as u32;
/// Where the code begins in the first page.
const CODE: u32 = 0x100;

/// The instructions.
fn code() -> Vec<u8> {
    let mut code = Vec::new();
    let mut put = |bytes: &[u8], operand: Option<u32>| {
        code.extend_from_slice(bytes);
        code.extend(operand.into_iter().flat_map(u32::to_le_bytes));
    };
    // al: bytes right behind the data, at the end of its page, on the next page.
    put(&[0x8a, 0x04, 0x25], Some(DATA + DATA_BYTES));
    put(&[0x0a, 0x04, 0x25], Some(DATA + PAGE as u32 - 1));
    put(&[0x0a, 0x04, 0x25], Some(DATA + PAGE as u32));
    // test al, al; je over the next instruction
    put(&[0x84, 0xc0, 0x74, 11], None);
    // mov dword [message + 8], another status
    put(&[0xc7, 0x04, 0x25], Some(DATA + 8));
    put(&[], Some(PROGRAM_STATUS as u32 + 1));
    // edi: SENDREC; esi: to and from PM, which is 0; edx: the message; eax: the stub
    put(&[0xbf], Some(3));
    put(&[0x31, 0xf6], None);
    put(&[0xba], Some(DATA));
    put(&[0xb8], Some(STUB as u32));
    // and rsp, -16; call rax; ud2
    put(&[0x48, 0x83, 0xe4, 0xf0, 0xff, 0xd0, 0x0f, 0x0b], None);
    code
}

/// The file.
pub fn program() -> Vec<u8> {
    let mut file = vec![0; PAGE as usize];
    let mut header: Vec<u8> = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for (value, bytes) in [
        // Executable, x86-64, version, entry, program headers, no section headers, flags.
        (2u64, 2usize),
        (62, 2),
        (1, 4),
        (layout::TEXT + u64::from(CODE), 8),
        (64, 8),
        (0, 8),
        (0, 4),
        // Sizes: this header, a program header, two of them; no section headers.
        (64, 2),
        (56, 2),
        (2, 2),
        (64, 2),
        (0, 2),
        (0, 2),
        // PT_LOAD, read and execute: offset, address, address, bytes in the file, in memory, alignment.
        (1, 4),
        (5, 4),
        (0, 8),
        (layout::TEXT, 8),
        (layout::TEXT, 8),
        (PAGE, 8),
        (PAGE, 8),
        (PAGE, 8),
        // PT_LOAD, read and write.
        (1, 4),
        (6, 4),
        (PAGE, 8),
        (u64::from(DATA), 8),
        (u64::from(DATA), 8),
        (u64::from(DATA_BYTES), 8),
        (u64::from(DATA_MEMORY), 8),
        (PAGE, 8),
    ] {
        header.extend(value.to_le_bytes().into_iter().take(bytes));
    }
    for (at, bytes) in [(0, header), (CODE as usize, code())] {
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
    }
    // The message, then what must not be seen.
    file.extend_from_slice(&0u32.to_le_bytes());
    file.extend_from_slice(&u32::from(pm::EXIT).to_le_bytes());
    file.extend_from_slice(&PROGRAM_STATUS.to_le_bytes());
    file.resize((PAGE + u64::from(DATA_BYTES)) as usize, 0);
    file.resize(2 * PAGE as usize, 0xff);
    file
}

/// Writes it to a file of the disk.
pub fn make_program(path: &str) -> Result<(), String> {
    let file = user::open(path, O_RDWR | O_CREAT | O_TRUNC, 0o755).explain(path)?;
    let bytes = program();
    expect("bytes of the program", user::write(file, &bytes).explain(path)?, bytes.len())?;
    user::close(file).explain(path)
}
