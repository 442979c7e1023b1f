//! Readers and writers that wait: for bytes, for room, for the other end to go.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::pattern::{self, FILE_A};
use refault_abi::{Errno, pm};
use refault_rt::user;

use super::{CAPACITY, Pipe, STREAM};
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::family::{Child, all_good, here};
use crate::check::measure::Snapshot;
use crate::check::retry::data::check_pattern;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect, expect_error};

/// All of them.
pub fn run(suite: &mut Suite) {
    suite.check("pipe.order", |_| {
        let pipe = Pipe::new()?;
        for (offset, bytes) in [(0, 10), (10, 1), (11, 4096), (4107, 333)] {
            pipe.put(offset, bytes)?;
        }
        let all = pipe.take(10_000)?;
        expect("bytes", all.len(), 4440)?;
        check_pattern("the stream", STREAM, 0, &all).map_err(|complaint| complaint.text)?;
        pipe.close()
    });
    suite.check("pipe.end", |_| {
        let pipe = Pipe::new()?;
        pipe.put(0, 5)?;
        user::close(pipe.write).explain("close")?;
        expect("what is left", pipe.take(10)?.len(), 5)?;
        expect("the end", pipe.take(10)?.len(), 0)?;
        expect("the end again", pipe.take(10)?.len(), 0)?;
        user::close(pipe.read).explain("close")
    });
    suite.check("pipe.nobody-reads", |_| {
        let pipe = Pipe::new()?;
        user::close(pipe.read).explain("close")?;
        expect_error("writing", user::write(pipe.write, b"x"), Errno::EPIPE)?;
        user::close(pipe.write).explain("close")
    });
    suite.check("pipe.wrong-ends", |_| {
        let pipe = Pipe::new()?;
        expect_error("writing the reading end", user::write(pipe.read, b"x"), Errno::EBADF)?;
        let mut byte = [0];
        expect_error("reading the writing end", user::read(pipe.write, &mut byte), Errno::EBADF)?;
        let seek = user::lseek(pipe.read, 0, refault_abi::vfs::SEEK_SET);
        expect_error("a position", seek, Errno::ESPIPE)?;
        pipe.close()
    });
    suite.check("pipe.reader-waits", reader_waits);
    suite.check("pipe.writer-waits", writer_waits);
    suite.check("pipe.whole-records", |_| whole_records());
    suite.check("pipe.killed-reader", |_| killed(true));
    suite.check("pipe.killed-writer", |_| killed(false));
}

/// A reader waits with an absent buffer; the bytes come later.
fn reader_waits(record: &mut Record) -> Result<(), String> {
    let pipe = Pipe::new()?;
    let start = Snapshot::now()?;
    let reader = Child::run(|| {
        user::close(pipe.write).explain("close")?;
        let mapped = Mapped::pattern("/a.bin", FILE_A)?;
        let layout = Layout::plain(4000, 500).without(0b11);
        let buffer = Buffer::new(mapped, layout, Stage::First, true)?;
        here(0)?;
        // SAFETY: the range is the buffer's, which nobody has borrowed.
        let answer = unsafe { user::read_raw(pipe.read, buffer.address(), 500) };
        expect("the answer", answer.explain("read")?, 500)?;
        check_pattern("what was read", STREAM, 0, buffer.bytes()).map_err(|complaint| complaint.text)?;
        let mut more = [0; 8];
        expect("the end", user::read(pipe.read, &mut more).explain("read")?, 0)
    })?;
    reader.arrived()?;
    for _ in 0..20 {
        refault_rt::ipc::yield_now();
    }
    pipe.put(0, 500)?;
    user::close(pipe.write).explain("close")?;
    reader.good()?;
    user::close(pipe.read).explain("close")?;
    let delta = start.until_now()?;
    record.add(&delta);
    crate::ensure!(delta.faults() >= 1, "no fault");
    expect("grants left", delta.leaked(), 0)
}

/// Three times what a pipe holds, from a child that has to wait for room, read into absent buffers.
fn writer_waits(record: &mut Record) -> Result<(), String> {
    let total = 3 * CAPACITY + 123;
    let pipe = Pipe::new()?;
    let start = Snapshot::now()?;
    let writer = Child::run(|| {
        user::close(pipe.read).explain("close")?;
        let mut bytes = vec![0; total];
        pattern::fill(STREAM, 0, &mut bytes);
        expect("bytes written", user::write(pipe.write, &bytes).explain("write")?, total)
    })?;
    user::close(pipe.write).explain("close")?;
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let mut seen = 0;
    loop {
        let layout = Layout::plain(100, 5 * 4096).without(0b10100);
        let buffer = Buffer::new(mapped, layout, Stage::First, true)?;
        // SAFETY: the range is the buffer's, which nobody has borrowed.
        let answer = unsafe { user::read_raw(pipe.read, buffer.address(), layout.bytes) };
        let count = answer.explain("read")?;
        if count == 0 {
            break;
        }
        let bytes = buffer.bytes().get(..count as usize).unwrap_or_default();
        check_pattern("the stream", STREAM, seen, bytes).map_err(|complaint| complaint.text)?;
        seen += count;
    }
    expect("bytes in all", seen, total as u64)?;
    writer.good()?;
    user::close(pipe.read).explain("close")?;
    let delta = start.until_now()?;
    record.add(&delta);
    crate::ensure!(delta.faults() >= 3, "only {} faults", delta.faults());
    expect("grants left", delta.leaked(), 0)
}

/// Writes of up to 4096 bytes are not torn, although four processes write at once.
fn whole_records() -> Result<(), String> {
    const RECORD: usize = 1500;
    const EACH: usize = 40;
    let pipe = Pipe::new()?;
    let mut children = Vec::new();
    for number in 0..4u8 {
        children.push(Child::run(|| {
            let bytes = vec![b'A' + number; RECORD];
            for _ in 0..EACH {
                expect("bytes written", user::write(pipe.write, &bytes).explain("write")?, RECORD)?;
            }
            Ok(())
        })?);
    }
    user::close(pipe.write).explain("close")?;
    let mut all = Vec::new();
    loop {
        let piece = pipe.take(7000)?;
        if piece.is_empty() {
            break;
        }
        all.extend(piece);
    }
    all_good(&children)?;
    expect("bytes in all", all.len(), 4 * EACH * RECORD)?;
    for (number, record) in all.chunks(RECORD).enumerate() {
        let first = record.first().copied();
        crate::ensure!(record.iter().all(|byte| Some(*byte) == first), "record {number} is torn");
    }
    user::close(pipe.read).explain("close")
}

/// Somebody is killed who waits at a pipe; the pipe and everybody else go on.
fn killed(reader: bool) -> Result<(), String> {
    let pipe = Pipe::new()?;
    if !reader {
        pipe.put(0, CAPACITY)?;
    }
    let child = Child::run(|| {
        here(0)?;
        if reader {
            pipe.take(100)?;
        } else {
            pipe.put(CAPACITY as u64, 4096)?;
        }
        Err(String::from("nothing happened that could have ended the wait"))
    })?;
    child.arrived()?;
    for _ in 0..20 {
        refault_rt::ipc::yield_now();
    }
    user::kill(child.0, pm::SIGKILL).explain("kill")?;
    expect("its status", child.status()?, 128 + i64::from(pm::SIGKILL))?;
    if reader {
        pipe.put(0, 100)?;
        expect("bytes", pipe.take(200)?.len(), 100)?;
    } else {
        let mut left = CAPACITY;
        while left > 0 {
            let piece = pipe.take(left)?;
            crate::ensure!(!piece.is_empty(), "the pipe ended with {left} bytes to go");
            left -= piece.len();
        }
        user::close(pipe.write).explain("close")?;
        let nothing = pipe.take(100)?;
        expect("bytes of the killed", nothing.len(), 0)?;
        return user::close(pipe.read).explain("close");
    }
    pipe.close().map_err(|why| format!("closing: {why}"))
}
