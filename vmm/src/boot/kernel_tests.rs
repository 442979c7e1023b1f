//! Files that are kernels, and files that are not.

use super::*;
use crate::memory::MIN_RAM;
use crate::micro;
use vm_memory::{Bytes, GuestAddress};

const LOAD: u32 = 0x10_0000;

fn ram() -> GuestRam {
    GuestRam::new(MIN_RAM).unwrap()
}

/// A good kernel of 16 bytes with one byte changed.
fn damaged(at: usize, value: u8) -> Vec<u8> {
    let mut image = micro::elf(&[0x90; 16], LOAD, LOAD);
    image[at] = value;
    image
}

#[test]
fn a_kernel_is_loaded_where_it_wants_to_be() {
    let ram = ram();
    let loaded = load(&ram, &micro::elf(&[1, 2, 3], LOAD, LOAD + 1)).unwrap();
    assert_eq!(loaded.entry, u64::from(LOAD) + 1);
    assert_eq!(loaded.occupied, vec![u64::from(LOAD)..u64::from(LOAD) + 3]);
    let mut bytes = [0; 3];
    ram.device_view().read_slice(&mut bytes, GuestAddress(LOAD.into())).unwrap();
    assert_eq!(bytes, [1, 2, 3]);
}

#[test]
fn what_is_no_elf_is_named() {
    assert_eq!(load(&ram(), b""), Err(KernelError::NotElf(vec![])));
    assert_eq!(load(&ram(), b"#!/bin/sh\n"), Err(KernelError::NotElf(b"#!/b".to_vec())));
    // 32-bit class, big endian, another machine.
    for (at, value) in [(4, 1), (5, 2), (18, 3)] {
        assert_eq!(load(&ram(), &damaged(at, value)), Err(KernelError::WrongElf));
    }
}

#[test]
fn no_pvh_note_is_no_kernel() {
    // The note's type.
    let at = 64 + 2 * 56 + 8;
    assert_eq!(load(&ram(), &damaged(at, 17)), Err(KernelError::NoPvhNote));
}

#[test]
fn what_does_not_fit_is_measured() {
    let big = micro::elf(&vec![0; 2 << 20], LOAD, LOAD);
    assert!(matches!(load(&ram(), &big), Err(KernelError::DoesNotFit { ram_end: MIN_RAM, .. })));
    let low = micro::elf(&[0; 16], 0x8000, 0x8000);
    assert_eq!(load(&ram(), &low), Err(KernelError::TooLow(0x8000)));
    let outside = micro::elf(&[0; 16], LOAD, LOAD + 16);
    assert_eq!(load(&ram(), &outside), Err(KernelError::EntryOutside(u64::from(LOAD) + 16)));
}

#[test]
fn a_truncated_file_is_refused_at_every_length() {
    let image = micro::elf(&[0x90; 64], LOAD, LOAD);
    for length in 0..image.len() {
        assert!(load(&ram(), &image[..length]).is_err(), "{length} bytes");
    }
    assert!(load(&ram(), &image).is_ok());
}

#[test]
fn no_byte_of_the_headers_can_do_harm() {
    let ram = ram();
    for at in 0..64 + 2 * 56 + 20 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let _ = load(&ram, &damaged(at, value));
        }
    }
}
