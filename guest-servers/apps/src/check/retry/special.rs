//! F4 and F6 to F14: what is special about one request, one error, or one kind of file system.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::{PAGE, USER_END};
use refault_abi::options::{FsReply, Retry};
use refault_abi::pattern::{self, FILE_A};
use refault_abi::vfs::{O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, SEEK_END, SEEK_SET};
use refault_abi::vm::{MAP_PRIVATE, PROT_READ};
use refault_abi::{Errno, vfs};
use refault_rt::user;

use super::super::buffer::{Buffer, Mapped, Stage};
use super::super::raw;
use super::super::schedule::{Layout, Position, Schedule};
use super::super::suite::{Explain, Record, Suite, expect, expect_error};
use super::data::{BEFORE, BYTES, check_equal, check_pattern};
use super::small::DIRECTORY;
use super::{Operation, position_of};

/// F4, and the case of an append whose first attempt made the file longer.
pub fn append(suite: &mut Suite, stages: &[Stage]) {
    for stage in stages {
        for position in [Position::First, Position::Middle, Position::Last] {
            let schedule = Schedule { position, boundary: 1 };
            let name = format!("F4.WRITE.append.{}.{}", schedule.position_name(), stage.name());
            suite.check(&name, |record| append_once(record, schedule, *stage, 5000));
        }
    }
    // Nothing of the file is on the page that is appended to, and all of it is on one that is.
    for old in [0, 2 * PAGE] {
        suite.check(&format!("F4.WRITE.append.at-{old}"), |record| {
            append_once(record, Schedule { position: Position::Last, boundary: 0 }, Stage::First, old)
        });
    }
    suite.check("generic/362.append-that-grew", |record| {
        // Every page but the last is there: the first attempt has made the file longer by all of them.
        append_once(record, Schedule { position: Position::Last, boundary: 1 }, Stage::First, 1)
    });
}

fn append_once(record: &mut Record, schedule: Schedule, stage: Stage, old: u64) -> Result<(), String> {
    let file = user::open("/append.bin", O_RDWR | O_CREAT | O_TRUNC, 0o644).explain("/append.bin")?;
    let mut before = vec![0; old as usize];
    pattern::fill(BEFORE, 0, &mut before);
    expect("preparing", user::pwrite(file, &before, 0).explain("pwrite")?, before.len())?;
    user::close(file).explain("close")?;
    let file = user::open("/append.bin", O_RDWR | O_APPEND, 0).explain("/append.bin")?;
    let layout = schedule.layout(BYTES, BYTES);
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let buffer = Buffer::new(mapped, layout, stage, false)?;
    let (answer, delta) = record.measure(|| user::write_raw(file, buffer.address(), BYTES))?;
    expect("the answer", answer.explain("write")?, BYTES)?;
    expect("repeats", delta.repeats(), 1)?;
    expect("the size", user::fstat(file).explain("fstat")?.size, old + BYTES)?;
    expect("the position", position_of(file)?, old + BYTES)?;
    let mut seen = vec![0; (old + BYTES) as usize + 1];
    let count = user::pread(file, &mut seen, 0).explain("pread")?;
    before.extend((0..BYTES).map(|index| buffer.original(index)));
    check_equal("the file", seen.get(..count).unwrap_or_default(), &before).map_err(|c| c.text)?;
    // A second append goes behind the first.
    expect("the next append", user::write(file, b"end").explain("write")?, 3)?;
    expect("the size at last", user::fstat(file).explain("fstat")?.size, old + BYTES + 3)?;
    user::close(mapped.descriptor).explain("close")?;
    user::close(file).explain("close")
}

/// F6 and F7: what the file system says without having copied anything.
pub fn errors(suite: &mut Suite, operation: &mut dyn Operation) {
    let options = *suite.options();
    let (number, error, repeats) = match options.fs {
        FsReply::Restart => ("F6", Errno::EIO, 0),
        // The policy before the cure repeats whatever is EFAULT, once.
        FsReply::Efault => ("F7", Errno::EFAULT, u64::from(options.retry == Retry::Efault)),
        _ => return suite.skip("F6, F7", "the machine has neither fs=restart nor fs=efault"),
    };
    suite.case(&format!("{number}.{}", operation.shape().name), |record| {
        let mut body = || {
            operation.rewind()?;
            let layout = Layout::plain(1, operation.shape().bytes);
            let buffer = Buffer::new(
                operation.shape().mapped,
                layout,
                Stage::Second(1),
                operation.shape().writes_buffer,
            )?;
            let (answer, delta) = record.measure(|| operation.perform(buffer.address(), layout.bytes))?;
            expect_error("the request", answer, error)?;
            expect("repeats", delta.repeats(), repeats)?;
            expect("faults", delta.faults(), 0)?;
            expect("grants left", delta.leaked(), 0)?;
            if let Some((descriptor, before, _)) = operation.position() {
                expect("the position", position_of(descriptor)?, before)?;
            }
            buffer.untouched_but(0)
        };
        body()?;
        Ok(Some(super::super::case::Verdict::Rejected))
    });
}

/// F8: the first attempt meets an absent page of the user, the second one of the file system's own. The monitor's rules do
/// both; here is only the request and what it must have been.
pub fn second_attempt(suite: &mut Suite, operation: &mut dyn Operation) {
    let retry = suite.options().retry;
    suite.check(&format!("F8.{}", operation.shape().name), |record| {
        operation.reset()?;
        let layout = Layout::plain(123, operation.shape().bytes);
        let buffer =
            Buffer::new(operation.shape().mapped, layout, Stage::Second(1), operation.shape().writes_buffer)?;
        let (answer, delta) = record.measure(|| operation.perform(buffer.address(), layout.bytes))?;
        expect("the answer", answer.explain("the request")?, operation.shape().answer)?;
        operation.verify(&buffer).map_err(|complaint| complaint.text)?;
        expect("faults", delta.faults(), 2)?;
        // Without CPF_TRY the second attempt waits for its page and is not repeated.
        expect("repeats", delta.repeats(), if retry == Retry::Hardened { 2 } else { 1 })?;
        expect("grants left", delta.leaked(), 0)
    });
}

/// F9: memory that cannot be brought in.
pub fn hopeless(suite: &mut Suite, operation: &mut dyn Operation) {
    let name = operation.shape().name;
    suite.check(&format!("F9.{name}.hole"), |record| hole(record, operation));
    if operation.shape().writes_buffer {
        suite.check(&format!("F9.{name}.read-only"), |record| read_only(record, operation));
    }
    suite.check(&format!("F9.{name}.kernel-address"), |record| {
        for address in [USER_END, 0x0000_8000_0000_0000, 0xffff_8000_0010_0000, u64::MAX - 10] {
            operation.reset()?;
            let (answer, delta) = record.measure(|| operation.perform(address, operation.shape().bytes))?;
            expect_error("the request", answer, Errno::EFAULT)?;
            expect("grants left", delta.leaked(), 0)?;
            undone(operation)?;
        }
        Ok(())
    });
}

/// Nothing has been done, as far as anybody can see.
fn undone(operation: &mut dyn Operation) -> Result<(), String> {
    if let Some((descriptor, before, _)) = operation.position() {
        expect("the position", position_of(descriptor)?, before)?;
    }
    operation.verify_undone().map_err(|complaint| complaint.text)
}

fn hole(record: &mut Record, operation: &mut dyn Operation) -> Result<(), String> {
    operation.reset()?;
    // The last byte that is touched lies alone on a page, and that page is no page of the address space.
    let schedule = Schedule { position: Position::Last, boundary: 1 };
    let layout = schedule.layout(operation.shape().bytes, operation.shape().moved).without(0);
    let buffer =
        Buffer::new(operation.shape().mapped, layout, Stage::Second(1), operation.shape().writes_buffer)?;
    buffer.punch(layout.page_of(operation.shape().moved - 1))?;
    let (answer, delta) = record.measure(|| operation.perform(buffer.address(), layout.bytes))?;
    buffer.abandon()?;
    expect_error("the request", answer, Errno::EFAULT)?;
    expect("repeats", delta.repeats(), 0)?;
    expect("grants left", delta.leaked(), 0)?;
    crate::ensure!(delta.faults() >= 1, "no fault");
    undone(operation)
}

fn read_only(record: &mut Record, operation: &mut dyn Operation) -> Result<(), String> {
    operation.reset()?;
    let length = operation.shape().bytes.next_multiple_of(PAGE);
    let descriptor = operation.shape().mapped.descriptor;
    let address = user::mmap(length, PROT_READ, MAP_PRIVATE, descriptor, 0).explain("mmap")?;
    let (answer, delta) = record.measure(|| operation.perform(address, operation.shape().bytes))?;
    let start = core::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: the mapping is readable and nobody may write it.
    let bytes = unsafe { core::slice::from_raw_parts(start, length as usize) };
    let right = check_pattern("the read-only mapping", FILE_A, 0, bytes);
    // SAFETY: `bytes` is not used any more.
    unsafe { user::munmap(address, length) }.explain("munmap")?;
    right.map_err(|complaint| complaint.text)?;
    expect_error("the request", answer, Errno::EFAULT)?;
    expect("repeats", delta.repeats(), 0)?;
    expect("grants left", delta.leaked(), 0)?;
    undone(operation)
}

/// F10: a link is made once, whatever the file system answered; there is no EEXIST.
pub fn symlink_once(suite: &mut Suite, operation: &mut dyn Operation, stages: &[Stage]) {
    for stage in stages {
        suite.check(&format!("F10.SLINK.{}", stage.name()), |record| {
            let clean = super::positions::clean_requests(operation)?;
            operation.reset()?;
            let layout = Schedule { position: Position::Last, boundary: 1 }
                .layout(operation.shape().bytes, operation.shape().moved);
            let buffer = Buffer::new(operation.shape().mapped, layout, *stage, false)?;
            let (answer, delta) = record.measure(|| operation.perform(buffer.address(), layout.bytes))?;
            expect("the answer", answer.explain("symlink")?, 0)?;
            expect("repeats", delta.repeats(), 1)?;
            expect("requests at the file system", delta.requests(), clean + 1)?;
            operation.verify(&buffer).map_err(|complaint| complaint.text)?;
            // A second link of this name is an error and changes nothing.
            expect_error("again", operation.perform(buffer.address(), layout.bytes), Errno::EEXIST)?;
            operation.verify(&buffer).map_err(|complaint| complaint.text)
        });
    }
}

/// F12: a whole listing through a buffer whose page is absent at each call: no entry missing, none twice.
pub fn whole_listing(suite: &mut Suite, stages: &[Stage]) {
    for stage in stages {
        suite.check(&format!("F12.GETDENTS.{}", stage.name()), |record| {
            let mapped = Mapped::pattern("/a.bin", FILE_A)?;
            let directory = user::open(DIRECTORY, O_RDONLY, 0).explain(DIRECTORY)?;
            let mut names: Vec<Vec<u8>> = Vec::new();
            loop {
                let layout = Layout::plain(PAGE - 100, 200).without(0b11);
                let buffer = Buffer::new(mapped, layout, *stage, true)?;
                let (answer, _) = record.measure(|| {
                    raw::on_descriptor(vfs::GETDENTS, directory, buffer.address(), layout.bytes)
                })?;
                let count = answer.explain("getdents")?;
                let stored = buffer.bytes().get(..count as usize).unwrap_or_default();
                if stored.is_empty() {
                    break;
                }
                names.extend(user::Entries(stored).map(|(_, name)| name.as_bytes().to_vec()));
                crate::ensure!(names.len() < 100, "the listing does not end");
            }
            user::close(directory).explain("close")?;
            user::close(mapped.descriptor).explain("close")?;
            let mut wanted: Vec<Vec<u8>> =
                (0..40).map(|number| format!("e{number:02}").into_bytes()).collect();
            wanted.extend([b".".to_vec(), b"..".to_vec()]);
            names.sort();
            wanted.sort();
            crate::ensure!(names == wanted, "{} entries: {names:?}", names.len());
            crate::ensure!(record.repeats >= 5, "only {} repeats", record.repeats);
            expect("repeats for each fault", record.repeats, record.faults)
        });
    }
}

/// F13: what is behind the end: a read that is short because the file is, and pages nobody had to touch.
pub fn end_of_file(suite: &mut Suite, path: &str, name: &str, stages: &[Stage]) {
    const LEFT: u64 = 100;
    for stage in stages {
        suite.check(&format!("F13.{name}.{}", stage.name()), |record| {
            let file = user::open(path, O_RDONLY, 0).explain(path)?;
            let size = user::lseek(file, 0, SEEK_END).explain("lseek")?;
            let mut last = vec![0; LEFT as usize];
            expect("preparing", user::pread(file, &mut last, size - LEFT).explain("pread")?, last.len())?;
            let mapped = Mapped::pattern("/a.bin", FILE_A)?;
            // The page of the delivered bytes is absent: one fault.
            let layout = Layout::plain(7, 3 * PAGE).without(0b001);
            read_end(record, file, mapped, layout, *stage, size - LEFT, &last, 1)?;
            // Only pages behind them are: none.
            let layout = Layout::plain(7, 3 * PAGE).without(0b110);
            read_end(record, file, mapped, layout, *stage, size - LEFT, &last, 0)?;
            // Nothing is left: no page is touched at all.
            let layout = Layout::plain(7, 3 * PAGE).without(0b111);
            read_end(record, file, mapped, layout, *stage, size, &[], 0)?;
            user::close(mapped.descriptor).explain("close")?;
            user::close(file).explain("close")
        });
    }
}

#[expect(clippy::too_many_arguments, reason = "the parameters of one case")]
fn read_end(
    record: &mut Record,
    file: user::Descriptor,
    mapped: Mapped,
    layout: Layout,
    stage: Stage,
    from: u64,
    wanted: &[u8],
    faults: u64,
) -> Result<(), String> {
    let buffer = Buffer::new(mapped, layout, stage, true)?;
    user::lseek(file, from as i64, SEEK_SET).explain("lseek")?;
    // SAFETY: the range is the buffer's, which nobody has borrowed.
    let (answer, delta) =
        record.measure(|| unsafe { user::read_raw(file, buffer.address(), layout.bytes) })?;
    expect("the answer", answer.explain("read")?, wanted.len() as u64)?;
    expect("faults", delta.faults(), faults)?;
    expect("repeats", delta.repeats(), faults)?;
    expect("the position", position_of(file)?, from + wanted.len() as u64)?;
    let seen = buffer.bytes().get(..wanted.len()).unwrap_or_default();
    check_equal("what was read", seen, wanted).map_err(|complaint| complaint.text)?;
    buffer.untouched_but(wanted.len() as u64)
}

/// F13 of GETDENTS: at the end of a directory no page is touched; of RDLINK: a buffer longer than the target.
pub fn short_answers(suite: &mut Suite, operation: &mut dyn Operation) {
    suite.check(&format!("F13.{}", operation.shape().name), |record| {
        operation.reset()?;
        // The touched bytes end exactly at a page boundary; the next page is absent, and stays so.
        let schedule = Schedule { position: Position::Last, boundary: 0 };
        let layout = schedule.layout(operation.shape().bytes, operation.shape().moved);
        let behind = layout.page_of(operation.shape().moved - 1) + 1;
        crate::ensure!(behind < layout.pages, "the buffer ends with what is touched");
        let buffer = Buffer::new(operation.shape().mapped, layout.without(1 << behind), Stage::First, true)?;
        let (answer, delta) = record.measure(|| operation.perform(buffer.address(), layout.bytes))?;
        expect("the answer", answer.explain("the request")?, operation.shape().answer)?;
        expect("faults", delta.faults(), 0)?;
        operation.verify(&buffer).map_err(|complaint| complaint.text)
    });
}
