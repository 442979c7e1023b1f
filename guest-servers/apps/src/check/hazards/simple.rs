//! Hazards of one process with one request.

use alloc::string::String;
use alloc::vec;

use refault_abi::Errno;
use refault_abi::counters::Counter;
use refault_abi::kcall::AWAY_FOREVER;
use refault_abi::layout::PAGE;
use refault_abi::pattern::{self, FILE_A, FILE_B};
use refault_abi::vfs::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, SEEK_SET};
use refault_rt::user::{self, Descriptor};

use super::{absent, absent_mapping, make_file};
use crate::check::buffer::{Buffer, Contents, Mapped, Stage, has_monitor};
use crate::check::case::Verdict;
use crate::check::measure::Delta;
use crate::check::retry::blocks::DISK;
use crate::check::retry::data::{check_equal, check_pattern};
use crate::check::retry::position_of;
use crate::check::suite::{Explain, Record, Suite, expect, expect_error};

/// Reads `file` from `from` on into an absent mapping of `mapped`, and hands the buffer to `check`.
fn read_into(
    record: &mut Record,
    file: Descriptor,
    from: u64,
    mapped: Mapped,
    check: impl FnOnce(&Buffer) -> Result<(), String>,
) -> Result<Delta, String> {
    let bytes = absent().bytes;
    let buffer = absent_mapping(mapped, true)?;
    user::lseek(file, from as i64, SEEK_SET).explain("lseek")?;
    // SAFETY: the range is the buffer's, which nobody has borrowed.
    let (answer, delta) = record.measure(|| unsafe { user::read_raw(file, buffer.address(), bytes) })?;
    expect("the answer", answer.explain("read")?, bytes)?;
    crate::ensure!(delta.faults() >= 1, "no fault");
    check(&buffer)?;
    buffer.untouched_but(bytes)?;
    expect("grants left", delta.leaked(), 0)?;
    Ok(delta)
}

/// D1: a read into a mapping of another file of the same file system.
pub fn other_file(suite: &mut Suite) {
    suite.check("D1", |record| {
        let file = user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?;
        read_into(record, file, 1001, Mapped::pattern("/a.bin", FILE_A)?, |buffer| {
            check_pattern("what was read", FILE_B, 1001, buffer.bytes()).map_err(|complaint| complaint.text)
        })?;
        expect("the position", position_of(file)?, 1001 + absent().bytes)
    });
}

/// H1: a page that is taken away again whenever it has been brought back.
pub fn for_ever(suite: &mut Suite) {
    if !has_monitor() {
        return suite.skip("H1", "no monitor");
    }
    suite.case("H1", |record| {
        let mut body = || {
            let file = user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?;
            let mapped = Mapped::pattern("/a.bin", FILE_A)?;
            let layout = absent().without(0b010);
            let buffer = Buffer::new(mapped, layout, Stage::Second(AWAY_FOREVER), true)?;
            // SAFETY: the range is the buffer's, which nobody has borrowed.
            let (answer, delta) =
                record.measure(|| unsafe { user::read_raw(file, buffer.address(), layout.bytes) })?;
            // The page never comes back: nobody may look at it again.
            core::mem::forget(buffer);
            expect_error("the read", answer, Errno::EFAULT)?;
            expect("operations given up", delta.of(Counter::VfsGivenUp), 1)?;
            crate::ensure!(delta.repeats() >= 1, "no repeat before it was given up");
            crate::ensure!(delta.repeats() <= 64, "{} repeats are no bound", delta.repeats());
            expect("grants left", delta.leaked(), 0)?;
            expect("the position", position_of(file)?, 0)
        };
        body()?;
        Ok(Some(Verdict::Rejected))
    });
}

/// H3: a read of a hole, which file systems answer by SAFEMEMSET.
pub fn hole(suite: &mut Suite) {
    suite.check("H3", |record| {
        let file = user::open("/all-hole.bin", O_RDWR | O_CREAT | O_TRUNC, 0o644).explain("/all-hole.bin")?;
        user::ftruncate(file, 16 * PAGE).explain("ftruncate")?;
        read_into(record, file, 8 * PAGE + 5, Mapped::pattern("/a.bin", FILE_A)?, |buffer| {
            let zeros = vec![0; absent().bytes as usize];
            check_equal("the hole", buffer.bytes(), &zeros).map_err(|complaint| complaint.text)
        })
        .map(drop)
    });
}

/// H4: a read through the very descriptor that the buffer is a mapping of.
pub fn same_open_file(suite: &mut Suite) {
    suite.check("H4", |record| {
        let mapped = Mapped::pattern("/a.bin", FILE_A)?;
        read_into(record, mapped.descriptor, 50_000, mapped, |buffer| {
            check_pattern("what was read", FILE_A, 50_000, buffer.bytes()).map_err(|complaint| complaint.text)
        })?;
        expect("the position", position_of(mapped.descriptor)?, 50_000 + absent().bytes)
    });
}

/// A read of the file that the buffer is a mapping of, by another descriptor.
pub fn read_same_file(suite: &mut Suite) {
    suite.check("read-same-file", |record| {
        let file = user::open("/a.bin", O_RDONLY, 0).explain("/a.bin")?;
        let mapped = Mapped::pattern("/a.bin", FILE_A)?;
        read_into(record, file, 50_000, mapped, |buffer| {
            check_pattern("what was read", FILE_A, 50_000, buffer.bytes()).map_err(|complaint| complaint.text)
        })
        .map(drop)
    });
}

/// H5: a file is written from a mapping of itself.
pub fn written_from_itself(suite: &mut Suite) {
    suite.check("H5", |record| {
        const ID: u32 = 0x55;
        let mapped = make_file("/self.bin", ID, 16)?;
        let file = user::open("/self.bin", O_RDWR, 0).explain("/self.bin")?;
        let bytes = absent().bytes;
        // The written part and the mapped part do not touch.
        let to = 8 * PAGE + 3;
        let buffer = absent_mapping(mapped, false)?;
        user::lseek(file, to as i64, SEEK_SET).explain("lseek")?;
        let (answer, delta) = record.measure(|| user::write_raw(file, buffer.address(), bytes))?;
        expect("the answer", answer.explain("write")?, bytes)?;
        crate::ensure!(delta.faults() >= 1, "no fault");
        let mut wanted = vec![0; 16 * PAGE as usize];
        pattern::fill(ID, 0, &mut wanted);
        for index in 0..bytes {
            if let Some(byte) = wanted.get_mut((to + index) as usize) {
                *byte = buffer.original(index);
            }
        }
        let mut seen = vec![0; wanted.len() + 1];
        let count = user::pread(file, &mut seen, 0).explain("pread")?;
        check_equal("the file", seen.get(..count).unwrap_or_default(), &wanted)
            .map_err(|complaint| complaint.text)
    });
    suite.check("H5.size", |_| expect("the size", user::stat("/self.bin").explain("stat")?.size, 16 * PAGE));
}

/// Buffer and file are the same page: a page of a file is read into its own private mapping, and written from it.
pub fn same_page(suite: &mut Suite) {
    suite.check("same-page.read", |record| {
        let file = user::open("/a.bin", O_RDONLY, 0).explain("/a.bin")?;
        let mapped = Mapped::pattern("/a.bin", FILE_A)?;
        // The buffer's first page is the second of its mapping; the read is of the very same bytes, moved by one.
        read_into(record, file, PAGE + 78, mapped, |buffer| {
            check_pattern("what was read", FILE_A, PAGE + 78, buffer.bytes())
                .map_err(|complaint| complaint.text)
        })
        .map(drop)
    });
    suite.check("same-page.write", |record| {
        const ID: u32 = 0x56;
        let mapped = make_file("/same.bin", ID, 8)?;
        let file = user::open("/same.bin", O_RDWR, 0).explain("/same.bin")?;
        let bytes = absent().bytes;
        let buffer = absent_mapping(mapped, false)?;
        // Written where it comes from: whatever is repeated, nothing changes.
        user::lseek(file, (PAGE + 77) as i64, SEEK_SET).explain("lseek")?;
        let (answer, delta) = record.measure(|| user::write_raw(file, buffer.address(), bytes))?;
        expect("the answer", answer.explain("write")?, bytes)?;
        crate::ensure!(delta.faults() >= 1, "no fault");
        let mut seen = vec![0; 8 * PAGE as usize];
        let count = user::pread(file, &mut seen, 0).explain("pread")?;
        expect("the size", count as u64, 8 * PAGE)?;
        check_pattern("the file", ID, 0, &seen).map_err(|complaint| complaint.text)
    });
}

/// H6: a read of a disk into a mapping of the disk.
pub fn disk_into_disk(suite: &mut Suite) {
    suite.check("H6", |record| {
        let file = user::open(DISK, O_RDONLY, 0).explain(DISK)?;
        let mapped =
            Mapped { descriptor: user::open(DISK, O_RDONLY, 0).explain(DISK)?, contents: Contents::Zeros };
        let layout = absent();
        let mut wanted = vec![0; layout.bytes as usize];
        expect("preparing", user::pread(file, &mut wanted, 1024).explain("pread")?, wanted.len())?;
        let buffer = Buffer::new(mapped, layout, Stage::First, true)?;
        user::lseek(file, 1024, SEEK_SET).explain("lseek")?;
        // SAFETY: the range is the buffer's, which nobody has borrowed.
        let (answer, delta) =
            record.measure(|| unsafe { user::read_raw(file, buffer.address(), layout.bytes) })?;
        expect("the answer", answer.explain("read")?, layout.bytes)?;
        crate::ensure!(delta.faults() >= 1, "no fault");
        check_equal("what was read", buffer.bytes(), &wanted).map_err(|complaint| complaint.text)
    });
}

/// H9: zeroes, which the block driver makes, into a mapping of a file on the disk it serves.
pub fn zeroes(suite: &mut Suite) {
    suite.check("H9", |record| {
        let file = user::open("/dev/zero", O_RDONLY, 0).explain("/dev/zero")?;
        let layout = absent();
        let buffer = absent_mapping(Mapped::pattern("/a.bin", FILE_A)?, true)?;
        // SAFETY: the range is the buffer's, which nobody has borrowed.
        let (answer, delta) =
            record.measure(|| unsafe { user::read_raw(file, buffer.address(), layout.bytes) })?;
        expect("the answer", answer.explain("read")?, layout.bytes)?;
        crate::ensure!(delta.faults() >= 1, "no fault");
        let zeros = vec![0; layout.bytes as usize];
        check_equal("the zeroes", buffer.bytes(), &zeros).map_err(|complaint| complaint.text)?;
        buffer.untouched_but(layout.bytes)
    });
}
