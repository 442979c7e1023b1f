//! Global state of a process with one thread.

use core::cell::{RefCell, RefMut};

use refault_abi::{Errno, Result};

/// A global value that only one thread can ever reach. Borrowing it twice is an error, not a panic.
pub struct Single<T>(RefCell<T>);

// SAFETY: a process of this system has one thread and no signal handlers: the kernel knows no call that
// would start a second flow of control in an address space.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    /// Wraps the initial value.
    pub const fn new(value: T) -> Single<T> {
        Single(RefCell::new(value))
    }

    /// The value, or EBUSY while somebody up the call chain holds it.
    pub fn borrow(&self) -> Result<RefMut<'_, T>> {
        self.0.try_borrow_mut().map_err(|_| Errno::EBUSY)
    }
}
