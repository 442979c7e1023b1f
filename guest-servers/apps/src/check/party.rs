//! A second party.
