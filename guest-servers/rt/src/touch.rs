//! Touching one's own memory after a failed copy.
//!
//! A copy through a grant fails when a page of *either* side is away. The granter has the user's pages brought in, but
//! nobody looks after the grantee's buffer: the grantee does, by touching it in ring 3, where VM brings an absent page
//! back the ordinary way. Otherwise every repetition would meet it again.

use core::ptr;

use refault_abi::layout::PAGE;

/// Reads a byte of every page of `bytes`.
pub fn pages(bytes: &[u8]) {
    for piece in bytes.chunks(PAGE as usize) {
        for byte in [piece.first(), piece.last()].into_iter().flatten() {
            // SAFETY: a reference is valid for reads. Volatile, so that the access is made although nobody uses the value.
            let _ = unsafe { ptr::read_volatile(byte) };
        }
    }
}
