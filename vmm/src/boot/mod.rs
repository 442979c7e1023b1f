//! Getting a guest to its first instruction: kernel image, start information, first vCPU's registers.
//!
//! The protocol is PVH (the Xen direct boot ABI): an ELF kernel says its 32-bit physical entry in a
//! note, and finds in EBX a structure with the memory map, the command line and its modules. Any VMM
//! that speaks PVH can boot the same kernel.

pub mod cpu_state;
pub mod kernel;
pub mod start_info;

pub use kernel::{KernelError, LoadedKernel};
pub use start_info::{BootData, BootError};
