//! The `vm` server's program.
#![no_std]
#![no_main]
