//! Disks whose contents are wrong: damaged in one place, cut short, or something else altogether.
//!
//! The one thing to hold in mind: every block is somebody else's word. A program gets an error in a finite time, the guest
//! says what is wrong and where, what is not damaged stays readable, and the image stays as it is, although it is
//! writable.

use crate::common::Suite;
use crate::common::command::Guest;
use crate::common::disk::{BLOCK, Damage, Image, SUPERBLOCK};
use crate::judge;

/// One place that is damaged, and what follows from it.
struct Broken {
    name: &'static str,
    damage: fn(&mut Damage),
    /// A program that must fail, and what is said.
    program: &'static [&'static str],
    words: &'static [&'static str],
    /// A file that must still be readable.
    readable: Option<&'static str>,
}

const BROKEN: [Broken; 13] = [
    Broken {
        name: "kind_of_an_inode",
        damage: |disk| disk.put16(disk.inode("/hello.txt"), 0),
        program: &["cat", "/hello.txt"],
        words: &["/hello.txt: input/output error (EIO)", "corrupt file system", "inode 2"],
        readable: Some("/etc/motd"),
    },
    Broken {
        name: "size_of_an_inode",
        damage: |disk| disk.put32(disk.inode("/hello.txt") + 8, u32::MAX),
        program: &["cat", "/hello.txt"],
        words: &["/hello.txt: input/output error (EIO)", "4294967295", "inode 2"],
        readable: Some("/etc/motd"),
    },
    Broken {
        name: "zone_of_an_inode",
        damage: |disk| disk.put32(disk.zone_field("/hello.txt", 0), 0xffff_fff0),
        program: &["sum", "/hello.txt"],
        words: &["/hello.txt: input/output error (EIO)", "zone number out of range"],
        readable: Some("/etc/motd"),
    },
    Broken {
        name: "zone_in_the_bitmaps",
        damage: |disk| disk.put32(disk.zone_field("/hello.txt", 0), 3),
        program: &["sum", "/hello.txt"],
        words: &["/hello.txt: input/output error (EIO)", "zone number out of range"],
        readable: Some("/etc/motd"),
    },
    Broken {
        name: "an_indirect_block",
        damage: |disk| {
            let at = disk.zone("/a.bin", 7);
            disk.0[at..at + BLOCK].fill(0xff);
        },
        program: &["sum", "/a.bin"],
        words: &["/a.bin: input/output error (EIO)", "zone number out of range", "block"],
        readable: Some("/dir/numbers.txt"),
    },
    Broken {
        name: "an_indirect_zone",
        damage: |disk| disk.put32(disk.zone_field("/a.bin", 7), 0x00ff_ffff),
        program: &["sum", "/a.bin"],
        words: &["/a.bin: input/output error (EIO)", "zone number out of range"],
        readable: Some("/dir/numbers.txt"),
    },
    Broken {
        name: "a_double_indirect_block",
        damage: |disk| {
            let at = disk.zone("/b.bin", 8);
            disk.0[at..at + BLOCK].fill(0xa5);
        },
        program: &["sum", "/b.bin"],
        words: &["/b.bin: input/output error (EIO)", "zone number out of range"],
        readable: Some("/dir/numbers.txt"),
    },
    Broken {
        name: "size_of_a_directory",
        damage: |disk| disk.put32(disk.inode("/etc") + 8, 13),
        program: &["ls", "/etc"],
        words: &["ls: /etc: input/output error (EIO)", "size of a directory"],
        readable: Some("/hello.txt"),
    },
    Broken {
        name: "an_entry_of_a_directory",
        damage: |disk| {
            let at = disk.zone("/etc", 0);
            disk.put32(at + 2 * 64, 60_000);
        },
        program: &["ls", "/etc"],
        words: &["ls: /etc: input/output error (EIO)", "inode number out of range (60000)"],
        readable: Some("/hello.txt"),
    },
    Broken {
        name: "a_link_to_itself",
        damage: |disk| {
            let at = disk.zone("/greeting", 0);
            disk.0[at..at + 9].copy_from_slice(b"/greeting");
        },
        program: &["cat", "/greeting"],
        words: &["/greeting: too many symbolic links (ELOOP)"],
        readable: Some("/hello.txt"),
    },
    Broken {
        name: "one_entry_of_many",
        damage: |disk| disk.put16(disk.inode("/hello.txt"), 0),
        program: &["ls", "-l", "/"],
        words: &["ls: /hello.txt: input/output error (EIO)", "b.bin"],
        readable: None,
    },
    Broken {
        name: "the_root",
        damage: |disk| disk.put32(disk.zone_field("/", 0), u32::MAX),
        program: &["ls", "/"],
        words: &["ls: /: input/output error (EIO)", "inode 1"],
        readable: None,
    },
    Broken {
        name: "the_kind_of_the_root",
        damage: |disk| disk.put16(disk.inode("/"), 0o100_644),
        program: &["cat", "/hello.txt"],
        words: &["cannot mount", "root is not a directory", "EIO"],
        readable: None,
    },
];

/// Adds the cases.
pub fn file_systems(suite: &mut Suite) {
    for broken in BROKEN {
        suite.kvm(format!("corrupt::{}", broken.name), move || {
            let image = Image::damaged(broken.damage);
            let said = Guest::program(broken.program.iter().copied()).disk(image.path()).say();
            judge(&said, 1, broken.words);
            if let Some(path) = broken.readable {
                let said = Guest::program(["cat", path]).disk(image.path()).say();
                assert_eq!(said.code, Some(0), "{}", said.all());
                assert_eq!(said.out.into_bytes(), refault::mkfs::demo_file(path).unwrap());
            }
            image.assert_unchanged();
        });
    }
    superblocks(suite);
    other_contents(suite);
}

/// Corrupt fields of the superblock: mounting fails and says which.
fn superblocks(suite: &mut Suite) {
    type Field = (&'static str, fn(&mut Damage), &'static str);
    let fields: [Field; 7] = [
        ("inodes", |disk| disk.put32(SUPERBLOCK, 0), "number of inodes"),
        ("inode_maps", |disk| disk.put16(SUPERBLOCK + 6, 0), "inode bitmap blocks"),
        ("zone_maps", |disk| disk.put16(SUPERBLOCK + 8, 0), "bitmap"),
        ("first_zone", |disk| disk.put16(SUPERBLOCK + 10, 2), "first data zone"),
        ("zone_size", |disk| disk.put16(SUPERBLOCK + 12, 9), "zone size"),
        ("zones", |disk| disk.put32(SUPERBLOCK + 20, u32::MAX), "number of zones"),
        ("block_size", |disk| disk.put16(SUPERBLOCK + 28, 1000), "block size"),
    ];
    for (name, damage, word) in fields {
        suite.kvm(format!("superblock::{name}"), move || {
            let image = Image::damaged(damage);
            let said = Guest::program(["cat", "/hello.txt"]).disk(image.path()).say();
            judge(&said, 1, &["cannot mount", "corrupt superblock", word, "/hello.txt", "EIO"]);
            image.assert_unchanged();
        });
    }
    suite.kvm("superblock::image_cut_short", || {
        let whole = Image::demo().bytes();
        let image = Image::of(whole[..whole.len() / 2].to_vec());
        let said = Guest::program(["ls", "/"]).disk(image.path()).say();
        judge(&said, 1, &["cannot mount", "number of zones", "EIO"]);
        image.assert_unchanged();
    });
}

/// Disks that hold something else.
fn other_contents(suite: &mut Suite) {
    type Contents = (&'static str, fn() -> Vec<u8>, &'static str);
    let disks: [Contents; 5] = [
        ("zeros", || vec![0; 1 << 20], "not a MINIX version 3"),
        (
            "noise",
            || (0..1_u32 << 18).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect(),
            "not a MINIX",
        ),
        ("ext", || with_magic(0x38, 0xef53), "not a MINIX version 3"),
        ("minix_1", || with_magic(16, 0x138f), "older version"),
        ("minix_2", || with_magic(16, 0x2478), "older version"),
    ];
    for (name, bytes, word) in disks {
        suite.kvm(format!("other_contents::{name}"), move || {
            let image = Image::of(bytes());
            let said = Guest::program(["cat", "/hello.txt"]).disk(image.path()).say();
            judge(&said, 1, &["cannot mount", word, "cat: /hello.txt: no file system is mounted (ENODEV)"]);
            image.assert_unchanged();
        });
    }
    suite.kvm("other_contents::one_sector", || {
        let image = Image::of(vec![0x5a; 512]);
        let said = Guest::program(["ls", "/"]).disk(image.path()).say();
        judge(&said, 1, &["cannot mount", "512 bytes is too small", "ENODEV"]);
        image.assert_unchanged();
    });
    suite.kvm("other_contents::program_that_needs_no_files", || {
        let image = Image::of(vec![0; 1 << 20]);
        let said = Guest::program(["echo", "all-the-same"]).disk(image.path()).say();
        judge(&said, 0, &["cannot mount", "all-the-same\n"]);
        image.assert_unchanged();
    });
}

/// Zeros, with a 16-bit magic number at an offset into the second kibibyte.
fn with_magic(at: usize, magic: u16) -> Vec<u8> {
    let mut bytes = Damage(vec![0; 1 << 20]);
    bytes.put16(SUPERBLOCK + at, magic);
    bytes.0
}
