//! A made-up image: three functions, one of them mangled.

use super::*;

/// An ELF file with a `.symbols` section, a symbol table and names.
fn image() -> Vec<u8> {
    let names = b"\0.symbols\0.symtab\0.strtab\0";
    let strings = b"\0second\0_ZN6kernel4trap4main17h0123456789abcdefE\0first\0data\0";
    let functions = [
        (8u32, KERNEL + 0x10_0200, 2u8),
        (1, KERNEL + 0x10_0100, 2),
        (49, KERNEL + 0x10_0000, 0),
        (55, 0, 2),
    ];
    let mut elf = vec![0u8; 64];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    let place = |elf: &mut Vec<u8>, bytes: &[u8]| {
        let offset = elf.len();
        elf.extend_from_slice(bytes);
        (offset as u64, bytes.len() as u64)
    };
    let reserved = place(&mut elf, &empty());
    let mut table = vec![0u8; 24];
    for (name, value, kind) in functions {
        let mut entry = [0u8; 24];
        entry[..4].copy_from_slice(&name.to_le_bytes());
        entry[4] = kind;
        entry[8..16].copy_from_slice(&value.to_le_bytes());
        table.extend_from_slice(&entry);
    }
    let symbols = place(&mut elf, &table);
    let strings = place(&mut elf, strings);
    let names = place(&mut elf, names);
    let headers = elf.len() as u64;
    for (name, kind, (offset, bytes), link) in [
        (0u32, 0u32, (0, 0), 0u32),
        (1, 1, reserved, 0),
        (10, 2, symbols, 3),
        (18, 3, strings, 0),
        (0, 3, names, 0),
    ] {
        let mut header = [0u8; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&offset.to_le_bytes());
        header[32..40].copy_from_slice(&bytes.to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        elf.extend_from_slice(&header);
    }
    elf[40..48].copy_from_slice(&headers.to_le_bytes());
    elf[60] = 5;
    elf[62] = 4;
    elf
}

#[test]
fn embedded_symbols_are_found() {
    let mut elf = image();
    assert_eq!(embed(&mut elf), Ok(3));
    let table = &elf[64..64 + BYTES];
    assert_eq!(find(table, KERNEL + 0x10_0000), Some(("first", 0)));
    assert_eq!(find(table, KERNEL + 0x10_01ff), Some(("second", 0xff)));
    assert_eq!(find(table, KERNEL + 0x10_0234), Some(("kernel::trap::main", 0x34)));
    assert_eq!(find(table, KERNEL + 0x0f_ffff), None);
    assert_eq!(find(table, 5), None);
    assert_eq!(find(&empty(), KERNEL + 0x10_0000), None, "nobody embedded anything");
}

#[test]
fn names_are_readable() {
    let cases = [
        ("kernel_start", "kernel_start"),
        ("_ZN6kernel4trap4main17h0123456789abcdefE", "kernel::trap::main"),
        ("_RNvNtCsgEmfK2I1SDS_4core9panicking9panic_fmt", "core::panicking::panic_fmt"),
        ("_RNvMNtCs1234_7mycrate3fooNtB2_3Bar3baz", "mycrate::foo::Bar::baz"),
        ("_R", ""),
        ("_R99", ""),
        ("_ZN6short", ""),
    ];
    for (name, readable) in cases {
        let found: Vec<&str> = parts(name).collect();
        assert_eq!(found.join("::"), readable, "{name}");
    }
}

#[test]
fn images_without_symbols_are_refused() {
    assert_eq!(embed(&mut []), Err(Refused::NotElf));
    assert_eq!(embed(&mut [0; 64]), Err(Refused::NotElf));
    let mut elf = image();
    elf[64] = 0;
    assert_eq!(embed(&mut elf), Err(Refused::NoSection));
    let mut elf = image();
    let headers = elf.len() - 5 * 64;
    elf[headers + 2 * 64 + 4] = 9;
    assert_eq!(embed(&mut elf), Err(Refused::Stripped));
}

#[test]
fn no_damaged_table_is_believed() {
    let mut elf = image();
    embed(&mut elf).unwrap();
    for at in 0..64 {
        for value in [0, 1, 0x80, 0xff] {
            let mut table = elf[64..64 + BYTES].to_vec();
            table[at] = value;
            let _ = find(&table, KERNEL + 0x10_0210);
        }
    }
}
