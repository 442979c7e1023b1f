//! What a write leaves that failed in the middle: whatever became of its bytes, everybody agrees on the size, and the next
//! append goes to the end.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use refault_abi::Errno;
use refault_abi::layout::PAGE;
use refault_abi::pattern::FILE_A;
use refault_abi::vfs::{O_APPEND, O_RDWR, SEEK_CUR, SEEK_END, SEEK_SET};
use refault_rt::user;

use super::{bytes, contents, fresh};
use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect, expect_error};

/// Bytes of each write.
const BYTES: u64 = 4 * PAGE;

/// All of them: the hole in the buffer on its first, third or last page.
pub fn run(suite: &mut Suite) {
    for hole in [0u64, 2, 3] {
        for (name, from) in [("at-0", 0), ("in-the-middle", 3000), ("at-the-end", 10_000), ("behind", 50_000)]
        {
            suite.check(&format!("sizes.{name}.page-{hole}"), |record| {
                failed_write(record, from, hole, false)
            });
        }
        suite.check(&format!("sizes.append.page-{hole}"), |record| failed_write(record, 0, hole, true));
    }
}

fn failed_write(record: &mut Record, from: u64, hole: u64, append: bool) -> Result<(), String> {
    let before = bytes(20, 0, 10_000);
    let file = fresh("/failed", 0)?;
    expect("bytes", user::write(file, &before).explain("write")?, before.len())?;
    user::close(file).explain("close")?;
    let file = user::open("/failed", O_RDWR | if append { O_APPEND } else { 0 }, 0).explain("open")?;
    let mapped = Mapped::pattern("/a.bin", FILE_A)?;
    let buffer = Buffer::new(mapped, Layout::plain(0, BYTES), Stage::Second(1), false)?;
    buffer.punch(hole)?;
    user::lseek(file, from as i64, SEEK_SET).explain("lseek")?;
    let (answer, delta) = record.measure(|| user::write_raw(file, buffer.address(), BYTES))?;
    buffer.abandon()?;
    expect_error("the write", answer, Errno::EFAULT)?;
    expect("grants left", delta.leaked(), 0)?;
    expect("the position", user::lseek(file, 0, SEEK_CUR).explain("lseek")?, from)?;
    // The two ways to ask agree with each other and with what can be read.
    let size = user::fstat(file).explain("fstat")?.size;
    expect("the size by lseek", user::lseek(file, 0, SEEK_END).explain("lseek")?, size)?;
    let seen = contents(file)?;
    expect("bytes up to the end", seen.len() as u64, size)?;
    // Outside of what was to be written nothing changed, and behind the old end are the write's bytes or zeroes.
    let start = if append { 10_000 } else { from };
    let kept = seen.get(..start.min(10_000) as usize).unwrap_or_default();
    crate::ensure!(kept == before.get(..kept.len()).unwrap_or_default(), "bytes before the write changed");
    crate::ensure!(size >= 10_000, "the file became shorter: {size}");
    crate::ensure!(size <= (start + hole * PAGE).max(10_000), "bytes that never arrived count: {size}");
    // The next append goes to the end that everybody agrees on.
    let more = vec![0x5a; 100];
    let appender = user::open("/failed", O_RDWR | O_APPEND, 0).explain("open")?;
    expect("the append", user::write(appender, &more).explain("write")?, 100)?;
    let after = contents(appender)?;
    expect("the size at last", after.len() as u64, size + 100)?;
    crate::ensure!(after.ends_with(&more), "the append went elsewhere");
    crate::ensure!(after.starts_with(&seen), "the append changed what was there");
    for descriptor in [appender, file, mapped.descriptor] {
        user::close(descriptor).explain("close")?;
    }
    Ok(())
}
