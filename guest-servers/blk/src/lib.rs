//! The `blk` server's logic.
#![no_std]
