//! Mistakes of the retry that a test suite has to find: see [`Bug`]. An ordinary build has none of them.
//!
//! The one thing to hold in mind: nothing here is reached unless bugs were compiled in; every function begins with that
//! question, whose answer is then known at compile time. It is not a place for anything else.

use refault_abi::bugs::Bug;
use refault_abi::{Errno, Message, Result, fs};

use crate::kernel::{Fault, Kernel};
use crate::retry::{Decision, Frozen};
use crate::server::Vfs;

/// What follows from an attempt, as the mistake has it.
pub fn decision(
    bug: Option<Bug>,
    right: Decision,
    operation: u16,
    attempt: u16,
    answer: Result<u64>,
    mark: Option<Fault>,
) -> Decision {
    if Bug::PartialIsFinal.is(bug) && mark.is_some() && answer.is_ok_and(|count| count > 0)
        || Bug::RetryOnce.is(bug) && attempt > 1
    {
        return Decision::Final;
    }
    // The second attempt has made the link.
    if Bug::SymlinkRepeated.is(bug) && operation == fs::SLINK && attempt == 2 && answer.is_ok() {
        return Decision::Repeat { cure: crate::retry::Cure::WholeRange, cpf_try: true };
    }
    right
}

/// The inputs of the next attempt, as the mistake has them. `answer` is the last attempt's.
pub fn inputs(bug: Option<Bug>, frozen: &Frozen, answer: Option<&Message>) -> Frozen {
    let mut inputs = *frozen;
    let Some(done) = answer.filter(|_| Bug::COMPILED_IN).map(Message::get::<fs::Done>) else { return inputs };
    let transfers = frozen.operation == fs::READ || frozen.operation == fs::WRITE;
    if Bug::StalePosition.is(bug)
        && transfers
        && let Ok(moved) = Errno::check(done.result)
    {
        inputs.position = frozen.position.saturating_add(moved);
    }
    if Bug::RecomputedAppend.is(bug) && frozen.append {
        inputs.position = done.size;
    }
    inputs
}

/// Whether the memory is not brought in before a repeat.
pub fn skips_cure(bug: Option<Bug>) -> bool {
    Bug::RepeatWithoutMapping.is(bug)
}

/// Leaves a grant behind after an operation that failed.
pub fn after_error<K: Kernel>(vfs: &Vfs<K>, frozen: &Frozen, grantee: refault_abi::Endpoint) {
    if Bug::LeakOnError.is(vfs.options.bug) {
        let tag = refault_abi::grant::Tag::new(frozen.operation, 1, vfs.next_request());
        core::mem::forget(vfs.kernel.grant_user(grantee, &frozen.memory, true, tag));
    }
}
