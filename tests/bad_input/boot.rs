//! Kernels and boot images that cannot be booted, or not for long.
//!
//! The one thing to hold in mind: up to the first instruction it is the command that has to find the mistake and name the file;
//! from then on it is the guest, whose panic must be readable and has an exit code of its own.

use std::ffi::OsString;

use refault::guest_image::{BOOT_IMAGE, KERNEL};
use refault::micro;

use crate::common::command::REFAULT;
use crate::common::{Need, Suite};
use crate::{Place, THREE, code, option, refused};

/// Files given to `--kernel`.
pub fn kernels(suite: &mut Suite) {
    let mut case = |name: &str, words, make: fn(&Place) -> OsString| {
        let name = format!("kernel::{name}");
        refused(suite, &name, &[Need::Kvm], code::KERNEL, words, move |place| {
            option("--kernel", make(place))
        });
    };
    case("missing", &["nowhere.elf", "No such file"], |place| place.path("nowhere.elf").into());
    case("directory", &["cannot be read", "directory"], |place| place.0.path().into());
    case("empty", &["the-kernel", "not an ELF"], |place| place.file("the-kernel", b""));
    case("script", &["the-kernel", "not an ELF", "vmlinux"], |place| {
        place.file("the-kernel", b"#!/bin/sh\n")
    });
    case("bzimage", &["the-kernel", "not an ELF", "uncompressed"], |place| {
        place.file("the-kernel", &[&[0xea, 5, 0, 0xc0, 7], [0; 4096].as_slice()].concat())
    });
    case("of_another_machine", &["the-kernel", "not a 64-bit little-endian x86-64"], |place| {
        let mut image = micro::elf(&THREE, 0x10_0000, 0x10_0000);
        image[18] = 183;
        place.file("the-kernel", &image)
    });
    case("program", &["PVH", "first MiB", "vmlinux"], |_| REFAULT.into());
    case("without_note", &["the-kernel", "PVH", "CONFIG_PVH"], |place| {
        let mut image = micro::elf(&THREE, 0x10_0000, 0x10_0000);
        image[64 + 2 * 56 + 8] = 17;
        place.file("the-kernel", &image)
    });
    case("truncated", &["the-kernel", "truncated"], |place| {
        place.file("the-kernel", &KERNEL[..KERNEL.len() / 3])
    });
    case("entered_elsewhere", &["the-kernel", "entry point 0x900000"], |place| {
        place.file("the-kernel", &micro::elf(&THREE, 0x10_0000, 0x90_0000))
    });
    case("larger_than_memory", &["the-kernel", "0x4000000", "--mem"], |place| {
        place.file("the-kernel", &micro::elf(&vec![0; 80 << 20], 0x10_0000, 0x10_0000))
    });
    let name = "kernel::memory_smaller_than_the_built_in_one";
    refused(suite, name, &[Need::Kvm], code::KERNEL, &["does not fit", "--mem"], |_| option("--mem", "4M"));
    let name = "kernel::long_command_line";
    refused(suite, name, &[Need::Kvm], code::KERNEL, &["command line", "2047", "--cmdline"], |_| {
        option("--cmdline", "x".repeat(5_000))
    });
}

/// Where the name of `file` stands in a boot image: behind a header of 110 bytes that begins with the magic number.
fn name_of(image: &[u8], file: &str) -> usize {
    let name = [file.as_bytes(), b"\0"].concat();
    let is_header =
        |at: usize| image.get(at..at + 6) == Some(b"070701") && image[at + 110..].starts_with(&name);
    110 + (0..image.len() - 110).find(|at| is_header(*at)).unwrap()
}

/// The built-in boot image with `damage` done to the header of `file` and to its contents.
fn boot_image(file: &str, damage: impl FnOnce(&mut [u8], &mut [u8])) -> Vec<u8> {
    let mut image = BOOT_IMAGE.to_vec();
    let at = name_of(&image, file);
    let data = at + image[at..].windows(4).position(|window| window == b"\x7fELF").unwrap();
    let (header, contents) = image.split_at_mut(data);
    damage(&mut header[at..at + file.len()], contents);
    image
}

/// Files given to `--initrd`.
pub fn boot_images(suite: &mut Suite) {
    let mut case = |name: &str, code, words, make: fn(&Place) -> OsString| {
        let name = format!("boot_image::{name}");
        refused(suite, &name, &[Need::Kvm], code, words, move |place| option("--initrd", make(place)));
    };
    case("missing", code::KERNEL, &["nowhere", "No such file"], |place| place.path("nowhere").into());
    case("empty", code::KERNEL, &["boot.cpio", "empty"], |place| place.file("boot.cpio", b""));
    case("too_large", code::KERNEL, &["does not fit", "--mem"], |place| {
        let path = place.path("boot.cpio");
        std::fs::File::create(&path).unwrap().set_len(70 << 20).unwrap();
        path.into()
    });
    // What the guest makes of it: a panic that can be read, and its own exit code.
    case("garbage", code::PANIC, &["kernel panic: boot: no file `vm`", "kernel_start"], |place| {
        place.file("boot.cpio", &[0x5a; 100_000])
    });
    case("without_vm", code::PANIC, &["kernel panic: boot: no file `vm`", "kernel_start"], |place| {
        place.file("boot.cpio", &boot_image("vm", |name, _| name.copy_from_slice(b"xx")))
    });
    case("damaged_vm", code::PANIC, &["kernel panic: boot: `vm`: not a static x86-64 ELF"], |place| {
        place.file("boot.cpio", &boot_image("vm", |_, contents| contents[..64].fill(0)))
    });
    case("without_vfs", 1, &["vm: vfs is not in the boot image"], |place| {
        place.file("boot.cpio", &boot_image("vfs", |name, _| name.copy_from_slice(b"xxx")))
    });
    case("damaged_mfs", 1, &["vm: mfs cannot be started", "ENOEXEC"], |place| {
        place.file("boot.cpio", &boot_image("mfs", |_, contents| contents[..64].fill(0)))
    });
    case("damaged_program", 126, &["`echo` cannot be run", "ENOEXEC"], |place| {
        place.file("boot.cpio", &boot_image("bin/echo", |_, contents| contents[..64].fill(0)))
    });
    case("truncated", 1, &["is not in the boot image"], |place| {
        // Without the file in whose header it ends, and all behind that.
        place.file("boot.cpio", &BOOT_IMAGE[..name_of(BOOT_IMAGE, "vfs")])
    });
}
