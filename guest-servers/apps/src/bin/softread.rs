//! `softread`: reads a file into a mapping of another one and says exactly what came of it.
//!
//! The scenario of a soft fault in the middle of a read: the buffer is a private mapping of file A at an odd offset, the source
//! is file B. In the case `second-stage` every page of the buffer is there and the monitor may take some away; in the case
//! `first-stage` all but the first were never touched. The program expects nothing: it reports what it asked, what it got,
//! and whether each byte is where it belongs. Exit status 0 if all of it fits together, even if the read was short.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::string::ToString;

use refault_abi::doorbell::event;
use refault_abi::layout::page_ceil;
use refault_abi::pattern::{FILE_A, FILE_B};
use refault_abi::vfs::{SEEK_CUR, SEEK_SET};
use refault_apps::files::complain;
use refault_apps::mapping::Mapping;
use refault_apps::softread::{Arguments, BUFFER_OFFSET, Case, Observation, USAGE as CALL};
use refault_apps::{DONE, FAILED, USAGE};
use refault_rt::start::Args;
use refault_rt::user::{self, Descriptor};
use refault_rt::{Errno, eprintln, println};

refault_rt::entry!(main);

/// The mapped file.
const MAPPED: &str = "/a.bin";
/// The file that is read.
const SOURCE: &str = "/b.bin";

/// What went wrong, and has not been said yet.
enum Complaint {
    /// With this file.
    File(&'static str, Errno),
    /// This file is too small.
    TooSmall(&'static str, u64, u64),
}

fn main(args: Args) -> i32 {
    // Where there is no monitor that listens, events go nowhere, which is no reason to stop.
    let _ = user::event(event::PROGRAM_START, 0);
    let arguments = match Arguments::parse(args.skip(1)) {
        Ok(arguments) => arguments,
        Err("") => {
            eprintln!("softread: a value is missing\n{CALL}");
            return USAGE;
        }
        Err(word) => {
            eprintln!("softread: bad argument {word:?}\n{CALL}");
            return USAGE;
        }
    };
    match run(&arguments) {
        Ok(status) => status,
        Err(Complaint::File(path, error)) => {
            complain("softread", path, error);
            FAILED
        }
        Err(Complaint::TooSmall(path, size, needed)) => {
            eprintln!("softread: {path}: {size} bytes, but {needed} are needed");
            FAILED
        }
    }
}

fn run(arguments: &Arguments) -> Result<i32, Complaint> {
    let length = page_ceil(BUFFER_OFFSET as u64 + arguments.bytes);
    let mapped = open(MAPPED, length)?;
    let needed = arguments.offset.saturating_add(arguments.bytes);
    let source = if arguments.same_file {
        // Only to see that it is large enough.
        open(MAPPED, needed)?;
        mapped
    } else {
        open(SOURCE, needed)?
    };
    let mut status = DONE;
    for case in arguments.cases {
        let seen = observe(*case, arguments, mapped, source, length)?;
        println!("softread: {seen}");
        // Without a monitor the report goes nowhere; the line above stays.
        let _ = user::report(&seen.json().to_string());
        if !seen.consistent() {
            status = FAILED;
        }
    }
    Ok(status)
}

/// Opens a file that has to be at least `bytes` long.
fn open(path: &'static str, bytes: u64) -> Result<Descriptor, Complaint> {
    let because = |error| Complaint::File(path, error);
    let descriptor = user::open(path, 0, 0).map_err(because)?;
    let size = user::fstat(descriptor).map_err(because)?.size;
    if size < bytes {
        return Err(Complaint::TooSmall(path, size, bytes));
    }
    Ok(descriptor)
}

fn observe(
    case: Case,
    arguments: &Arguments,
    mapped: Descriptor,
    source: Descriptor,
    length: u64,
) -> Result<Observation, Complaint> {
    let of_mapped = |error| Complaint::File(MAPPED, error);
    let of_source = |error| Complaint::File(SOURCE, error);
    let start = i64::try_from(arguments.offset).map_err(|_| of_source(Errno::EINVAL))?;
    let start = user::lseek(source, start, SEEK_SET).map_err(of_source)?;

    let mut mapping = Mapping::of_file(mapped, length).map_err(of_mapped)?;
    match case {
        Case::SecondStage => {
            user::flush_caches().map_err(of_source)?;
            (0..mapping.pages()).for_each(|page| mapping.touch(page));
        }
        Case::FirstStage => {
            mapping.touch(0);
            user::flush_caches().map_err(of_source)?;
        }
    }

    let _ = user::event(event::CASE_BEGIN, case.number());
    let got = mapping.read(source, BUFFER_OFFSET as u64, arguments.bytes);
    let _ = user::event(event::CASE_END, case.number());

    let position = user::lseek(source, 0, SEEK_CUR).map_err(of_source)?;
    let file = if arguments.same_file { FILE_A } else { FILE_B };
    Ok(Observation::of(case, file, arguments.bytes, got, start, position, mapping.bytes()))
}
