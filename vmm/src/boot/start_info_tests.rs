//! The start information as a guest reads it.

use super::*;
use crate::layout::HIGH_RAM_START;

const RAM: u64 = 4 << 20;

fn ram() -> GuestRam {
    GuestRam::new(RAM).unwrap()
}

fn read<T: vm_memory::ByteValued>(ram: &GuestRam, gpa: u64) -> T {
    ram.device_view().read_obj(GuestAddress(gpa)).unwrap()
}

#[test]
fn the_guest_finds_map_line_and_module() {
    let ram = ram();
    let kernel = ONE_MIB..ONE_MIB + 0x1000;
    let image = vec![7; 5000];
    let data = BootData {
        command_line: "retry=mark -- cat",
        image: Some(&image),
        kernel: std::slice::from_ref(&kernel),
    };
    let info: hvm_start_info = read(&ram, write(&ram, data).unwrap());
    assert_eq!((info.magic, info.version, info.nr_modules), (START_MAGIC, 1, 1));
    let module: hvm_modlist_entry = read(&ram, info.modlist_paddr);
    assert_eq!((module.paddr, module.size), (RAM - 0x2000, 5000));
    assert_eq!(read::<u8>(&ram, module.paddr + 4999), 7);
    let mut line = [0; 18];
    ram.device_view().read_slice(&mut line, GuestAddress(info.cmdline_paddr)).unwrap();
    assert_eq!(&line, b"retry=mark -- cat\0");
    let last: hvm_memmap_table_entry =
        read(&ram, info.memmap_paddr + 24 * u64::from(info.memmap_entries - 1));
    assert_eq!((last.addr, last.addr + last.size, last.type_), (ONE_MIB, RAM, TYPE_RAM));
}

#[test]
fn without_an_image_there_is_no_module() {
    let ram = ram();
    let at = write(&ram, BootData { command_line: "", image: None, kernel: &[] }).unwrap();
    let info: hvm_start_info = read(&ram, at);
    assert_eq!((info.nr_modules, info.modlist_paddr), (0, 0));
}

#[test]
fn what_does_not_fit_is_refused() {
    let ram = ram();
    let line = "x".repeat(COMMAND_LINE_MAX);
    let write = |line: &str, image: Option<&[u8]>, kernel: &[Range<u64>]| {
        write(&ram, BootData { command_line: line, image, kernel }).map(|_| ())
    };
    assert!(matches!(write(&line, None, &[]), Err(BootError::CommandLineTooLong { .. })));
    assert_eq!(write(&line[1..], None, &[]), Ok(()));
    assert_eq!(write("a\0b", None, &[]), Err(BootError::CommandLineNul(1)));
    let (image, kernel) = (vec![0; 3 << 20], ONE_MIB..ONE_MIB + 1);
    assert_eq!(write("", Some(&image), &[]), Ok(()));
    assert!(matches!(
        write("", Some(&image), std::slice::from_ref(&kernel)),
        Err(BootError::ImageDoesNotFit { .. })
    ));
    assert!(matches!(write("", Some(&vec![0; 4 << 20]), &[]), Err(BootError::ImageDoesNotFit { .. })));
}

#[test]
fn the_map_leaves_out_the_holes() {
    let entries: Vec<(u64, u64, u32)> =
        memory_map(4 << 30).iter().map(|e| (e.addr, e.addr + e.size, e.type_)).collect();
    assert_eq!(
        entries,
        [
            (0, LOW_RAM_END, TYPE_RAM),
            (LOW_RAM_END, ONE_MIB, TYPE_RESERVED),
            (ONE_MIB, 3 << 30, TYPE_RAM),
            (HIGH_RAM_START, 5 << 30, TYPE_RAM),
        ]
    );
}
