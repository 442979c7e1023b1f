//! Hazards of the process manager: H2, H7 and H8.
//!
//! The program that is run is made by the test: a few instructions that end the process, in a file of the test disk.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::pattern::FILE_A;
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC};
use refault_abi::vm::{MAP_PRIVATE, PROT_READ};
use refault_abi::{Endpoint, pm};
use refault_rt::user;

use super::{absent, absent_mapping, make_file};
use crate::check::buffer::Mapped;
use crate::check::family::{Child, here, wait_for_go};
use crate::check::program::{PROGRAM_STATUS, make_program};
use crate::check::raw;
use crate::check::retry::data::check_pattern;
use crate::check::suite::{Explain, Suite, expect};

/// The program file.
const PROGRAM: &str = "/program";

/// Makes a file that holds the strings of an exec or a spawn so that the name lies at the end of its first page and the
/// arguments on the next; the address of the name in a mapping of it, none of whose pages but the first is there.
fn strings(path: &str, name: &str) -> Result<(u64, u64), String> {
    let mut block = Vec::from(name.as_bytes());
    block.push(0);
    let head = block.len();
    for number in 0..40 {
        block.extend_from_slice(format!("argument-{number}").as_bytes());
        block.push(0);
    }
    let mut bytes = vec![0; 2 * PAGE as usize];
    let from = PAGE as usize - head;
    if let Some(place) = bytes.get_mut(from..from + block.len()) {
        place.copy_from_slice(&block);
    }
    let file = user::open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644).explain(path)?;
    expect("the file of strings", user::write(file, &bytes).explain(path)?, bytes.len())?;
    let base = user::mmap(2 * PAGE, PROT_READ, MAP_PRIVATE, file, 0).explain("mmap")?;
    let first = core::ptr::with_exposed_provenance::<u8>(base as usize);
    // SAFETY: the mapping is readable.
    let byte = unsafe { first.read_volatile() };
    expect("the file's first byte", byte, 0)?;
    user::flush_caches().explain("flushing the caches")?;
    Ok((base + from as u64, block.len() as u64))
}

/// EXEC of strings at an address: returns only the error.
fn exec(address: u64, bytes: u64) -> String {
    match raw::ask(Endpoint::PM, pm::EXEC, &pm::Spawn { address, bytes }) {
        Ok(_) => String::from("exec answered"),
        Err(error) => format!("exec: {error}"),
    }
}

/// H7: the arguments of an exec lie on a page of a mapped file that is not there.
pub fn arguments(suite: &mut Suite) {
    suite.check("H7", |record| {
        make_program(PROGRAM)?;
        let ((), delta) = {
            let (answer, delta) = record.measure(|| {
                let child = Child::run(|| {
                    let (address, bytes) = strings("/strings", PROGRAM)?;
                    Err(exec(address, bytes))
                })?;
                expect("the program's status", child.status()?, PROGRAM_STATUS)
            })?;
            (answer?, delta)
        };
        crate::ensure!(delta.faults() >= 1, "no fault");
        expect("grants left", delta.leaked(), 0)
    });
}

/// H2: eight workers wait for VM, the ninth for what VM cannot bring without a worker.
pub fn no_worker_left(suite: &mut Suite) {
    const READERS: u32 = 8;
    suite.check("H2", |record| {
        make_program(PROGRAM)?;
        let files: Result<Vec<Mapped>, String> =
            (0..=READERS).map(|number| make_file(&format!("/work{number}"), 0x60 + number, 16)).collect();
        let files = files?;
        let mut children = Vec::new();
        for number in 0..READERS as usize {
            let id = 0x60 + number as u32;
            let own = files[number];
            children.push(Child::run(|| {
                let mapped = Mapped::pattern("/a.bin", FILE_A)?;
                let buffers: Result<Vec<_>, String> = (0..4).map(|_| absent_mapping(mapped, true)).collect();
                let buffers = buffers?;
                here(0)?;
                wait_for_go()?;
                for buffer in &buffers {
                    let bytes = absent().bytes;
                    // SAFETY: the range is the buffer's, which nobody has borrowed.
                    let answer = unsafe { user::pread_raw(own.descriptor, buffer.address(), bytes, 99) };
                    expect("the answer", answer.explain("pread")?, bytes)?;
                    check_pattern("what was read", id, 99, buffer.bytes())
                        .map_err(|complaint| complaint.text)?;
                }
                Ok(())
            })?);
        }
        let runner = Child::run(|| {
            let (address, bytes) = strings("/strings", PROGRAM)?;
            here(0)?;
            wait_for_go()?;
            Err(exec(address, bytes))
        })?;
        for child in &children {
            child.arrived()?;
        }
        runner.arrived()?;
        user::flush_caches().explain("flushing the caches")?;
        let (answer, delta) = record.measure(|| {
            for child in &children {
                child.go()?;
            }
            runner.go()?;
            let mut left = READERS + 1;
            while left > 0 {
                let (gone, status) = user::wait().explain("wait")?;
                let wanted = if gone == runner.0 { PROGRAM_STATUS } else { 0 };
                expect("a child's status", status, wanted)?;
                left -= 1;
            }
            Ok::<(), String>(())
        })?;
        answer?;
        crate::ensure!(delta.faults() >= u64::from(READERS), "only {} faults", delta.faults());
        expect("grants left", delta.leaked(), 0)
    });
}

/// H8: PM copies strings from an absent page of a mapped file while VFS has an answer for it.
pub fn manager_copies(suite: &mut Suite) {
    const ROUNDS: u32 = 8;
    suite.check("H8", |record| {
        make_program(PROGRAM)?;
        let (answer, delta) = record.measure(|| {
            for _ in 0..ROUNDS {
                round()?;
            }
            Ok::<(), String>(())
        })?;
        answer?;
        crate::ensure!(delta.faults() >= 1, "no fault");
        expect("grants left", delta.leaked(), 0)
    });
}

/// One child ends, which makes PM ask VFS to close its files; others have PM copy strings that are not there; one keeps VFS
/// and PM busy with a program whose pages have to come from the disk.
fn round() -> Result<(), String> {
    let busy = Child::run(|| {
        here(0)?;
        wait_for_go()?;
        Err(format!("exec: {}", user::exec([PROGRAM])))
    })?;
    let mut spawners = Vec::new();
    for number in 0..3 {
        spawners.push(Child::run(|| {
            // A program that does not exist: what counts is the copying of its name.
            let (address, bytes) = strings(&format!("/strings{number}"), "no-such-program")?;
            here(0)?;
            wait_for_go()?;
            match raw::spawn(address, bytes) {
                Err(refault_abi::Errno::ENOENT) => Ok(()),
                other => Err(format!("spawn: {other:?}")),
            }
        })?);
    }
    let mut enders = Vec::new();
    for _ in 0..3 {
        enders.push(Child::run(|| {
            here(0)?;
            wait_for_go()
        })?);
    }
    busy.arrived()?;
    for child in spawners.iter().chain(&enders) {
        child.arrived()?;
    }
    user::flush_caches().explain("flushing the caches")?;
    busy.go()?;
    for (ender, spawner) in enders.iter().zip(&spawners) {
        ender.go()?;
        spawner.go()?;
    }
    let mut all = spawners;
    all.extend(enders);
    let mut left = all.len() + 1;
    while left > 0 {
        let (gone, status) = user::wait().explain("wait")?;
        let wanted = if gone == busy.0 { PROGRAM_STATUS } else { 0 };
        expect("a child's status", status, wanted)?;
        left -= 1;
    }
    Ok(())
}
