//! Hazards of the process manager: H2, H7 and H8.
//!
//! The program that is run is made by the test: a few instructions that end the process, in a file of the test disk.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::pattern::FILE_A;
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC, SEEK_SET};
use refault_abi::vm::{MAP_PRIVATE, PROT_READ};
use refault_abi::{Endpoint, pm};
use refault_rt::user;

use super::crowd::{late, rounds};
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::family::{Child, all_go, here, wait_for_go};
use crate::check::program::{PROGRAM_STATUS, make_program};
use crate::check::raw;
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

/// H2: eight writers of a program file, one of which waits for VM and the others for it; the ninth worker opens the program.
/// Nobody is left to bring in the page that the first one waits for.
pub fn no_worker_left(suite: &mut Suite) {
    const WRITERS: u64 = 8;
    /// Where it is written: behind everything that belongs to the program.
    const FROM: i64 = 0x10000 + 1001;
    let rounds = rounds(suite, 2);
    suite.check("H2", |record| {
        make_program(PROGRAM)?;
        let file = user::open(PROGRAM, O_RDWR, 0).explain(PROGRAM)?;
        expect("bytes", user::pwrite(file, &vec![0; 0x10000], 0x10000).explain("pwrite")?, 0x10000)?;
        user::sync().explain("sync")?;
        // The program's own pages stay in VM's cache for as long as they are mapped here: bringing one in would need the lock of the
        // file that is written, which is another hazard (H5) and would hide this one.
        let pages = user::mmap(0x10000, PROT_READ, MAP_PRIVATE, file, 0).explain("mmap")?;
        for address in (pages..pages + 0x10000).step_by(PAGE as usize) {
            let byte = core::ptr::with_exposed_provenance::<u8>(address as usize);
            // SAFETY: the mapping is readable.
            core::hint::black_box(unsafe { byte.read_volatile() });
        }
        let mut children = Vec::new();
        for _ in 0..WRITERS {
            children.push(Child::run(|| {
                let mapped = Mapped::pattern("/a.bin", FILE_A)?;
                let file = user::open(PROGRAM, O_RDWR, 0).explain(PROGRAM)?;
                here(0)?;
                wait_for_go()?;
                for _ in 0..rounds {
                    let buffer = Buffer::new(mapped, late(), Stage::First, false)?;
                    let bytes = buffer.layout().bytes;
                    user::lseek(file, FROM, SEEK_SET).explain("lseek")?;
                    let count = user::write_raw(file, buffer.address(), bytes).explain("write")?;
                    expect("the answer", count, bytes)?;
                }
                Ok(())
            })?);
        }
        children.push(Child::run(|| {
            here(0)?;
            wait_for_go()?;
            for _ in 0..rounds {
                let runner = Child::run(|| Err(format!("exec: {}", user::exec([PROGRAM]))))?;
                expect("the program's status", runner.status()?, PROGRAM_STATUS)?;
            }
            Ok(())
        })?);
        let delta = all_go(record, &children, 1)?;
        crate::ensure!(delta.faults() >= WRITERS * rounds, "only {} faults", delta.faults());
        expect("grants left", delta.leaked(), 0)
    });
}

/// H8: PM copies strings from an absent page of a mapped file while VFS has an answer for it.
pub fn manager_copies(suite: &mut Suite) {
    let rounds = rounds(suite, 4);
    suite.check("H8", |record| {
        make_program(PROGRAM)?;
        let (answer, delta) = record.measure(|| {
            for _ in 0..rounds {
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
