//! The PVH start information: where the boot loader left memory map, command line and boot image.
//!
//! The one thing to hold in mind: every address and length in it is somebody else's word. They are read once,
//! bounded, and only then used. What is not here: access to memory; the caller reads physical addresses,
//! because at this point not all of them are mapped. Layout: Xen's `arch-x86/hvm/start_info.h`.

use refault_abi::info::RAM_MAX;
use refault_abi::kcall::PhysRange;
use refault_abi::layout::PAGE;

/// First word of the structure.
pub const MAGIC: u32 = 0x336e_c578;
/// Memory type of usable RAM.
const TYPE_RAM: u32 = 1;
/// Most memory-map entries looked at.
const MAX_ENTRIES: u32 = 128;
/// No physical address may lie above (the kernel's page tables end there).
pub const MAX_PHYSICAL: u64 = 64 << 30;

/// Reads physical memory.
pub trait Physical {
    /// Fills `buffer` from `address`; the range is below [`MAX_PHYSICAL`].
    fn read(&mut self, address: u64, buffer: &mut [u8]);
}

/// What the loader said, checked for form. Ranges are below [`MAX_PHYSICAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartInfo {
    /// The boot image.
    pub image: PhysRange,
    /// Command line, NUL terminated; 0 for none.
    pub cmdline: u64,
    /// Usable RAM, whole pages.
    pub ram: [PhysRange; RAM_MAX],
    /// Entries used in `ram`.
    pub ram_count: usize,
}

/// Why the start information is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The structure lies outside physical memory.
    Address,
    /// It does not begin with the magic number.
    Magic,
    /// It has no memory map (version 0).
    NoMemoryMap,
    /// There is no module: no boot image was given.
    NoImage,
    /// The boot image lies outside physical memory or is empty.
    ImageRange,
    /// The memory map names no RAM.
    NoRam,
}

impl Refused {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Refused::Address => "start information outside physical memory",
            Refused::Magic => "start information without its magic number (not booted by PVH?)",
            Refused::NoMemoryMap => "start information without a memory map",
            Refused::NoImage => "no boot image (initrd)",
            Refused::ImageRange => "boot image empty or outside physical memory",
            Refused::NoRam => "memory map without RAM",
        }
    }
}

fn in_physical(address: u64, bytes: u64) -> bool {
    address.checked_add(bytes).is_some_and(|end| end <= MAX_PHYSICAL)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let four = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    four.map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let eight = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    eight.map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// Reads the start information at `address`.
pub fn read(memory: &mut impl Physical, address: u64) -> Result<StartInfo, Refused> {
    let mut header = [0u8; 56];
    if !in_physical(address, header.len() as u64) {
        return Err(Refused::Address);
    }
    memory.read(address, &mut header);
    if u32_at(&header, 0) != MAGIC {
        return Err(Refused::Magic);
    }
    let (map, entries) = (u64_at(&header, 40), u32_at(&header, 48));
    if u32_at(&header, 4) < 1 || entries == 0 {
        return Err(Refused::NoMemoryMap);
    }
    let modules = u64_at(&header, 16);
    let mut module = [0u8; 16];
    if u32_at(&header, 12) == 0 || !in_physical(modules, module.len() as u64) {
        return Err(Refused::NoImage);
    }
    memory.read(modules, &mut module);
    let image = PhysRange { address: u64_at(&module, 0), bytes: u64_at(&module, 8) };
    if image.bytes == 0 || !in_physical(image.address, image.bytes) {
        return Err(Refused::ImageRange);
    }
    let cmdline = u64_at(&header, 24);
    let mut found = StartInfo {
        image,
        cmdline: if cmdline < MAX_PHYSICAL { cmdline } else { 0 },
        ram: [PhysRange::default(); RAM_MAX],
        ram_count: 0,
    };
    for index in 0..u64::from(entries.min(MAX_ENTRIES)) {
        let mut entry = [0u8; 24];
        let Some(place) = map.checked_add(index * 24).filter(|place| in_physical(*place, 24)) else {
            return Err(Refused::NoMemoryMap);
        };
        memory.read(place, &mut entry);
        if u32_at(&entry, 16) == TYPE_RAM
            && let Some(range) = whole_pages(u64_at(&entry, 0), u64_at(&entry, 8))
            && let Some(slot) = found.ram.get_mut(found.ram_count)
        {
            *slot = range;
            found.ram_count += 1;
        }
    }
    if found.ram_count == 0 { Err(Refused::NoRam) } else { Ok(found) }
}

/// The whole pages of a range, cut at [`MAX_PHYSICAL`]; `None` when nothing is left.
fn whole_pages(address: u64, bytes: u64) -> Option<PhysRange> {
    let end = address.saturating_add(bytes).min(MAX_PHYSICAL) & !(PAGE - 1);
    let start = address.checked_add(PAGE - 1)? & !(PAGE - 1);
    (start < end).then(|| PhysRange { address: start, bytes: end - start })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);
    impl Physical for Bytes {
        fn read(&mut self, address: u64, buffer: &mut [u8]) {
            for (index, byte) in buffer.iter_mut().enumerate() {
                *byte = self.0.get(address as usize + index).copied().unwrap_or(0xff);
            }
        }
    }

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0u8; 0x400];
        bytes[0x100..0x104].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x104] = 1;
        bytes[0x10c] = 1;
        bytes[0x110..0x118].copy_from_slice(&0x200u64.to_le_bytes());
        bytes[0x118..0x120].copy_from_slice(&0x300u64.to_le_bytes());
        bytes[0x128..0x130].copy_from_slice(&0x240u64.to_le_bytes());
        bytes[0x130] = 2;
        bytes[0x200..0x208].copy_from_slice(&0x80_0000u64.to_le_bytes());
        bytes[0x208..0x210].copy_from_slice(&0x1234u64.to_le_bytes());
        bytes[0x240..0x248].copy_from_slice(&0x10_0001u64.to_le_bytes());
        bytes[0x248..0x250].copy_from_slice(&0x10_0000u64.to_le_bytes());
        bytes[0x250] = 1;
        bytes[0x258..0x260].copy_from_slice(&0xf000_0000u64.to_le_bytes());
        bytes[0x260..0x268].copy_from_slice(&0x1000u64.to_le_bytes());
        bytes[0x268] = 2;
        bytes
    }

    #[test]
    fn good_information() {
        let found = read(&mut Bytes(sample()), 0x100).unwrap();
        assert_eq!(found.image, PhysRange { address: 0x80_0000, bytes: 0x1234 });
        assert_eq!(found.cmdline, 0x300);
        assert_eq!(found.ram_count, 1);
        assert_eq!(found.ram[0], PhysRange { address: 0x10_1000, bytes: 0xf_f000 });
    }

    #[test]
    fn bad_information_is_refused() {
        type Damage = fn(&mut Vec<u8>);
        let cases: [(Damage, Refused); 7] = [
            (|b| b[0x100] = 0, Refused::Magic),
            (|b| b[0x104] = 0, Refused::NoMemoryMap),
            (|b| b[0x10c] = 0, Refused::NoImage),
            (|b| b[0x117] = 0xff, Refused::NoImage),
            (|b| b[0x207] = 0xff, Refused::ImageRange),
            (|b| b[0x12f] = 0xff, Refused::NoMemoryMap),
            (|b| b[0x250] = 2, Refused::NoRam),
        ];
        for (damage, refused) in cases {
            let mut bytes = sample();
            damage(&mut bytes);
            assert_eq!(read(&mut Bytes(bytes), 0x100), Err(refused));
        }
        assert_eq!(read(&mut Bytes(sample()), u64::MAX - 3), Err(Refused::Address));
    }

    #[test]
    fn ram_is_cut_to_whole_pages_below_the_limit() {
        assert_eq!(whole_pages(0x10, 0x1000), None);
        assert_eq!(whole_pages(0, u64::MAX), Some(PhysRange { address: 0, bytes: MAX_PHYSICAL }));
        assert_eq!(whole_pages(u64::MAX, u64::MAX), None);
    }
}
