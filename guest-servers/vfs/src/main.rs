//! The `vfs` server's program.
#![no_std]
#![no_main]
