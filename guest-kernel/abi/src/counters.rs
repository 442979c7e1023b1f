//! Counters of the guest, in one page that the monitor can read at any time.
//!
//! The page is an array of 512 little-endian words; each has exactly one writer, or the instances of one
//! server, which add in one instruction. A figure printed by the monitor is read from here or from its own
//! counters, never assumed.

/// Words in the page.
pub const WORDS: usize = 512;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $key:literal;)*) => {
        /// A counter: the index of its word.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        #[allow(non_camel_case_types)]
        pub enum Counter { $($(#[$doc])* $name = $index,)* }

        /// Every counter with its key in reports.
        pub const ALL: &[(Counter, &str)] = &[$((Counter::$name, $key),)*];
    };
}

counters! {
    /// Kernel entries by trap.
    KernelTraps = 0, "kernel_traps";
    /// Kernel calls.
    KernelCalls = 1, "kernel_calls";
    /// Messages delivered.
    Messages = 2, "messages";
    /// Context switches.
    Switches = 3, "context_switches";
    /// Device interrupts.
    Interrupts = 4, "interrupts";
    /// Timer ticks.
    Ticks = 5, "ticks";
    /// Safecopies and other copies between processes begun.
    Copies = 6, "copies";
    /// Bytes moved by them.
    CopyBytes = 7, "copy_bytes";
    /// Copies that met an absent page at the first stage of translation.
    SoftFaultsFirstStage = 8, "soft_faults_first_stage";
    /// Copies that met a page taken away at the second stage (a reflected trap).
    SoftFaultsSecondStage = 9, "soft_faults_second_stage";
    /// Marks stored in grants.
    MarksSet = 10, "marks_set";
    /// Marks that could not be stored.
    MarksFailed = 11, "marks_failed";
    /// Marks dropped because the grant was no longer the one verified.
    MarksStale = 12, "marks_stale";
    /// Kernel calls suspended on VM.
    Suspends = 13, "suspends";
    /// Kernel calls resumed.
    Resumes = 14, "resumes";
    /// Page faults of processes sent to VM.
    PageFaults = 15, "page_faults";
    /// Reflected traps that arrived in ring 3 (as page faults of processes).
    ReflectedUser = 16, "reflected_user";
    /// Reflected traps that met the kernel outside a copy; it asked the page back at once.
    ReflectedKernel = 17, "reflected_kernel";
    /// Marks whose granter's page was not there, remembered by the kernel.
    MarksPending = 18, "marks_pending";
    /// Remembered marks delivered at the granter's next kernel entry.
    MarksDelivered = 19, "marks_delivered";
    /// Entries that had changed between the reading of their state and of their body.
    GrantsChanged = 20, "grants_changed";
    /// Processes made by fork.
    Forks = 21, "forks";
    /// Kernel calls that ended at the bound of suspensions.
    SuspensionsGivenUp = 22, "suspensions_given_up";
    /// Notifications among the messages.
    Notifications = 23, "notifications";
    /// Marks stored or remembered that blame the copier's own memory; all others blame the lender's.
    MarksGrantee = 30, "marks_grantee";
    /// Machine checks for poisoned pages that a process touched itself, in ring 3.
    PoisonedUser = 24, "poisoned_user";
    /// Machine checks for poisoned pages that the kernel touched in a copy.
    PoisonedCopy = 25, "poisoned_copy";
    /// Machine checks for poisoned pages of the kernel's own work: each of them is the end.
    PoisonedKernel = 26, "poisoned_kernel";

    /// VFS: requests sent to file systems.
    VfsRequests = 64, "vfs_requests";
    /// VFS: revoked grants that carried a mark.
    VfsMarksSeen = 65, "vfs_marks_seen";
    /// VFS: operations repeated.
    VfsRepeats = 66, "vfs_repeats";
    /// VFS: HANDLEMEM requests sent to VM.
    VfsHandleMem = 67, "vfs_handlemem";
    /// VFS: operations given up at the bound.
    VfsGivenUp = 68, "vfs_given_up";
    /// VFS: raw copies repeated after HANDLEMEM.
    VfsRawRepeats = 69, "vfs_raw_repeats";
    /// VFS: requests of all processes begun.
    VfsCalls = 70, "vfs_calls";
    /// VFS: requests of all processes answered.
    VfsAnswers = 71, "vfs_answers";
    /// VFS: grants made.
    VfsGrants = 72, "vfs_grants";
    /// VFS: grants revoked.
    VfsRevokes = 73, "vfs_revokes";

    /// VM: page faults served.
    VmPageFaults = 128, "vm_page_faults";
    /// VM: HANDLEMEM requests served.
    VmHandleMem = 129, "vm_handlemem";
    /// VM: suspended copies served.
    VmMemRequests = 130, "vm_mem_requests";
    /// VM: pages asked back at the doorbell.
    VmPagesBack = 131, "vm_pages_back";
    /// VM: file pages asked from VFS.
    VmFilePages = 132, "vm_file_pages";
    /// VM: file pages served from the cache.
    VmCacheHits = 133, "vm_cache_hits";
    /// VM: copies on write.
    VmCopyOnWrite = 134, "vm_copy_on_write";
    /// VM: pages shared by fork.
    VmForkShared = 135, "vm_fork_shared";
    /// VM: one-shot pages used.
    VmOneShot = 136, "vm_one_shot";
    /// VM: frames free, a gauge.
    VmFramesFree = 137, "vm_frames_free";
    /// VM: processes that ended while pages of theirs were brought in.
    VmEndedMeanwhile = 138, "vm_ended_meanwhile";
    /// VM: frames taken out of use because they are poisoned.
    VmFramesPoisoned = 139, "vm_frames_poisoned";

    /// File system: requests served.
    FsRequests = 192, "fs_requests";
    /// File system: copies to or from a user that failed.
    FsCopyFailures = 193, "fs_copy_failures";
    /// File system: partial results answered after a failed copy.
    FsPartialResults = 194, "fs_partial_results";
    /// File system: blocks read from the driver.
    FsBlocksRead = 195, "fs_blocks_read";
    /// File system: blocks written to the driver.
    FsBlocksWritten = 196, "fs_blocks_written";
    /// File system: page-ins served.
    FsPeeks = 197, "fs_peeks";
    /// File system: requests repeated because the block driver was restarted.
    FsDriverRetries = 198, "fs_driver_retries";
    /// Pipes: requests served.
    PipeRequests = 224, "pipe_requests";

    /// Block driver: requests.
    BlkRequests = 256, "blk_requests";
    /// Block driver: failed requests.
    BlkErrors = 257, "blk_errors";

    /// Reincarnation server: restarts.
    RsRestarts = 320, "rs_restarts";
    /// Reincarnation server: heartbeats answered.
    RsBeats = 321, "rs_beats";
}
