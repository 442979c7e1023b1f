//! Counters of the guest before and after: what really happened.

use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_rt::kernel;

use super::suite::Explain;

/// What is looked at.
const WATCHED: [Counter; 27] = [
    Counter::SoftFaultsFirstStage,
    Counter::SoftFaultsSecondStage,
    Counter::MarksSet,
    Counter::MarksFailed,
    Counter::MarksStale,
    Counter::MarksPending,
    Counter::MarksDelivered,
    Counter::Suspends,
    Counter::SuspensionsGivenUp,
    Counter::Copies,
    Counter::Forks,
    Counter::VfsRequests,
    Counter::VfsMarksSeen,
    Counter::VfsRepeats,
    Counter::VfsRawRepeats,
    Counter::VfsHandleMem,
    Counter::VfsGivenUp,
    Counter::VfsGrants,
    Counter::VfsRevokes,
    Counter::VmFilePages,
    Counter::VmCopyOnWrite,
    Counter::VmOneShot,
    Counter::FsRequests,
    Counter::FsPeeks,
    Counter::FsCopyFailures,
    Counter::FsDriverRetries,
    Counter::RsRestarts,
];

/// The counters at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot(Vec<u64>);

/// How they changed.
#[derive(Clone, Debug, Default)]
pub struct Delta(Vec<u64>);

impl Snapshot {
    /// Now.
    pub fn now() -> Result<Snapshot, String> {
        WATCHED
            .iter()
            .map(|which| kernel::counter(*which).explain("COUNTER"))
            .collect::<Result<Vec<_>, _>>()
            .map(Snapshot)
    }

    /// From this moment to now.
    pub fn until_now(&self) -> Result<Delta, String> {
        let now = Snapshot::now()?;
        Ok(Delta(now.0.iter().zip(&self.0).map(|(now, then)| now.wrapping_sub(*then)).collect()))
    }
}

impl Delta {
    /// The change of one of the watched counters; 0 for any other.
    pub fn of(&self, which: Counter) -> u64 {
        let index = WATCHED.iter().position(|watched| *watched == which);
        index.and_then(|index| self.0.get(index)).copied().unwrap_or(0)
    }

    /// Copies that met an absent page, both stages.
    pub fn faults(&self) -> u64 {
        self.of(Counter::SoftFaultsFirstStage).saturating_add(self.of(Counter::SoftFaultsSecondStage))
    }

    /// Operations and raw copies that VFS repeated.
    pub fn repeats(&self) -> u64 {
        self.of(Counter::VfsRepeats).saturating_add(self.of(Counter::VfsRawRepeats))
    }

    /// Requests at the file systems that were no page-ins.
    pub fn requests(&self) -> u64 {
        self.of(Counter::FsRequests).saturating_sub(self.of(Counter::FsPeeks))
    }

    /// Grants of VFS that were made and not revoked.
    pub fn leaked(&self) -> i64 {
        self.of(Counter::VfsGrants).wrapping_sub(self.of(Counter::VfsRevokes)).cast_signed()
    }
}
