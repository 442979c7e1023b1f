//! Hazards of several processes at once.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::options::Mode;
use refault_abi::pattern::{FILE_A, FILE_B};
use refault_abi::vfs::{O_RDWR, SEEK_SET};
use refault_rt::{ipc, user};

use super::{absent_mapping, make_file};
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::family::{Child, all_go, here, wait_for_go};
use crate::check::measure::Snapshot;
use crate::check::retry::data::check_pattern;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Suite, expect};

/// Six pages and a bit, the last of which is absent: the first attempt takes long enough for others to begin theirs.
pub fn late() -> Layout {
    let layout = Layout::plain(77, 6 * PAGE);
    layout.without(1 << (layout.pages - 1))
}

/// How often: in the seed's system until it hangs, which is a matter of who waits for the disk when.
pub fn rounds(suite: &Suite, hardened: u64) -> u64 {
    if suite.options().mode == Mode::Hardened { hardened } else { 200 }
}

/// In a child: reads a file at `from`, by its position, into a buffer, and checks the bytes.
fn read_and_check(file: user::Descriptor, id: u32, from: u64, buffer: &Buffer) -> Result<(), String> {
    let bytes = buffer.layout().bytes;
    user::lseek(file, from as i64, SEEK_SET).explain("lseek")?;
    // SAFETY: the range is the buffer's, which nobody has borrowed.
    let answer = unsafe { user::read_raw(file, buffer.address(), bytes) };
    expect("the answer", answer.explain("read")?, bytes)?;
    check_pattern("what was read", id, from, buffer.bytes()).map_err(|complaint| complaint.text)?;
    buffer.untouched_but(bytes)
}

/// H5 of two: each writes a file from a mapping of the other's.
pub fn each_others_files(suite: &mut Suite) {
    let rounds = rounds(suite, 3);
    suite.check("H5.two", |record| {
        let files = [make_file("/left.bin", 0x31, 16)?, make_file("/right.bin", 0x32, 16)?];
        let names = ["/left.bin", "/right.bin"];
        let mut children = Vec::new();
        for me in 0..2 {
            let other = files[1 - me];
            children.push(Child::run(|| {
                let file = user::open(names[me], O_RDWR, 0).explain("open")?;
                let layout = late();
                for _ in 0..rounds {
                    let buffer = Buffer::new(other, layout, Stage::First, false)?;
                    // At an odd place: what is there has to come from the disk first.
                    user::lseek(file, 1001, SEEK_SET).explain("lseek")?;
                    // Two that only repeat the same go in step on some hosts, one behind the other for ever: they start together.
                    here(0)?;
                    wait_for_go()?;
                    let count = user::write_raw(file, buffer.address(), layout.bytes).explain("write")?;
                    expect("the answer", count, layout.bytes)?;
                }
                Ok(())
            })?);
        }
        let delta = all_go(record, &children, rounds)?;
        crate::ensure!(delta.faults() >= 2, "only {} faults", delta.faults());
        expect("grants left", delta.leaked(), 0)
    });
}

/// H10: one page-in that hangs is all it takes. A child reads as in H4; then somebody who has nothing to do with it touches a page
/// of another file.
pub fn stuck_for_all(suite: &mut Suite) {
    suite.check("H10", |record| {
        let innocent = absent_mapping(Mapped::pattern("/b.bin", FILE_B)?, false)?;
        let start = Snapshot::now()?;
        let culprit = Child::run(|| {
            let mapped = Mapped::pattern("/a.bin", FILE_A)?;
            let buffer = absent_mapping(mapped, true)?;
            here(0)?;
            let bytes = buffer.layout().bytes;
            user::lseek(mapped.descriptor, 50_000, SEEK_SET).explain("lseek")?;
            // SAFETY: the range is the buffer's, which nobody has borrowed.
            let answer = unsafe { user::read_raw(mapped.descriptor, buffer.address(), bytes) };
            expect("the answer", answer.explain("read")?, bytes)?;
            check_pattern("what was read", FILE_A, 50_000, buffer.bytes()).map_err(|complaint| complaint.text)
        })?;
        culprit.arrived()?;
        // Lets the culprit get as far as it can.
        for _ in 0..50 {
            ipc::yield_now();
        }
        let bytes = innocent.bytes();
        for (index, byte) in bytes.iter().enumerate().step_by(PAGE as usize) {
            expect("a byte of the other file", *byte, innocent.original(index as u64))?;
        }
        culprit.good()?;
        record.add(&start.until_now()?);
        Ok(())
    });
}

/// D10: twelve readers into each other's mapped files, through descriptors that all of them share.
pub fn twelve(suite: &mut Suite) {
    const READERS: u32 = 12;
    let rounds = rounds(suite, 3);
    // In the seed's system every page-in moves the position of the file it is from, which is somebody's here.
    let positions_hold = suite.options().mode == Mode::Hardened;
    suite.check("D10", |record| {
        let files: Result<Vec<Mapped>, String> =
            (0..READERS).map(|number| make_file(&format!("/ring{number:02}"), 0x40 + number, 16)).collect();
        let files = files?;
        user::flush_caches().explain("flushing the caches")?;
        let mut children = Vec::new();
        for number in 0..READERS as usize {
            let (own, next) = (files[number], files[(number + 1) % READERS as usize]);
            let id = 0x40 + number as u32;
            children.push(Child::run(|| {
                here(0)?;
                wait_for_go()?;
                for round in 0..rounds {
                    let buffer = Buffer::new(next, late(), Stage::First, true)?;
                    let read = read_and_check(own.descriptor, id, 500 + round % 3 * 7000, &buffer);
                    if positions_hold {
                        read?;
                    }
                }
                Ok(())
            })?);
        }
        let delta = all_go(record, &children, 1)?;
        let wanted = u64::from(READERS) * rounds;
        crate::ensure!(delta.faults() >= wanted, "only {} faults for {wanted} reads", delta.faults());
        expect("grants left", delta.leaked(), 0)
    });
}
