//! The guest that this program contains: kernel and boot image, built together with it.

/// The kernel, an ELF file with a PVH note.
pub const KERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernel.elf"));

/// The boot image with servers and programs, a cpio archive.
pub const BOOT_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/boot.img"));
