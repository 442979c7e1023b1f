//! Building the address space of a program: segments copied out of the boot image or mapped from a file, stack, arguments, and
//! the pages every process shares with the kernel.

use refault_abi::layout::{PAGE, STACK_MAX, STACK_TOP, page_floor, pte};
use refault_abi::vm::{PROT_READ, PROT_WRITE};
use refault_abi::{Endpoint, Errno, Result};

use crate::arguments::Image;
use crate::elf::{Program, Segment};
use crate::files::FileId;
use crate::memory::{Access, Memory, Outcome};
use crate::process::Process;
use crate::ram::Ram;
use crate::regions::{Backing, Region, Regions};

/// Most pages behind a segment's data that are made present at once: a page fault costs far more than a page.
const BSS_PAGES: u64 = 64;
/// Pages at the top of the stack that are made present at once.
const STACK_PAGES: u64 = 4;

/// A page of the kernel's that the process gets to see.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// Where.
    pub address: u64,
    /// GPA.
    pub gpa: u64,
    /// Bits of the entry beside PRESENT and USER.
    pub bits: u64,
}

/// Where a program's segments are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Here: they are copied.
    Image(&'a [u8]),
    /// In a file, of which this is the entry: they are mapped, and come in as they are touched.
    File(FileId),
}

/// Builds the address space. ENOMEM when memory runs out, ENOEXEC when a file's pages cannot be the program's: nothing is left
/// behind then. The caller's use of the file's entry stays the caller's, in either case.
pub fn build<R: Ram>(
    memory: &mut Memory<'_, R>,
    endpoint: Endpoint,
    privilege: u32,
    (program, source): (&Program, Source<'_>),
    stack: &Image,
    shared: &[Shared],
) -> Result<Process> {
    let root = memory.create_root().map_err(|refusal| refusal.errno())?;
    let mut process = Process { endpoint, privilege, root, regions: Regions::new() };
    let filled = fill(memory, &mut process, (program, source), stack, shared);
    if let Source::File(file) = source
        && process.files().contains(&file)
    {
        memory.files.acquire(file);
    }
    if filled.is_err() {
        // The caller's use of the entry is left: no handle comes out.
        let _ = memory.destroy(&mut process);
    }
    filled.map(|()| process)
}

fn fill<R: Ram>(
    memory: &mut Memory<'_, R>,
    process: &mut Process,
    (program, source): (&Program, Source<'_>),
    stack: &Image,
    shared: &[Shared],
) -> Result<()> {
    for page in shared {
        let entry = page.gpa | page.bits | pte::PRESENT | pte::USER;
        memory.map(process.root, page.address, entry).map_err(|refusal| refusal.errno())?;
    }
    for segment in &program.segments {
        match source {
            Source::Image(file) => copy_segment(memory, process, segment, file)?,
            Source::File(file) => map_segment(memory, process, segment, file)?,
        }
    }
    let region = Region {
        start: STACK_TOP - STACK_MAX,
        end: STACK_TOP,
        protection: PROT_READ | PROT_WRITE,
        backing: Backing::Anonymous,
    };
    memory.add_region(process, region)?;
    store(memory, process, stack.address, &stack.bytes, region.protection)?;
    present(memory, process, STACK_TOP - STACK_PAGES * PAGE, STACK_TOP)
}

/// A segment with its contents.
fn copy_segment<R: Ram>(
    memory: &mut Memory<'_, R>,
    process: &mut Process,
    segment: &Segment,
    file: &[u8],
) -> Result<()> {
    let region = Region {
        start: segment.start(),
        end: segment.end(),
        protection: segment.protection | PROT_READ,
        backing: Backing::Anonymous,
    };
    memory.add_region(process, region)?;
    let data = segment.data(file).ok_or(Errno::ENOEXEC)?;
    store(memory, process, segment.address, data, region.protection)?;
    present(memory, process, segment.file_end(), region.end.min(segment.file_end() + BSS_PAGES * PAGE))
}

/// A segment whose contents come from a file when they are touched. What is behind them in their last page is not the program's.
fn map_segment<R: Ram>(
    memory: &mut Memory<'_, R>,
    process: &mut Process,
    segment: &Segment,
    file: FileId,
) -> Result<()> {
    if !segment.is_congruent() {
        return Err(Errno::ENOEXEC);
    }
    let protection = segment.protection | PROT_READ;
    let middle = segment.file_end();
    if middle > segment.start() {
        let contents_end = segment.offset.saturating_add(segment.in_file);
        let limit = if segment.bytes > segment.in_file { contents_end } else { u64::MAX };
        let backing = Backing::File { file, offset: page_floor(segment.offset), limit };
        memory.add_region(process, Region { start: segment.start(), end: middle, protection, backing })?;
    }
    if middle < segment.end() {
        let region = Region { start: middle, end: segment.end(), protection, backing: Backing::Anonymous };
        memory.add_region(process, region)?;
        present(memory, process, middle, region.end.min(middle + BSS_PAGES * PAGE))?;
    }
    Ok(())
}

/// Makes the pages in `[start, end)` present that are not.
fn present<R: Ram>(memory: &mut Memory<'_, R>, process: &Process, start: u64, end: u64) -> Result<()> {
    let mut address = start;
    while address < end {
        if let Outcome::Refused(refusal) = memory.resolve(process, address, Access::default(), false) {
            return Err(refusal.errno());
        }
        address = address.saturating_add(PAGE);
    }
    Ok(())
}

/// Makes the pages of `[address, address + data.len())` present and fills them.
fn store<R: Ram>(
    memory: &mut Memory<'_, R>,
    process: &Process,
    address: u64,
    data: &[u8],
    protection: u32,
) -> Result<()> {
    let mut at = address;
    let mut rest = data;
    while !rest.is_empty() {
        let inside = at % PAGE;
        let count = rest.len().min((PAGE - inside) as usize);
        let (part, after) = rest.split_at(count);
        let frame = memory.allocate_for(process).map_err(|refusal| refusal.errno())?;
        memory.ram.zero_page(frame);
        memory.ram.write(frame + inside, part);
        memory
            .map_frame(process.root, page_floor(at), frame, protection)
            .map_err(|refusal| refusal.errno())?;
        at = at.checked_add(count as u64).ok_or(Errno::EFAULT)?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
