//! The `pm` server's logic.
#![no_std]
