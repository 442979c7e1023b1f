//! One helper: taking a lock that another thread may have poisoned.
//!
//! A thread that panicked while holding a device lock has already been reported by its own join. The
//! registers behind the lock are plain values that are valid in every combination, so the others go on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, whether or not a holder panicked.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
