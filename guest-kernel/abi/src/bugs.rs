//! Seeded bugs: known mistakes in the retry, one of which a build for the mutation score can be told to have.
//!
//! A test suite is worth what it catches. `cargo build` with the environment variable `REFAULT_BUGS` set to `all` or to names
//! separated by commas compiles the named bugs into the guest, and `bug=NAME` on the guest's command line switches one on. An
//! ordinary build contains none of them: [`Bug::is`] is then `false` at compile time, and `bug=` is refused.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A seeded bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[$doc])* $name,)* }

        impl Bug {
            /// Every bug with its name.
            pub const ALL: &'static [(Bug, &'static str)] = &[$((Bug::$name, $text),)*];
        }
    };
}

bugs! {
    /// VFS: a marked operation's partial count is the result.
    PartialIsFinal = "partial-is-final";
    /// VFS: a repeated read or write starts where the first attempt stopped.
    StalePosition = "stale-position";
    /// VFS: an append computes its position anew in each attempt.
    RecomputedAppend = "recomputed-append";
    /// Kernel: the mark goes into the grant the grantee named, not the one at the end of the chain.
    MarkWrongGrant = "mark-wrong-grant";
    /// Kernel: the mark is stored only when the granter next enters the kernel, after it revoked.
    MarkAfterRevoke = "mark-after-revoke";
    /// Library: the mark is read after the slot was freed and its word cleared.
    CheckAfterInvalidate = "check-after-invalidate";
    /// Kernel: the sequence of a grant id is not compared.
    SkipSequence = "skip-sequence";
    /// VFS: an operation that fails leaks its grant.
    LeakOnError = "leak-on-error";
    /// Pipe: the data is consumed before it was copied.
    PipeConsumesFirst = "pipe-consumes-first";
    /// VFS: the operation is repeated without having the memory brought in.
    RepeatWithoutMapping = "repeat-without-mapping";
    /// VM: only the first page of a HANDLEMEM range is made present.
    MapFirstPageOnly = "map-first-page-only";
    /// VFS: one repeat, whatever the second attempt met.
    RetryOnce = "retry-once";
    /// Kernel: no mark when the page was the grantee's own.
    NoMarkForGrantee = "no-mark-for-grantee";
    /// Kernel: a copy with CPF_TRY suspends all the same.
    TrySuspends = "try-suspends";
    /// VFS: a symbolic link is repeated although it was made.
    SymlinkRepeated = "symlink-repeated";
    /// VM: HANDLEMEM does not ask for pages that were taken away at the second stage.
    NeverAsksBack = "never-asks-back";
    /// VM: the page behind the end of a file's last block is not cleared.
    TailNotCleared = "tail-not-cleared";
    /// VM: a write after fork goes to the shared page.
    ForkShares = "fork-shares";
    /// VM: a process that dies while pages of it are brought in leaves a frame behind.
    LeakFrameOnDeath = "leak-frame-on-death";
}

/// The names compiled in, as the build was told.
const COMPILED: &str = match option_env!("REFAULT_BUGS") {
    Some(names) => names,
    None => "",
};

impl Bug {
    /// Whether any bug is compiled in.
    pub const COMPILED_IN: bool = !COMPILED.is_empty();

    /// The bug of this name, if it is compiled in.
    pub fn named(name: &str) -> Option<Bug> {
        let compiled = COMPILED == "all" || COMPILED.split(',').any(|word| word == name);
        let known = Bug::ALL.iter().find(|(_, text)| *text == name);
        known.filter(|_| compiled).map(|(bug, _)| *bug)
    }

    /// Whether `chosen`, the option of this machine, is this bug. Costs nothing in an ordinary build.
    #[inline(always)]
    pub fn is(self, chosen: Option<Bug>) -> bool {
        Bug::COMPILED_IN && chosen == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_none_is_compiled_in_unasked() {
        for (index, (_, name)) in Bug::ALL.iter().enumerate() {
            assert!(Bug::ALL.iter().skip(index + 1).all(|(_, other)| other != name), "{name}");
            assert_eq!(
                Bug::named(name).is_some(),
                COMPILED == "all" || COMPILED.split(',').any(|n| n == *name)
            );
        }
        assert!(Bug::ALL.len() >= 12);
    }
}
