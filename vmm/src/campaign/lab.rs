//! Where runs are made.
//!
//! The engine knows two traits only: a laboratory makes one run after another, and there can be several laboratories at once. One pair
//! of them is a session of a real machine ([`super::live`]); tests have another, a model of the guest.

use std::future::Future;
use std::io;

use crate::snapshot::{Ran, Run};

/// Makes runs, one after another, each from the same state.
pub trait Laboratory {
    /// Makes a run.
    ///
    /// # Errors
    /// It could not be made: whatever happens to a guest is a result, not an error.
    fn run(&mut self, run: Run) -> impl Future<Output = io::Result<Ran>>;

    /// How pages are taken away in it.
    fn mechanism(&self) -> String;
}

/// Opens laboratories.
pub trait Laboratories {
    /// What it opens.
    type Lab: Laboratory;

    /// Opens one, for a kernel with these words.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&self, words: &str) -> impl Future<Output = io::Result<Self::Lab>>;
}
