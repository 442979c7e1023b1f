//! A process as VM sees it.

use refault_abi::Endpoint;

use crate::regions::Regions;

/// An address space and whose it is.
#[derive(Debug)]
pub struct Process {
    /// Its endpoint; requests in the name of another incarnation of the slot are refused.
    pub endpoint: Endpoint,
    /// [`refault_abi::kcall::privilege`] class.
    pub privilege: u32,
    /// GPA of the top-level page table.
    pub root: u64,
    /// What may be where.
    pub regions: Regions,
}
