//! The `vfs` server's logic.
#![no_std]
