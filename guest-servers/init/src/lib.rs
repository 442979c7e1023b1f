//! The `init` server's logic.
#![no_std]
