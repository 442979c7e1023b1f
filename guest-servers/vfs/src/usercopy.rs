//! VFS's own copies from and to a user's memory: paths, and what it stores itself.
//!
//! The one thing to hold in mind: such a copy must not suspend VFS, because VM may need VFS to bring the page in. So it
//! tries, has VM make the memory present if a page was absent, and tries again, within the bound of the retry.

use alloc::vec;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::options::Retry;
use refault_abi::vfs::PATH_MAX;
use refault_abi::{Endpoint, Errno, Result};

use crate::kernel::{CopyError, Kernel};
use crate::position::user_range;
use crate::retry::Budget;
use crate::server::Vfs;

impl<K: Kernel> Vfs<K> {
    /// Copies from a user's memory.
    pub(crate) async fn fetch(&self, user: Endpoint, address: u64, bytes: &mut [u8]) -> Result<()> {
        let length = bytes.len() as u64;
        self.patiently(user, address, length, false, || self.kernel.copy_in(user, address, bytes)).await
    }

    /// Copies to a user's memory.
    pub(crate) async fn store(&self, user: Endpoint, address: u64, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        self.patiently(user, address, length, true, || self.kernel.copy_out(user, address, bytes)).await
    }

    /// A path that a user names.
    pub(crate) async fn fetch_path(&self, user: Endpoint, address: u64, length: u64) -> Result<Vec<u8>> {
        if length > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut path = vec![0; usize::try_from(length).map_err(|_| Errno::ENAMETOOLONG)?];
        self.fetch(user, address, &mut path).await?;
        Ok(path)
    }

    async fn patiently(
        &self,
        user: Endpoint,
        address: u64,
        length: u64,
        write: bool,
        mut copy: impl FnMut() -> core::result::Result<(), CopyError>,
    ) -> Result<()> {
        user_range(address, length)?;
        if length == 0 {
            return Ok(());
        }
        let mut budget = Budget::new(address, length);
        let mut repeats = 0;
        loop {
            match copy() {
                Ok(()) => return Ok(()),
                Err(CopyError::Other(error)) => return Err(error),
                Err(CopyError::Fault(fault)) => {
                    let again = match self.options.retry {
                        Retry::Hardened if self.faithful.is_none() => budget.spend(fault),
                        Retry::Hardened | Retry::Efault | Retry::Mark => repeats == 0,
                    };
                    if !again {
                        return Err(Errno::EFAULT);
                    }
                }
            }
            self.handle_memory(user, address, length, write).await?;
            self.kernel.count(Counter::VfsRawRepeats);
            repeats += 1;
        }
    }
}
