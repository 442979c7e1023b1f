//! Decisions and sums, with a mechanism that only takes notes.
