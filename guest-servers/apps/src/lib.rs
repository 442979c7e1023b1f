//! What the guest programs share.
#![no_std]
