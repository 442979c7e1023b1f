//! The kernel's symbol table: put into the image after linking, read in a panic.
//!
//! The one thing to hold in mind: the table is a reserved, initially empty section, so linking once is enough:
//! [`embed`] patches the finished ELF file and moves nothing. An image nobody patched prints addresses. What is
//! not here: line numbers, and types in the names of functions.
//!
//! Layout: magic, count, then `count` pairs of u32 {address below `layout::KERNEL`'s two gigabytes, offset of the name}
//! sorted by address, then the names, each a length byte and text.

use refault_abi::layout::KERNEL;

/// Bytes reserved in the image.
pub const BYTES: usize = 32768;
/// First four bytes.
const MAGIC: &[u8; 4] = b"RSYM";
/// Bytes before the pairs.
const HEADER: usize = 8;

/// The section as the linker sees it.
pub const fn empty() -> [u8; BYTES] {
    let mut table = [0; BYTES];
    let mut at = 0;
    while at < MAGIC.len() {
        table[at] = MAGIC[at];
        at += 1;
    }
    table
}

fn word(table: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*table.get(offset..)?.first_chunk()?))
}

/// The symbol `address` belongs to, and the offset into it. The table is read as the linker or [`embed`] left
/// it; nonsense in it gives `None`.
pub fn find(table: &[u8], address: u64) -> Option<(&str, u64)> {
    let low = u32::try_from(address.checked_sub(KERNEL)?).ok()?;
    // Volatile in spirit: the compiler must not believe the empty table it sees.
    let table = core::hint::black_box(table);
    let count = word(table, 4)? as usize;
    let (mut first, mut last) = (0, count);
    while first < last {
        let middle = first + (last - first) / 2;
        if word(table, HEADER + middle * 8)? <= low {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    let pair = HEADER + first.checked_sub(1)? * 8;
    let name = word(table, pair + 4)? as usize;
    let length = usize::from(*table.get(name)?);
    let text = table.get(name + 1..name + 1 + length)?;
    Some((core::str::from_utf8(text).ok()?, u64::from(low - word(table, pair)?)))
}

/// Why an image could not be given its symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a 64-bit ELF file with section headers.
    NotElf,
    /// No `.symbols` section of this version's size.
    NoSection,
    /// No symbol table: the image was stripped.
    Stripped,
}

/// The readable parts of a mangled name, legacy (`_ZN`) or v0 (`_R`); other names as they are.
///
/// Not a demangler: of a v0 name it takes the identifiers in the order in which they stand, without the types
/// and brackets around them, which is enough to find the function.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    let mangled = name.strip_prefix("_ZN").or(name.strip_prefix("_R"));
    let (mut rest, mut plain) = match mangled {
        Some(rest) => (rest, None),
        None => ("", Some(name)),
    };
    core::iter::from_fn(move || {
        if let Some(name) = plain.take() {
            return Some(name);
        }
        loop {
            let first = rest.bytes().next()?;
            if first.is_ascii_digit() {
                break;
            }
            // A disambiguator or a back reference ends in an underscore and may contain digits.
            let skipped = match first {
                b's' | b'B' => rest.find('_')? + 1,
                _ => 1,
            };
            rest = rest.get(skipped..)?;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let length: usize = rest.get(..digits)?.parse().ok()?;
        let text = rest.get(digits..)?;
        // An identifier that begins with a digit or underscore is set off by one.
        let text = text.strip_prefix('_').unwrap_or(text);
        let part = text.get(..length)?;
        rest = text.get(length..)?;
        // The last part of a legacy name is a hash.
        let hash = part.len() == 17 && part.starts_with('h');
        (!hash).then_some(part)
    })
}

struct Section {
    name: usize,
    kind: u32,
    offset: usize,
    bytes: usize,
    link: usize,
}

fn section(elf: &[u8], index: usize) -> Option<Section> {
    let long = |offset: usize| {
        let eight = elf.get(offset..)?.first_chunk()?;
        usize::try_from(u64::from_le_bytes(*eight)).ok()
    };
    let header = long(40)?.checked_add(index.checked_mul(64)?)?;
    Some(Section {
        name: word(elf, header)? as usize,
        kind: word(elf, header + 4)?,
        offset: long(header + 24)?,
        bytes: long(header + 32)?,
        link: word(elf, header + 40)? as usize,
    })
}

/// Text up to its NUL.
fn text(bytes: &[u8], offset: usize) -> Option<&str> {
    let rest = bytes.get(offset..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    core::str::from_utf8(rest.get(..end)?).ok()
}

/// Fills the `.symbols` section of the kernel image `elf` from its symbol table; how many symbols fitted.
/// Names that do not fit are left out, longest addresses last.
pub fn embed(elf: &mut [u8]) -> Result<usize, Refused> {
    let count =
        u16::from_le_bytes(*elf.get(60..).and_then(|rest| rest.first_chunk()).ok_or(Refused::NotElf)?);
    let names =
        u16::from_le_bytes(*elf.get(62..).and_then(|rest| rest.first_chunk()).ok_or(Refused::NotElf)?);
    if !elf.starts_with(b"\x7fELF\x02") {
        return Err(Refused::NotElf);
    }
    let names = section(elf, usize::from(names)).ok_or(Refused::NotElf)?;
    let mut reserved = None;
    let mut symbols = None;
    for index in 0..usize::from(count) {
        let section = section(elf, index).ok_or(Refused::NotElf)?;
        if text(elf, names.offset + section.name) == Some(".symbols") {
            reserved = Some((section.offset, section.bytes));
        }
        // SHT_SYMTAB.
        if section.kind == 2 {
            symbols = Some(section);
        }
    }
    let (place, bytes) = reserved.ok_or(Refused::NoSection)?;
    if bytes != BYTES || elf.get(place..place + BYTES).is_none_or(|table| !table.starts_with(MAGIC)) {
        return Err(Refused::NoSection);
    }
    let symbols = symbols.ok_or(Refused::Stripped)?;
    let strings = section(elf, symbols.link).ok_or(Refused::Stripped)?;

    let mut table = empty();
    // Selection by rising address: no allocation, and the image has a few hundred functions.
    let (mut pairs, mut text_end, mut after) = (0usize, BYTES, None::<u32>);
    loop {
        let mut best: Option<(u32, &str)> = None;
        for entry in 0..symbols.bytes / 24 {
            let at = symbols.offset + entry * 24;
            let Some(name) = word(elf, at) else { break };
            let Some(kind) = elf.get(at + 4).map(|info| info & 15) else { break };
            let Some(value) = elf.get(at + 8..).and_then(|rest| rest.first_chunk()) else { break };
            let Some(low) = u64::from_le_bytes(*value).checked_sub(KERNEL) else { continue };
            let Ok(low) = u32::try_from(low) else { continue };
            // Functions, and labels of the assembly files.
            if kind != 2 && kind != 0 || after.is_some_and(|after| low <= after) || low >= 0x20_0000 {
                continue;
            }
            if best.is_none_or(|(found, _)| low < found)
                && let Some(name) = text(elf, strings.offset + name as usize)
                && !name.is_empty()
            {
                best = Some((low, name));
            }
        }
        let Some((low, name)) = best else { break };
        after = Some(low);
        let mut length = 0usize;
        let mut short = [0u8; 120];
        for (index, part) in parts(name).enumerate() {
            for byte in if index > 0 { "::" } else { "" }.bytes().chain(part.bytes()) {
                if let Some(place) = short.get_mut(length) {
                    *place = byte;
                    length += 1;
                }
            }
        }
        let pair = HEADER + pairs * 8;
        let Some(start) = text_end.checked_sub(length + 1).filter(|start| *start >= pair + 8) else { break };
        table[start] = length as u8;
        table[start + 1..=start + length].copy_from_slice(&short[..length]);
        table[pair..pair + 4].copy_from_slice(&low.to_le_bytes());
        table[pair + 4..pair + 8].copy_from_slice(&(start as u32).to_le_bytes());
        text_end = start;
        pairs += 1;
    }
    table[4..8].copy_from_slice(&(pairs as u32).to_le_bytes());
    elf[place..place + BYTES].copy_from_slice(&table);
    Ok(pairs)
}

#[cfg(test)]
mod tests;
