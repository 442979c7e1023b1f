//! F1, F2, F3: a fault at every position of a buffer: full count and right bytes, exactly one repeat, position advanced once.
//!
//! The same cases under other words of the command line are F5 (`fs=whole`, `fs=swallow`) and F14 (`retry=efault`).

use alloc::format;
use alloc::string::{String, ToString};

use refault_abi::options::{FsReply, Options, Retry};
use refault_abi::vfs::SEEK_SET;
use refault_rt::user;

use super::super::buffer::{Buffer, Stage};
use super::super::case::{Complaint, Outcome, Verdict};
use super::super::measure::Delta;
use super::super::schedule::{Layout, Schedule};
use super::super::suite::{Explain, Record, Suite, expect};
use super::{Operation, position_of};

/// Where the mapped file's descriptor is put before each request; nobody may move it.
const ELSEWHERE: u64 = 4321;

/// What one request did, and the three judgements on it.
pub struct Judged {
    /// The numbers.
    pub record: Record,
    /// Full count, right bytes.
    pub result: Outcome,
    /// As many faults, repeats and requests as there had to be.
    pub repeats: Outcome,
    /// Positions.
    pub position: Outcome,
}

/// How many requests the file systems get for the operation when nothing is absent.
pub fn clean_requests(operation: &mut dyn Operation) -> Result<u64, String> {
    let layout = Layout::plain(1, operation.shape().bytes);
    let mut requests = 0;
    // Twice: the first time paths and caches are cold.
    for _ in 0..2 {
        operation.reset()?;
        let buffer =
            Buffer::new(operation.shape().mapped, layout, Stage::Second(1), operation.shape().writes_buffer)?;
        let (answer, delta) =
            Record::default().measure(|| operation.perform(buffer.address(), layout.bytes))?;
        let answer = answer.explain("the request with everything present")?;
        expect("the answer with everything present", answer, operation.shape().answer)?;
        expect("faults with everything present", delta.faults(), 0)?;
        expect("repeats with everything present", delta.repeats(), 0)?;
        operation.verify(&buffer).map_err(|complaint| complaint.text)?;
        requests = delta.requests();
    }
    Ok(requests)
}

/// Performs the operation on a buffer with absent pages and looks at everything.
pub fn judge(
    operation: &mut dyn Operation,
    options: &Options,
    layout: Layout,
    stage: Stage,
    clean: u64,
) -> Result<Judged, String> {
    operation.reset()?;
    let mapped = operation.shape().mapped;
    if mapped.descriptor >= 0 {
        user::lseek(mapped.descriptor, ELSEWHERE as i64, SEEK_SET).explain("lseek")?;
    }
    let buffer = Buffer::new(mapped, layout, stage, operation.shape().writes_buffer)?;
    let mut record = Record::default();
    let (answer, delta) = record.measure(|| operation.perform(buffer.address(), layout.bytes))?;
    let position = positions(operation).map(|()| None).map_err(Complaint::from);
    let repeats = counts(operation, options, stage, clean, &delta);
    let result = result(operation, &buffer, answer);
    Ok(Judged { record, result, repeats, position })
}

fn result(operation: &mut dyn Operation, buffer: &Buffer, answer: refault_abi::Result<u64>) -> Outcome {
    let answer = answer.explain("the request").map_err(Complaint::from)?;
    if answer < operation.shape().answer {
        let text = format!("{answer} of {} bytes", operation.shape().answer);
        return Err(Complaint::of(Verdict::Short, text));
    }
    expect("the answer", answer, operation.shape().answer).map_err(Complaint::from)?;
    operation.verify(buffer)?;
    let changed = if operation.shape().writes_buffer { operation.shape().moved } else { 0 };
    buffer.untouched_but(changed).map_err(|text| Complaint::of(Verdict::Corrupt, text))?;
    Ok(None)
}

fn counts(operation: &dyn Operation, options: &Options, stage: Stage, clean: u64, delta: &Delta) -> Outcome {
    let judged = || {
        let times = match stage {
            Stage::First => 1,
            Stage::Second(times) => times,
        };
        if options.fs == FsReply::Swallow && operation.shape().in_pieces {
            // The file system goes on after a failed copy and meets the next absent page, too.
            crate::ensure!(delta.faults() >= delta.repeats(), "{} faults", delta.faults());
            crate::ensure!(delta.repeats() >= 1, "no repeat");
        } else if options.retry == Retry::Hardened {
            expect("repeats", delta.repeats(), times)?;
            expect("faults", delta.faults(), times)?;
        } else {
            expect("repeats", delta.repeats(), 1)?;
            crate::ensure!(delta.faults() >= 1, "no fault");
        }
        expect("requests at the file system", delta.requests(), clean.saturating_add(delta.repeats()))?;
        Ok(())
    };
    judged().map_err(Complaint::from)?;
    match delta.leaked() {
        0 => Ok(None),
        leaked => Err(Complaint::of(Verdict::Leak, format!("{leaked} grants not revoked"))),
    }
}

fn positions(operation: &dyn Operation) -> Result<(), String> {
    if let Some((descriptor, _, after)) = operation.position() {
        expect("the file position", position_of(descriptor)?, after)?;
    }
    let mapped = operation.shape().mapped;
    if mapped.descriptor >= 0 {
        expect("the position of the mapped file", position_of(mapped.descriptor)?, ELSEWHERE)?;
    }
    Ok(())
}

/// Which of the three judgements to report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// F1.
    pub result: bool,
    /// F2.
    pub repeats: bool,
    /// F3.
    pub position: bool,
}

/// Runs every schedule at every stage of `stages` and reports what is wanted, under names that end in `suffix`.
pub fn run(suite: &mut Suite, operation: &mut dyn Operation, stages: &[Stage], wanted: Wanted, prefix: &str) {
    let name = operation.shape().name;
    let clean = match clean_requests(operation) {
        Ok(clean) => clean,
        Err(why) => return suite.check(&format!("{prefix}{name}.clean"), |_| Err(why)),
    };
    let options = *suite.options();
    for stage in stages {
        for schedule in Schedule::all() {
            let where_ =
                format!("{name}.{}{}.{}", schedule.position_name(), schedule.boundary_name(), stage.name());
            let layout = schedule.layout(operation.shape().bytes, operation.shape().moved);
            let judged = judge(operation, &options, layout, *stage, clean);
            let Judged { record, result, repeats, position } = match judged {
                Ok(judged) => judged,
                Err(why) => {
                    suite.check(&format!("{prefix}F1.{where_}"), |_| Err(why.to_string()));
                    continue;
                }
            };
            for (number, wanted, outcome) in [
                ("F1", wanted.result, result),
                ("F2", wanted.repeats, repeats),
                ("F3", wanted.position, position),
            ] {
                if wanted {
                    suite.report(&format!("{prefix}{number}.{where_}"), &record, &outcome);
                }
            }
        }
    }
}
