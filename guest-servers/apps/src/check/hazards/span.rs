//! D11: buffers that lie on mappings of two files, of one file system and of two.

use alloc::string::String;
use alloc::vec;

use refault_abi::Endpoint;
use refault_abi::layout::PAGE;
use refault_abi::pattern::{self, FILE_A, FILE_B, pattern_byte};
use refault_abi::vfs::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC};
use refault_abi::vm::{self, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use refault_rt::user::{self, Descriptor};

use crate::check::raw;
use crate::check::retry::data::{check_equal, check_pattern};
use crate::check::suite::{Explain, Record, Suite, expect};

/// Pages of each half.
const HALF: u64 = 3;
/// Pattern of `/mnt/c.bin` on the second disk.
const FILE_C: u32 = 5;

/// Two mappings side by side.
struct Pair {
    base: u64,
    ids: (u32, u32),
}

impl Pair {
    /// Maps the first pages of both files next to each other; nothing is present.
    fn new(first: (Descriptor, u32), second: (Descriptor, u32), protection: u32) -> Result<Pair, String> {
        let base =
            user::mmap(2 * HALF * PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0).explain("reserving addresses")?;
        for (index, descriptor) in [first.0, second.0].into_iter().enumerate() {
            let request = vm::Mmap {
                address: base + index as u64 * HALF * PAGE,
                length: HALF * PAGE,
                protection,
                flags: MAP_PRIVATE | MAP_FIXED,
                descriptor,
                reserved: 0,
                offset: 0,
            };
            raw::ask(Endpoint::VM, vm::MMAP, &request).explain("mmap at an address")?;
        }
        user::flush_caches().explain("flushing the caches")?;
        Ok(Pair { base, ids: (first.1, second.1) })
    }

    /// What byte `offset` of the two mappings is.
    fn original(&self, offset: u64) -> u8 {
        match offset.checked_sub(HALF * PAGE) {
            None => pattern_byte(self.ids.0, offset),
            Some(offset) => pattern_byte(self.ids.1, offset),
        }
    }

    fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance::<u8>(self.base as usize);
        // SAFETY: both mappings are readable, and nothing writes them while they are looked at.
        unsafe { core::slice::from_raw_parts(start, (2 * HALF * PAGE) as usize) }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // SAFETY: the only references were borrows of this value. An error leaves address space taken.
        let _ = unsafe { user::munmap(self.base, 2 * HALF * PAGE) };
    }
}

/// A read into, then a write from a buffer across the border.
fn both_ways(
    suite: &mut Suite,
    name: &str,
    first: (&str, u32),
    second: (&str, u32),
    source: (&str, u32),
    target: &str,
) {
    suite.check(&alloc::format!("{name}.read"), |record| read(record, first, second, source));
    suite.check(&alloc::format!("{name}.write"), |record| write(record, first, second, target));
}

fn open(file: (&str, u32)) -> Result<(Descriptor, u32), String> {
    Ok((user::open(file.0, O_RDONLY, 0).explain(file.0)?, file.1))
}

fn read(
    record: &mut Record,
    first: (&str, u32),
    second: (&str, u32),
    source: (&str, u32),
) -> Result<(), String> {
    let file = user::open(source.0, O_RDONLY, 0).explain(source.0)?;
    let pair = Pair::new(open(first)?, open(second)?, PROT_READ | PROT_WRITE)?;
    let (offset, bytes) = (100, 2 * HALF * PAGE - 200);
    // SAFETY: the range is in the two mappings, which nobody has borrowed.
    let (answer, delta) = record.measure(|| unsafe { user::read_raw(file, pair.base + offset, bytes) })?;
    expect("the answer", answer.explain("read")?, bytes)?;
    crate::ensure!(delta.faults() >= 1, "no fault");
    expect("repeats", delta.repeats(), delta.faults())?;
    let range = offset as usize..(offset + bytes) as usize;
    check_pattern("what was read", source.1, 0, pair.bytes().get(range).unwrap_or_default())
        .map_err(|complaint| complaint.text)?;
    for at in (0..offset).chain(offset + bytes..2 * HALF * PAGE) {
        expect("a byte outside", pair.bytes().get(at as usize).copied(), Some(pair.original(at)))?;
    }
    expect("grants left", delta.leaked(), 0)
}

fn write(record: &mut Record, first: (&str, u32), second: (&str, u32), target: &str) -> Result<(), String> {
    let file = user::open(target, O_RDWR | O_CREAT | O_TRUNC, 0o644).explain(target)?;
    // As the original's test has it: two mappings that can only be read.
    let pair = Pair::new(open(first)?, open(second)?, PROT_READ)?;
    let (offset, bytes) = (100, 2 * HALF * PAGE - 200);
    let (answer, delta) = record.measure(|| user::write_raw(file, pair.base + offset, bytes))?;
    expect("the answer", answer.explain("write")?, bytes)?;
    crate::ensure!(delta.faults() >= 1, "no fault");
    expect("repeats", delta.repeats(), delta.faults())?;
    let wanted: alloc::vec::Vec<u8> = (0..bytes).map(|index| pair.original(offset + index)).collect();
    let mut seen = vec![0; wanted.len() + 1];
    let count = user::pread(file, &mut seen, 0).explain("pread")?;
    check_equal("the file", seen.get(..count).unwrap_or_default(), &wanted)
        .map_err(|complaint| complaint.text)?;
    expect("grants left", delta.leaked(), 0)
}

/// Two files of one file system.
pub fn two_files(suite: &mut Suite) {
    both_ways(suite, "D11", ("/a.bin", FILE_A), ("/b.bin", FILE_B), ("/odd.bin", 3), "/span.bin");
    let mut wanted = vec![0; (2 * HALF * PAGE) as usize];
    let (a, b) = wanted.split_at_mut((HALF * PAGE) as usize);
    pattern::fill(FILE_A, 0, a);
    pattern::fill(FILE_B, 0, b);
    let end = wanted.len() - 100;
    suite.file("/span.bin", wanted.get(100..end).unwrap_or_default());
}

/// Files of two file systems; read from and written to either.
pub fn two_file_systems(suite: &mut Suite) {
    let (a, c) = (("/a.bin", FILE_A), ("/mnt/c.bin", FILE_C));
    both_ways(suite, "D11.mnt.root-first", a, c, ("/b.bin", FILE_B), "/span2.bin");
    both_ways(suite, "D11.mnt.root-last", c, a, ("/odd.bin", 3), "/mnt/span.bin");
    both_ways(suite, "D11.mnt.from-mnt", a, c, ("/mnt/c.bin", FILE_C), "/mnt/span2.bin");
}
