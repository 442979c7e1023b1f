//! The global allocator: size classes over pages from VM.
//!
//! Blocks are powers of two from 16 bytes on; a freed block goes to the front of its class's list and is
//! never given back. Small classes are cut from chunks, large ones come straight from the source. VM itself
//! replaces the source, since it cannot ask itself.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use crate::Single;

/// Where whole pages come from: bytes (a multiple of the page size) to a page-aligned address.
pub type Source = fn(u64) -> Option<NonNull<u8>>;

/// Smallest class: 2^4 bytes.
const MIN_SHIFT: u32 = 4;
/// Classes 2^4 to 2^30.
const CLASSES: usize = 27;
/// Classes up to this size are cut from chunks.
const CHUNK: usize = 64 << 10;
/// Blocks up to this size have their pages at once.
const PRESENT: u64 = 1 << 20;
/// Largest alignment served.
const MAX_ALIGN: usize = 4096;

/// A free block's contents.
struct Free {
    next: Option<NonNull<Free>>,
}

struct State {
    source: Source,
    free: [Option<NonNull<Free>>; CLASSES],
    /// Unused rest of the current chunk.
    bump: usize,
    end: usize,
}

/// The allocator.
pub struct Heap(Single<State>);

#[global_allocator]
static HEAP: Heap = Heap(Single::new(State { source: from_vm, free: [None; CLASSES], bump: 0, end: 0 }));

/// Pages by MMAP, present at once unless they are very many: they are about to be used, and a page fault costs far
/// more than a page.
fn from_vm(bytes: u64) -> Option<NonNull<u8>> {
    let flags = if bytes <= PRESENT { refault_abi::vm::MAP_POPULATE } else { 0 };
    let address = crate::pages::map(bytes, flags).ok()?;
    NonNull::new(ptr::with_exposed_provenance_mut(address as usize))
}

/// Replaces the source of pages. To be called before the first allocation.
pub fn set_source(source: Source) {
    if let Ok(mut state) = HEAP.0.borrow() {
        state.source = source;
    }
}

/// Class index and block size for a layout.
fn class(layout: Layout) -> Option<(usize, usize)> {
    if layout.align() > MAX_ALIGN {
        return None;
    }
    let bytes = layout.size().max(layout.align()).max(1 << MIN_SHIFT).checked_next_power_of_two()?;
    let index = (bytes.trailing_zeros() - MIN_SHIFT) as usize;
    (index < CLASSES).then_some((index, bytes))
}

impl State {
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let (index, bytes) = class(layout)?;
        let list = self.free.get_mut(index)?;
        if let Some(block) = *list {
            // SAFETY: a block in the list is free, lies in memory from the source and starts with a `Free`.
            *list = unsafe { block.as_ref() }.next;
            return Some(block.cast());
        }
        if bytes > CHUNK / 4 {
            return (self.source)((bytes as u64).max(refault_abi::layout::PAGE));
        }
        let mut start = self.bump.checked_next_multiple_of(bytes)?;
        if self.bump == 0 || start.checked_add(bytes)? > self.end {
            let chunk = (self.source)(CHUNK as u64)?;
            start = chunk.as_ptr().expose_provenance();
            self.end = start.checked_add(CHUNK)?;
        }
        self.bump = start.checked_add(bytes)?;
        NonNull::new(ptr::with_exposed_provenance_mut(start))
    }

    fn release(&mut self, block: NonNull<u8>, layout: Layout) {
        if let Some((index, _)) = class(layout)
            && let Some(list) = self.free.get_mut(index)
        {
            let block = block.cast::<Free>();
            // SAFETY: the caller gives the block up; every class is large and aligned enough for a `Free`.
            unsafe { block.write(Free { next: *list }) };
            *list = Some(block);
        }
    }
}

// SAFETY: blocks of a class are disjoint, at least as large and as aligned as asked, and stay mapped.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.0.borrow() {
            Ok(mut state) => state.allocate(layout).map_or(ptr::null_mut(), NonNull::as_ptr),
            Err(_) => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let (Ok(mut state), Some(block)) = (self.0.borrow(), NonNull::new(block)) {
            state.release(block, layout);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        if class(wanted).is_some() && class(wanted) == class(layout) {
            return block;
        }
        // SAFETY: the caller's promises cover both layouts; the copy stays inside both blocks.
        unsafe {
            let new = self.alloc(wanted);
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}
