//! A process as VM sees it.

use alloc::vec::Vec;

use refault_abi::Endpoint;

use crate::files::FileId;
use crate::regions::{Region, Regions};

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

impl Process {
    /// The files its regions refer to, each once.
    pub fn files(&self) -> Vec<FileId> {
        let mut files = Vec::new();
        for file in self.regions.iter().filter_map(Region::backing_file) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files
    }
}
