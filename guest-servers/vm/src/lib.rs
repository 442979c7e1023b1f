//! The `vm` server's logic.
#![no_std]
