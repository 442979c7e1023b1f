//! Guest RAM: one memfd, mapped twice.
//!
//! The *vCPU view* is what KVM's memory slots point at; pages are taken away in it. The *device view*
//! is what devices, the loader and the injector itself read and write; nothing is ever taken away in
//! it. Both show the same bytes because both are shared mappings of one file.
//!
//! The one thing to hold in mind: never touch the vCPU view from the VMM. An armed page there stops
//! whoever touches it, and only a vCPU thread is prepared for that.
//!
//! This is not an allocator and knows nothing of what the guest keeps where.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd};

use refault_devices::virtio::DeviceMemory;
use vm_memory::bitmap::NewBitmap;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};

use crate::layout::{HIGH_RAM_START, MMIO_HOLE_START, PAGE_SIZE};

/// The device view's type: it remembers which pages were written through it.
pub type GuestMemory = DeviceMemory;

/// Smallest RAM that a guest can be given: the low megabyte for boot data and one more for a kernel.
pub const MIN_RAM: u64 = 2 << 20;

/// Why guest RAM could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The size is not a whole number of pages or too small.
    #[error(
        "guest memory of {0} bytes: it has to be a multiple of 4096 and at least {MIN_RAM} bytes; give --mem a size like 64M"
    )]
    BadSize(u64),
    /// The host refused the memory file.
    #[error(
        "the host refused a memory file of {size} bytes for the guest: {source}; give --mem a smaller size"
    )]
    Create {
        /// Bytes asked for.
        size: u64,
        /// What the host said.
        source: io::Error,
    },
    /// The host refused a mapping of it.
    #[error("the host refused to map {size} bytes of guest memory: {reason}; give --mem a smaller size")]
    Map {
        /// Bytes asked for.
        size: u64,
        /// What the mapping layer said.
        reason: String,
    },
}

/// One contiguous piece of guest RAM and where the vCPU view has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamPiece {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Length in bytes, a multiple of the page size.
    pub len: u64,
    /// Host virtual address of the first byte in the vCPU view.
    pub vcpu_hva: u64,
}

/// Guest RAM with its two views.
#[derive(Debug)]
pub struct GuestRam {
    /// Held for its mappings only; nothing in the VMM reads or writes through it.
    _vcpu_view: GuestMemoryMmap<()>,
    device_view: GuestMemory,
    pieces: Vec<RamPiece>,
    size: u64,
}

impl GuestRam {
    /// Makes `size` bytes of RAM, starting at guest physical address 0 and going on above 4 GiB where it
    /// does not fit under the device hole.
    pub fn new(size: u64) -> Result<Self, MemoryError> {
        if size < MIN_RAM || !size.is_multiple_of(PAGE_SIZE) {
            return Err(MemoryError::BadSize(size));
        }
        let file = memory_file(size).map_err(|source| MemoryError::Create { size, source })?;
        let vcpu_view = map_view::<()>(&file, size)?;
        let device_view = map_view(&file, size)?;
        let pieces: Vec<RamPiece> = vcpu_view
            .iter()
            .map(|r| RamPiece { gpa: r.start_addr().0, len: r.len(), vcpu_hva: r.as_ptr() as u64 })
            .collect();
        for piece in &pieces {
            // A huge page would be trapped as a whole, and its neighbours with it.
            // SAFETY: the range is exactly one mapping that `vcpu_view` owns and keeps alive; the
            // advice changes no contents.
            let refused = unsafe {
                libc::madvise(piece.vcpu_hva as *mut libc::c_void, piece.len as usize, libc::MADV_NOHUGEPAGE)
            };
            if refused != 0 {
                // EINVAL: a host built without huge pages, where there is nothing to switch off.
                let source = io::Error::last_os_error();
                if source.raw_os_error() != Some(libc::EINVAL) {
                    return Err(MemoryError::Map { size, reason: source.to_string() });
                }
            }
        }
        Ok(Self { _vcpu_view: vcpu_view, device_view, pieces, size })
    }

    /// The view for devices, loading and checking. Never armed.
    pub fn device_view(&self) -> &GuestMemory {
        &self.device_view
    }

    /// The pieces that KVM gets as memory slots, in address order.
    pub fn pieces(&self) -> &[RamPiece] {
        &self.pieces
    }

    /// Total RAM in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// End of the RAM that lies under the device hole, exclusive.
    pub fn low_end(&self) -> u64 {
        self.size.min(MMIO_HOLE_START)
    }

    /// Whether `len` bytes from `gpa` on are all RAM of one piece.
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        self.pieces.iter().any(|p| {
            gpa.checked_sub(p.gpa).and_then(|offset| offset.checked_add(len)).is_some_and(|end| end <= p.len)
        })
    }

    /// Addresses of the pages that were written through the device view since this was last asked, in order. A page that a disk is
    /// still reading into was marked when the disk began: ask when no request is in flight.
    pub fn take_device_dirty(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        for region in self.device_view.iter() {
            let mut first = region.start_addr().0;
            for mut word in region.deref().bitmap().get_and_reset() {
                while word != 0 {
                    pages.push(first + u64::from(word.trailing_zeros()) * PAGE_SIZE);
                    word &= word - 1;
                }
                first += u64::from(u64::BITS) * PAGE_SIZE;
            }
        }
        pages
    }

    /// Host virtual address of `gpa` in the vCPU view, if it is RAM.
    pub fn vcpu_hva(&self, gpa: u64) -> Option<u64> {
        let piece = self.pieces.iter().find(|p| gpa >= p.gpa && gpa - p.gpa < p.len)?;
        Some(piece.vcpu_hva + (gpa - piece.gpa))
    }

    /// Guest physical address behind a host virtual address of the vCPU view.
    pub fn gpa_of_vcpu_hva(&self, hva: u64) -> Option<u64> {
        let piece = self.pieces.iter().find(|p| hva >= p.vcpu_hva && hva - p.vcpu_hva < p.len)?;
        Some(piece.gpa + (hva - piece.vcpu_hva))
    }
}

/// How `size` bytes of RAM are laid out: pieces of (guest physical address, length).
pub fn ram_ranges(size: u64) -> Vec<(u64, u64)> {
    let low = size.min(MMIO_HOLE_START);
    let mut ranges = vec![(0, low)];
    if size > low {
        ranges.push((HIGH_RAM_START, size - low));
    }
    ranges
}

fn memory_file(size: u64) -> io::Result<File> {
    // SAFETY: the name is a valid C string; the call has no other precondition.
    let fd = unsafe { libc::memfd_create(c"refault-guest-ram".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned by the kernel and nobody else owns it.
    let file = unsafe { File::from_raw_fd(fd) };
    let len = libc::off_t::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: the descriptor is open for writing as long as `file` lives.
    if unsafe { libc::ftruncate(file.as_raw_fd(), len) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

fn map_view<B: NewBitmap>(file: &File, size: u64) -> Result<GuestMemoryMmap<B>, MemoryError> {
    let failed = |reason: String| MemoryError::Map { size, reason };
    let mut offset = 0;
    let mut regions = Vec::new();
    for (gpa, len) in ram_ranges(size) {
        let part = file.try_clone().map_err(|e| failed(e.to_string()))?;
        let length = usize::try_from(len).map_err(|e| failed(e.to_string()))?;
        let mapping = MmapRegion::from_file(FileOffset::new(part, offset), length)
            .map_err(|e| failed(e.to_string()))?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(gpa))
            .ok_or_else(|| failed("the address range wraps".into()))?;
        regions.push(region);
        offset += len;
    }
    GuestMemoryMmap::from_regions(regions).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    #[test]
    fn both_views_show_the_same_bytes() {
        let ram = GuestRam::new(MIN_RAM).unwrap();
        ram.device_view().write_obj(0x1122_3344_u32, GuestAddress(0x5000)).unwrap();
        assert_eq!(ram._vcpu_view.read_obj::<u32>(GuestAddress(0x5000)).unwrap(), 0x1122_3344);
        assert_ne!(
            ram.vcpu_hva(0x5000).unwrap(),
            ram.device_view().get_host_address(GuestAddress(0x5000)).unwrap() as u64
        );
    }

    #[test]
    fn the_device_view_remembers_what_was_written_through_it() {
        let ram = GuestRam::new(MIN_RAM).unwrap();
        assert!(ram.take_device_dirty().is_empty());
        ram._vcpu_view.write_obj(1_u8, GuestAddress(0x7000)).unwrap();
        ram.device_view().read_obj::<u64>(GuestAddress(0x3000)).unwrap();
        assert!(ram.take_device_dirty().is_empty());
        // Across a border, in the 65th page, and the last byte of all; through a copy of the view as well.
        ram.device_view().write_obj(1_u64, GuestAddress(0x4ffc)).unwrap();
        ram.device_view().clone().write_obj(1_u8, GuestAddress(64 << 12)).unwrap();
        ram.device_view().write_obj(1_u8, GuestAddress(MIN_RAM - 1)).unwrap();
        assert_eq!(ram.take_device_dirty(), [0x4000, 0x5000, 64 << 12, MIN_RAM - 0x1000]);
        assert!(ram.take_device_dirty().is_empty());
    }

    #[test]
    fn addresses_translate_both_ways() {
        let ram = GuestRam::new(MIN_RAM).unwrap();
        let hva = ram.vcpu_hva(0x1_2345).unwrap();
        assert_eq!(ram.gpa_of_vcpu_hva(hva), Some(0x1_2345));
        assert_eq!(ram.vcpu_hva(MIN_RAM), None);
        assert!(ram.contains(MIN_RAM - 8, 8));
        assert!(!ram.contains(MIN_RAM - 8, 9));
        assert!(!ram.contains(u64::MAX, 2));
    }

    #[test]
    fn big_ram_leaves_the_device_hole_free() {
        let gib = 1 << 30;
        assert_eq!(ram_ranges(4 * gib), vec![(0, MMIO_HOLE_START), (HIGH_RAM_START, gib)]);
        assert_eq!(ram_ranges(gib), vec![(0, gib)]);
    }

    #[test]
    fn odd_sizes_are_refused() {
        assert!(matches!(GuestRam::new(MIN_RAM + 1), Err(MemoryError::BadSize(_))));
        assert!(matches!(GuestRam::new(4096), Err(MemoryError::BadSize(4096))));
    }
}
