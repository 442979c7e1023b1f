//! Positions, appending, overwriting, truncating and holes.

use alloc::string::String;
use alloc::vec;

use refault_abi::Errno;
use refault_abi::vfs::{O_APPEND, O_RDONLY, O_RDWR, O_WRONLY, SEEK_CUR, SEEK_END, SEEK_SET};
use refault_rt::user;

use super::{bytes, contents, fresh, settle};
use crate::check::suite::{Explain, Suite, expect, expect_error};

/// All of them.
pub fn run(suite: &mut Suite) {
    suite.check("files.positions", |_| positions());
    let mut wanted = vec![];
    suite.check("files.append", |_| {
        // Two descriptors that append in turn, one of which was moved.
        let one = fresh("/append", O_APPEND)?;
        let two = user::open("/append", O_WRONLY | O_APPEND, 0).explain("open")?;
        for round in 0..6u32 {
            let piece = bytes(round, 0, 1000 + 7 * round as usize);
            let file = if round % 2 == 0 { one } else { two };
            user::lseek(file, 3, SEEK_SET).explain("lseek")?;
            expect("bytes appended", user::write(file, &piece).explain("write")?, piece.len())?;
            wanted.extend(piece);
            let position = user::lseek(file, 0, SEEK_CUR).explain("lseek")?;
            expect("the position", position, wanted.len() as u64)?;
        }
        user::close(two).explain("close")?;
        user::close(one).explain("close")
    });
    let outcome = settle(suite, "/append", &wanted);
    suite.check("files.append.contents", |_| outcome);
    let outcome = truncate(suite);
    suite.check("files.truncate", |_| outcome);
    let outcome = holes(suite);
    suite.check("files.holes", |_| outcome);
    let outcome = large(suite);
    suite.check("files.large", |_| outcome);
    suite.check("files.access", |_| {
        let writer = fresh("/access", 0)?;
        let reader = user::open("/access", O_RDONLY, 0).explain("open")?;
        let write_only = user::open("/access", O_WRONLY, 0).explain("open")?;
        let mut byte = [0];
        expect_error("writing for reading", user::write(reader, b"x"), Errno::EBADF)?;
        expect_error("reading for writing", user::read(write_only, &mut byte), Errno::EBADF)?;
        expect_error("truncating for reading", user::ftruncate(reader, 0), Errno::EINVAL)
            .or_else(|_| expect_error("truncating for reading", user::ftruncate(reader, 0), Errno::EBADF))?;
        user::close(writer).explain("close")?;
        expect_error("a closed descriptor", user::write(writer, b"x"), Errno::EBADF)?;
        expect_error("a descriptor that is none", user::read(-1, &mut byte), Errno::EBADF)?;
        expect_error("a directory", user::open("/dir", O_RDWR, 0), Errno::EISDIR)
    });
}

fn positions() -> Result<(), String> {
    let file = user::open("/b.bin", O_RDONLY, 0).explain("open")?;
    let size = user::fstat(file).explain("fstat")?.size;
    let mut buffer = vec![0; 100];
    expect("the start", user::lseek(file, 0, SEEK_CUR).explain("lseek")?, 0)?;
    expect("a read", user::read(file, &mut buffer).explain("read")?, 100)?;
    expect("behind it", user::lseek(file, 0, SEEK_CUR).explain("lseek")?, 100)?;
    expect("a read elsewhere", user::pread(file, &mut buffer, 5000).explain("pread")?, 100)?;
    expect("nothing moved", user::lseek(file, 0, SEEK_CUR).explain("lseek")?, 100)?;
    expect("from the end", user::lseek(file, -40, SEEK_END).explain("lseek")?, size - 40)?;
    expect("what is left", user::read(file, &mut buffer).explain("read")?, 40)?;
    expect("the end", user::read(file, &mut buffer).explain("read")?, 0)?;
    expect("behind the end", user::lseek(file, 1000, SEEK_CUR).explain("lseek")?, size + 1000)?;
    expect("nothing there", user::read(file, &mut buffer).explain("read")?, 0)?;
    expect_error("before the start", user::lseek(file, -1, SEEK_SET), Errno::EINVAL)?;
    expect("not moved", user::lseek(file, 0, SEEK_CUR).explain("lseek")?, size + 1000)?;
    // A copy of a descriptor shares its position, a second open does not.
    let copy = user::dup(file, None).explain("dup")?;
    user::lseek(copy, 77, SEEK_SET).explain("lseek")?;
    expect("shared", user::lseek(file, 0, SEEK_CUR).explain("lseek")?, 77)?;
    let other = user::open("/b.bin", O_RDONLY, 0).explain("open")?;
    expect("not shared", user::lseek(other, 0, SEEK_CUR).explain("lseek")?, 0)?;
    for descriptor in [file, copy, other] {
        user::close(descriptor).explain("close")?;
    }
    Ok(())
}

fn truncate(suite: &mut Suite) -> Result<(), String> {
    let file = fresh("/cut", 0)?;
    let before = bytes(9, 0, 30_000);
    expect("bytes", user::write(file, &before).explain("write")?, before.len())?;
    user::ftruncate(file, 10_001).explain("shrinking")?;
    expect("the size", user::fstat(file).explain("fstat")?.size, 10_001)?;
    user::ftruncate(file, 20_000).explain("growing")?;
    let mut wanted = before.get(..10_001).unwrap_or_default().to_vec();
    wanted.resize(20_000, 0);
    let seen = contents(file)?;
    crate::ensure!(seen == wanted, "what comes back behind a cut is not zeroes");
    // A write behind the end leaves zeroes between, also in the last page.
    let written = user::pwrite(file, b"behind", 23_456).explain("pwrite")?;
    expect("bytes", written, 6)?;
    wanted.resize(23_456, 0);
    wanted.extend_from_slice(b"behind");
    user::fsync(file).explain("fsync")?;
    user::close(file).explain("close")?;
    user::flush_caches().explain("flush")?;
    settle(suite, "/cut", &wanted)
}

fn holes(suite: &mut Suite) -> Result<(), String> {
    let file = fresh("/holes", 0)?;
    let mut wanted = vec![0; 150_000];
    for (offset, length) in [(0usize, 10usize), (50_000, 5000), (149_000, 1000)] {
        let piece = bytes(8, offset as u64, length);
        expect("bytes", user::pwrite(file, &piece, offset as u64).explain("pwrite")?, length)?;
        if let Some(place) = wanted.get_mut(offset..offset + length) {
            place.copy_from_slice(&piece);
        }
    }
    user::flush_caches().explain("flush")?;
    let seen = contents(file)?;
    crate::ensure!(seen == wanted, "holes are not zeroes");
    user::close(file).explain("close")?;
    settle(suite, "/holes", &wanted)
}

/// Direct, single and double indirect zones.
fn large(suite: &mut Suite) -> Result<(), String> {
    let file = fresh("/large", 0)?;
    let wanted = bytes(7, 0, 600_000);
    for piece in wanted.chunks(37_777) {
        expect("bytes", user::write(file, piece).explain("write")?, piece.len())?;
    }
    user::fsync(file).explain("fsync")?;
    user::close(file).explain("close")?;
    user::flush_caches().explain("flush")?;
    settle(suite, "/large", &wanted)
}
