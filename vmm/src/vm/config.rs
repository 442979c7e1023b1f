//! What a machine is to be made of.

/// A machine's configuration, complete and checked as far as it can be without the host.
#[derive(Debug, Clone)]
pub struct Config {
    /// The kernel's ELF image.
    pub kernel: Vec<u8>,
    /// The boot image, handed over as the PVH module.
    pub image: Option<Vec<u8>>,
    /// Kernel command line; the VMM appends its devices.
    pub command_line: String,
    /// RAM in bytes.
    pub memory: u64,
    /// Number of processors.
    pub cpus: u8,
}
