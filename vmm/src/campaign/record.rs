//! The line that a campaign writes for each run, and that everything else reads: resuming, merging, reports.
//!
//! One JSON object a line, in `runs.jsonl` of the campaign's directory. The one thing to hold in mind: a line is enough to repeat
//! its run (`refault replay`), and enough for a report; nothing else of a run is kept.

use serde::{Deserialize, Serialize};

/// Schema of a line.
pub const SCHEMA: &str = "refault.run-record/1";

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`SCHEMA`].
    pub schema: String,
    /// Identifies the run within its campaign, the same in every shard and when a campaign is resumed: `L1/read/17/once`.
    pub id: String,
    /// Name of the workload.
    pub workload: String,
    /// Seed of the run: workload and schedule follow from it.
    pub seed: u64,
    /// What the guest's program was given.
    pub argument: u64,
    /// The kernel's words, as `retry=hardened`.
    pub words: String,
    /// Rules, as text.
    pub rules: Vec<String>,
    /// `1`, `2` or `random`.
    pub level: String,
    /// The kind of fault, as `once`, `twice`, `forever`, `delay`; `none` for a fault-free run, `mixed` for random ones.
    pub kind: String,
    /// Sites it was aimed at, in the rule language: one at level 1, two at level 2.
    pub aimed: Vec<String>,
    /// Operation the aimed site belongs to, as `read`; empty if none.
    pub operation: String,
    /// Build of the guest: FNV-1a of kernel and boot image, hexadecimal.
    pub build: String,
    /// The host in a few words, as printed with figures.
    pub host: String,
    /// How pages were taken away.
    pub mechanism: String,
    /// PASS, RETRIED, REJECTED, SHORT, CORRUPT, LEAK, WEDGED, CRASH, FAILED, SKIP.
    pub verdict: String,
    /// The first oracle that was violated, as `O2`; none if all held.
    pub violated: Option<String>,
    /// Why, one sentence each.
    pub why: Vec<String>,
    /// The injector's sums.
    pub faults: Sums,
    /// Operations that VFS repeated.
    pub repeats: u64,
    /// Marks that the kernel stored.
    pub marks: u64,
    /// Highest attempt that any site of the run belonged to.
    pub attempts: u16,
    /// Microseconds it took to put the machine back.
    pub restore_us: u64,
    /// Microseconds of the run.
    pub run_us: u64,
    /// Each fault that was given to the guest, as far as kept.
    pub timeline: Vec<FaultTimes>,
}

/// The injector's sums of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Pages taken away.
    pub armed: u64,
    /// Of these, touched.
    pub trapped: u64,
    /// Of these, reflected to the guest at the first touch.
    pub reflected: u64,
    /// Let through later.
    pub delayed: u64,
    /// Answered by a machine check.
    pub poisoned: u64,
    /// Given back by the host without the guest's knowing.
    pub resolved: u64,
    /// Never touched.
    pub never_touched: u64,
    /// Further touches that were reflected.
    pub reflected_again: u64,
    /// Faults of disks.
    pub disk: u64,
}

/// When what happened of one fault. Nanoseconds since the run began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultTimes {
    /// Number of the reflected trap.
    pub sequence: u64,
    /// Operation, as `read`; `user` for a touch from ring 3, `kernel` for any other.
    pub owner: String,
    /// Request that the operation was, counted from 1 since the ready mark; 0 if there is none, or if the line is of before this was
    /// written down.
    #[serde(default)]
    pub request: u32,
    /// Attempt of the operation; 0 if there is none.
    pub attempt: u16,
    /// Page of the range.
    pub page: u32,
    /// Whose memory: `granter`, `grantee`, or empty.
    pub side: String,
    /// `read`, `write` or `fetch`.
    pub access: String,
    /// The processor's exit reached the monitor.
    pub exit: u64,
    /// The injector had decided.
    pub decided: u64,
    /// The processor was let go on.
    pub resumed: u64,
    /// The guest asked for the page back; 0 if it never did.
    pub back: u64,
}
