//! Where things are in the guest's physical address space.
//!
//! The one thing to hold in mind: the guest learns all of this from standard places (the PVH memory
//! map and the `virtio_mmio.device=` command line words), so nothing here is a contract with it. The
//! numbers are the VMM's own choice, except the APIC addresses, which the architecture fixes.

/// Size of a guest page, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// First address that is never RAM: devices live from here up to 4 GiB.
pub const MMIO_HOLE_START: u64 = 0xc000_0000;

/// Where RAM goes on when there is more of it than fits under the hole.
pub const HIGH_RAM_START: u64 = 1 << 32;

/// First virtio-mmio window; the others follow at [`MMIO_WINDOW_STRIDE`].
pub const VIRTIO_MMIO_BASE: u64 = 0xd000_0000;

/// Distance between two virtio-mmio windows, in bytes.
pub const MMIO_WINDOW_STRIDE: u64 = 0x1000;

/// Interrupt line (GSI) of the first virtio-mmio device. Lines from 16 up exist only on the I/O APIC,
/// so the legacy interrupt controller cannot get in the way.
pub const VIRTIO_FIRST_GSI: u32 = 16;

/// Number of lines on the in-kernel I/O APIC.
pub const GSI_COUNT: u32 = 24;

/// Where KVM keeps three pages of its own on Intel hosts; outside RAM and outside every device.
pub const KVM_TSS_ADDRESS: usize = 0xfffb_d000;

/// The PVH start-info structure.
pub const START_INFO: u64 = 0x6000;

/// The PVH module list, one entry.
pub const MODULE_LIST: u64 = 0x6100;

/// The PVH memory map.
pub const MEMORY_MAP: u64 = 0x7000;

/// The kernel command line, NUL-terminated.
pub const COMMAND_LINE: u64 = 0x2_0000;

/// Room for the command line with its NUL, in bytes: what this project's kernel and Linux (COMMAND_LINE_SIZE) take.
pub const COMMAND_LINE_MAX: usize = refault_abi::info::CMDLINE_MAX;

/// End of conventional memory; the legacy hole runs from here to 1 MiB.
pub const LOW_RAM_END: u64 = 0xa_0000;

/// Kernels are loaded from here up.
pub const ONE_MIB: u64 = 0x10_0000;

/// The doorbell's registers.
pub const DOORBELL_BASE: u64 = 0xd010_0000;
