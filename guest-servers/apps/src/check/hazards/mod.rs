//! D1 to D12 and H1 to H10: requests that hang the seed's system, each on a weak point of its own.
//!
//! A scenario is the same in both systems. In the hardened one it ends, and its case says what must have come of it; in the
//! faithful one the machine wedges in the middle, and the kernel's graph says who waits for whom. The one thing to hold in
//! mind: that a scenario passes shows something only because the other system hangs in it.

pub mod crowd;
pub mod deaths;
pub mod exec;
pub mod simple;
pub mod span;

use alloc::string::String;

use refault_abi::layout::PAGE;
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC};
use refault_rt::user;

use super::buffer::{Buffer, Mapped, Stage};
use super::schedule::Layout;
use super::suite::{Explain, Suite};

/// A scenario.
pub type Scenario = fn(&mut Suite);

/// All of them, by the names of the specification.
pub const ALL: &[(&str, Scenario)] = &[
    ("D1", simple::other_file),
    ("H1", simple::for_ever),
    ("H2", exec::no_worker_left),
    ("H3", simple::hole),
    ("H4", simple::same_open_file),
    ("H5", simple::written_from_itself),
    ("H5.two", crowd::each_others_files),
    ("H6", simple::disk_into_disk),
    ("H7", exec::arguments),
    ("H8", exec::manager_copies),
    ("H9", simple::zeroes),
    ("H10", crowd::stuck_for_all),
    ("D10", crowd::twelve),
    ("D11", span::two_files),
    ("D11.mnt", span::two_file_systems),
    ("D12", deaths::meanwhile),
    ("same-page", simple::same_page),
    ("read-same-file", simple::read_same_file),
];

/// Three pages at an odd offset, none of them there.
pub fn absent() -> Layout {
    Layout::plain(77, 2 * PAGE + 200).without(u64::MAX)
}

/// A buffer of [`absent`] pages that is a private mapping of `mapped`.
pub fn absent_mapping(mapped: Mapped, write: bool) -> Result<Buffer, String> {
    Buffer::new(mapped, absent(), Stage::First, write)
}

/// Makes a file of `pages` that holds the pattern `id`.
pub fn make_file(path: &str, id: u32, pages: u64) -> Result<Mapped, String> {
    let descriptor = user::open(path, O_RDWR | O_CREAT | O_TRUNC, 0o644).explain(path)?;
    let mut bytes = alloc::vec![0; (pages * PAGE) as usize];
    refault_abi::pattern::fill(id, 0, &mut bytes);
    let count = user::pwrite(descriptor, &bytes, 0).explain(path)?;
    crate::ensure!(count == bytes.len(), "{path}: {count} bytes written");
    Ok(Mapped { descriptor, contents: super::buffer::Contents::Pattern(id) })
}
