//! The guest that this program contains: kernel and boot image, built together with it.

/// The kernel, an ELF file with a PVH note.
pub static KERNEL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernel.elf"));

/// The boot image with servers and programs, a cpio archive.
pub static BOOT_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/boot.img"));

/// A boot image in which the kernel's self-test has the place of `vm`: the kernel tested alone.
pub static SELFTEST_IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/selftest.img"));
