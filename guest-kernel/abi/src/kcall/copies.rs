//! Requests of the calls that copy memory: through grants, between processes, and to where devices see it.
//!
//! The one thing to hold in mind: each of them answers in its own request how many bytes really moved, also when it failed.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// SAFECOPYFROM, SAFECOPYTO. On return, `bytes` holds how many bytes really moved, also after EFAULT.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SafeCopy {
    /// The granter's endpoint.
    pub granter: i32,
    /// Zero.
    pub reserved: u32,
    /// Grant id.
    pub grant: i64,
    /// Offset into the granted range, in bytes.
    pub offset: u64,
    /// The caller's own address.
    pub address: u64,
    /// Bytes asked; bytes moved on return.
    pub bytes: u64,
}

/// VSAFECOPY.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VSafeCopy {
    /// Address of an array of [`VSafeCopyElement`] in the caller's memory.
    pub address: u64,
    /// Elements, 0 to [`VSAFECOPY_MAX`].
    pub count: u64,
}

/// Most elements of one VSAFECOPY.
pub const VSAFECOPY_MAX: usize = 64;

/// One element of a VSAFECOPY. 48 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VSafeCopyElement {
    /// Granter whose memory is read, or SELF.
    pub from: i32,
    /// Granter whose memory is written, or SELF. Exactly one of the two is SELF.
    pub to: i32,
    /// Grant id.
    pub grant: i64,
    /// Offset into the granted range, in bytes.
    pub offset: u64,
    /// The caller's own address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// Zero.
    pub reserved: u64,
}

/// SETGRANT, SETGRANT_TEMPORARY.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetGrant {
    /// Address of the table in the caller's memory, 64-byte aligned.
    pub address: u64,
    /// Entries.
    pub entries: u64,
    /// SETGRANT_TEMPORARY: the endpoint whose table it really is (specification 3.1, step 3). SETGRANT ignores it.
    pub owner: i32,
    /// Zero.
    pub reserved: u32,
}

/// SAFEMEMSET.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SafeMemset {
    /// The granter's endpoint.
    pub granter: i32,
    /// The byte to store (low 8 bits).
    pub byte: u32,
    /// Grant id.
    pub grant: i64,
    /// Offset into the granted range, in bytes.
    pub offset: u64,
    /// Bytes asked; bytes stored on return.
    pub bytes: u64,
}

/// VIRCOPY. On return, `bytes` holds how many bytes really moved.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Copy {
    /// Whose memory is read (SELF allowed).
    pub from: i32,
    /// Whose memory is written (SELF allowed).
    pub to: i32,
    /// Source address.
    pub source: u64,
    /// Destination address.
    pub destination: u64,
    /// Bytes asked; bytes moved on return.
    pub bytes: u64,
    /// [`COPY_TRY`] or 0.
    pub flags: u64,
    /// On return after EFAULT: the address that faulted.
    pub fault: u64,
}

/// VIRCOPY flag: do not suspend on VM, answer EFAULT.
pub const COPY_TRY: u64 = 1;

/// VUMAP: translate `bytes` from `address` (grant NONE: -1) or from a grant's `offset`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VuMap {
    /// The granter's endpoint, or SELF for the caller's own memory.
    pub granter: i32,
    /// Capacity of the output array, in entries, at most 64; entries written on return.
    pub count: u32,
    /// Grant id, ignored for SELF.
    pub grant: i64,
    /// Offset into the grant, or own address.
    pub offset: u64,
    /// Bytes to translate.
    pub bytes: u64,
    /// Access wanted: [`crate::grant::READ`] | [`crate::grant::WRITE`].
    pub access: u64,
    /// Address of an array of [`PhysRange`] in the caller's memory.
    pub output: u64,
}

/// One physically contiguous piece. 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PhysRange {
    /// Guest physical address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
}
