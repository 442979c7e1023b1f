//! Building the address space of a program: segments copied out of the boot image, stack, arguments, and the
//! pages every process shares with the kernel.

use refault_abi::layout::{PAGE, STACK_MAX, STACK_TOP, page_ceil, page_floor, pte};
use refault_abi::vm::{PROT_READ, PROT_WRITE};
use refault_abi::{Endpoint, Errno, Result};

use crate::arguments::Image;
use crate::elf::Program;
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

/// Builds the address space. ENOMEM when memory runs out: nothing is left behind then.
pub fn build<R: Ram>(
    memory: &mut Memory<'_, R>,
    endpoint: Endpoint,
    privilege: u32,
    program: &Program<'_>,
    stack: &Image,
    shared: &[Shared],
) -> Result<Process> {
    let root = memory.create_root().map_err(|refusal| refusal.errno())?;
    let mut process = Process { endpoint, privilege, root, regions: Regions::new() };
    match fill(memory, &mut process, program, stack, shared) {
        Ok(()) => Ok(process),
        Err(error) => {
            // A program in the making has no file mappings: no handles are left over.
            let _ = memory.destroy(&mut process);
            Err(error)
        }
    }
}

fn fill<R: Ram>(
    memory: &mut Memory<'_, R>,
    process: &mut Process,
    program: &Program<'_>,
    stack: &Image,
    shared: &[Shared],
) -> Result<()> {
    for page in shared {
        let entry = page.gpa | page.bits | pte::PRESENT | pte::USER;
        memory.map(process.root, page.address, entry).map_err(|refusal| refusal.errno())?;
    }
    for segment in &program.segments {
        let region = Region {
            start: segment.start(),
            end: segment.end(),
            protection: segment.protection | PROT_READ,
            backing: Backing::Anonymous,
        };
        memory.add_region(process, region)?;
        store(memory, process, segment.address, segment.data, region.protection)?;
        let empty = page_ceil(segment.address.saturating_add(segment.data.len() as u64));
        present(memory, process, empty, region.end.min(empty.saturating_add(BSS_PAGES * PAGE)))?;
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

/// Makes the pages in `[start, end)` present that are not.
fn present<R: Ram>(memory: &mut Memory<'_, R>, process: &Process, start: u64, end: u64) -> Result<()> {
    let mut address = start;
    while address < end {
        if let Outcome::Refused(refusal) = memory.resolve(process, address, Access::default()) {
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
