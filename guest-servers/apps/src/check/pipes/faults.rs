//! F11: faults at every position of the buffer of a read and a write.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::pattern::{self, FILE_A};
use refault_rt::user;

use super::{Pipe, STREAM};
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::retry::data::{check_equal, check_pattern};
use crate::check::schedule::{Layout, Schedule};
use crate::check::suite::{Explain, Record, Suite, expect};

/// Bytes of each transfer: less than a pipe holds.
const BYTES: u64 = 3 * 4096 + 77;
/// What is in the pipe behind them.
const MORE: usize = 300;

/// All of them.
pub fn run(suite: &mut Suite, stages: &[Stage]) {
    for stage in stages {
        for schedule in Schedule::all() {
            let layout = schedule.layout(BYTES, BYTES);
            let place = format!("{}{}.{}", schedule.position_name(), schedule.boundary_name(), stage.name());
            suite.check(&format!("F11.read.{place}"), |record| read(record, layout, *stage));
            suite.check(&format!("F11.write.{place}"), |record| write(record, layout, *stage));
        }
    }
}

/// Into an absent buffer: all that was asked for, once; what is behind it is still in the pipe.
fn read(record: &mut Record, layout: Layout, stage: Stage) -> Result<(), String> {
    let pipe = Pipe::new()?;
    pipe.put(0, BYTES as usize + MORE)?;
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let buffer = Buffer::new(mapped, layout, stage, true)?;
    // SAFETY: the range is the buffer's, which nobody has borrowed.
    let (answer, delta) = record.measure(|| unsafe { user::read_raw(pipe.read, buffer.address(), BYTES) })?;
    expect("the answer", answer.explain("read")?, BYTES)?;
    expect("faults", delta.faults(), 1)?;
    expect("repeats", delta.repeats(), 1)?;
    expect("grants left", delta.leaked(), 0)?;
    check_pattern("what was read", STREAM, 0, buffer.bytes()).map_err(|complaint| complaint.text)?;
    buffer.untouched_but(BYTES)?;
    let rest = pipe.take(2 * MORE)?;
    expect("bytes behind", rest.len(), MORE)?;
    check_pattern("what was behind", STREAM, BYTES, &rest).map_err(|complaint| complaint.text)?;
    user::close(mapped.descriptor).explain("close")?;
    pipe.close()
}

/// From an absent buffer: all of it, once, behind what was in the pipe.
fn write(record: &mut Record, layout: Layout, stage: Stage) -> Result<(), String> {
    let pipe = Pipe::new()?;
    pipe.put(0, MORE)?;
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let buffer = Buffer::new(mapped, layout, stage, false)?;
    let (answer, delta) = record.measure(|| user::write_raw(pipe.write, buffer.address(), BYTES))?;
    expect("the answer", answer.explain("write")?, BYTES)?;
    expect("faults", delta.faults(), 1)?;
    expect("repeats", delta.repeats(), 1)?;
    expect("grants left", delta.leaked(), 0)?;
    pipe.put(MORE as u64, MORE)?;
    let mut wanted: Vec<u8> = (0..MORE as u64).map(|at| pattern::pattern_byte(STREAM, at)).collect();
    wanted.extend((0..BYTES).map(|at| buffer.original(at)));
    wanted.extend((0..MORE as u64).map(|at| pattern::pattern_byte(STREAM, MORE as u64 + at)));
    let mut seen = Vec::new();
    while seen.len() < wanted.len() {
        let piece = pipe.take(1000)?;
        crate::ensure!(!piece.is_empty(), "the pipe ended after {} bytes", seen.len());
        seen.extend(piece);
    }
    check_equal("the stream", &seen, &wanted).map_err(|complaint| complaint.text)?;
    user::close(mapped.descriptor).explain("close")?;
    pipe.close()
}
