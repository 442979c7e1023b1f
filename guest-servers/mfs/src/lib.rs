//! The `mfs` server's logic.
#![no_std]
