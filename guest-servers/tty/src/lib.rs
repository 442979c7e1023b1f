//! The `tty` server's logic.
#![no_std]
