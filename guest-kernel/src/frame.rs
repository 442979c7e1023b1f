//! The saved registers of a process, laid out so that a message can go from frame to frame.
//!
//! The one thing to hold in mind: the trap entry pushes straight into the frame of the current process
//! (TSS.RSP0 points at its end), so the order of the fields *is* the order of the pushes in
//! `arch/x86_64/entry.s`. What this is not: a message buffer; [`Frame::message`] holds whatever the eight
//! message registers held, message or not.

/// User-mode registers as the entry code leaves them. 176 bytes, a multiple of 16 because the processor
/// aligns the stack it switches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// rsi, rdx, r8, r9, r10, r12, r13, r14: the eight message words.
    pub message: [u64; 8],
    /// Call number in, result out.
    pub rax: u64,
    /// Peers in, delivery status out.
    pub rdi: u64,
    /// Scratch.
    pub rcx: u64,
    /// Scratch.
    pub r11: u64,
    /// Preserved over a trap.
    pub rbx: u64,
    /// Preserved over a trap.
    pub rbp: u64,
    /// Preserved over a trap.
    pub r15: u64,
    /// Which vector led into the kernel.
    pub vector: u64,
    /// The processor's error code, 0 where there is none.
    pub error: u64,
    /// Next user instruction.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// User stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// Bytes of a [`Frame`]; the entry code is written for this number.
pub const FRAME_BYTES: usize = 176;
const _: () = assert!(size_of::<Frame>() == FRAME_BYTES);

impl Frame {
    /// All registers zero.
    pub const EMPTY: Frame = Frame {
        message: [0; 8],
        rax: 0,
        rdi: 0,
        rcx: 0,
        r11: 0,
        rbx: 0,
        rbp: 0,
        r15: 0,
        vector: 0,
        error: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
    };

    /// Stores a result for the process to find in `rax`.
    pub fn set_result(&mut self, result: i64) {
        self.rax = result.cast_unsigned();
    }
}

/// Word 0 of a message: source in the low half, type in the high half.
pub const fn head(source: refault_abi::Endpoint, mtype: u32) -> u64 {
    (source.raw() as u32 as u64) | ((mtype as u64) << 32)
}
