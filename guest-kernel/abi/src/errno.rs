//! Result codes, as they travel in registers and messages: zero or positive is success, negative an error.
//!
//! The values are those of the specification (section 1.3), so that a trace of the guest reads like one
//! of the original system.

use core::fmt;

/// A failed operation's code: always negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Errno(i32);

/// What a fallible operation answers.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl Errno {
            $($(#[$doc])* pub const $name: Errno = Errno($value);)*

            /// The code's symbolic name, or `E?` for a number nobody defined.
            pub const fn name(self) -> &'static str {
                match self.0 { $($value => stringify!($name),)* _ => "E?" }
            }
        }
    };
}

codes! {
    /// Operation not permitted.
    EPERM = -1;
    /// No such file or directory.
    ENOENT = -2;
    /// No such process.
    ESRCH = -3;
    /// Interrupted.
    EINTR = -4;
    /// Input/output error.
    EIO = -5;
    /// No such device or address.
    ENXIO = -6;
    /// Argument list too long.
    E2BIG = -7;
    /// Not an executable.
    ENOEXEC = -8;
    /// Bad file descriptor.
    EBADF = -9;
    /// No child processes.
    ECHILD = -10;
    /// Resource deadlock.
    EDEADLK = -11;
    /// Out of memory.
    ENOMEM = -12;
    /// Permission denied.
    EACCES = -13;
    /// Bad address: a copy met a page that is not there.
    EFAULT = -14;
    /// Device busy.
    EBUSY = -16;
    /// File exists.
    EEXIST = -17;
    /// Cross-device link.
    EXDEV = -18;
    /// No such device.
    ENODEV = -19;
    /// Not a directory.
    ENOTDIR = -20;
    /// Is a directory.
    EISDIR = -21;
    /// Invalid argument.
    EINVAL = -22;
    /// File table overflow.
    ENFILE = -23;
    /// Too many open files.
    EMFILE = -24;
    /// Not a typewriter.
    ENOTTY = -25;
    /// File too large.
    EFBIG = -27;
    /// No space left on device.
    ENOSPC = -28;
    /// Illegal seek.
    ESPIPE = -29;
    /// Read-only file system.
    EROFS = -30;
    /// Too many links.
    EMLINK = -31;
    /// Broken pipe.
    EPIPE = -32;
    /// Argument out of domain; also a copy of zero bytes.
    EDOM = -33;
    /// Result out of range.
    ERANGE = -34;
    /// Resource temporarily unavailable.
    EAGAIN = -35;
    /// Too many levels of symbolic links, or a grant chain that is too long.
    ELOOP = -62;
    /// Name too long.
    ENAMETOOLONG = -63;
    /// Directory not empty.
    ENOTEMPTY = -66;
    /// Function not implemented.
    ENOSYS = -78;
    /// Repeat the operation (never leaves VFS).
    ERESTART = -200;
    /// The peer is not ready.
    ENOTREADY = -201;
    /// Source or destination process is dead or dying.
    EDEADSRCDST = -202;
    /// Send no reply (never leaves a server).
    EDONTREPLY = -203;
    /// The request would dead-lock.
    ELOCKED = -208;
    /// No such call.
    EBADCALL = -209;
    /// The send mask does not allow this destination.
    ECALLDENIED = -210;
    /// The trap mask does not allow this primitive.
    ETRAPDENIED = -211;
    /// No such request at this server.
    EBADREQUEST = -212;
    /// The endpoint died.
    EDEADEPT = -215;
    /// A copy's destination page is not there (never leaves the kernel).
    EFAULT_DST = -994;
    /// A copy's source page is not there (never leaves the kernel).
    EFAULT_SRC = -995;
    /// The call is suspended on VM (never leaves the kernel).
    VMSUSPEND = -996;
}

impl Errno {
    /// The numeric code, negative.
    pub const fn code(self) -> i32 {
        self.0
    }

    /// Splits a raw result: negative is an error, anything else a value.
    pub const fn check(raw: i64) -> Result<u64> {
        if raw < 0 {
            // An error wider than 32 bits cannot come from the kernel; it is answered as the generic one.
            Err(Errno(if raw >= i32::MIN as i64 { raw as i32 } else { Errno::EINVAL.0 }))
        } else {
            Ok(raw as u64)
        }
    }

    /// The error with this code; non-negative input is not an error.
    pub const fn from_code(code: i32) -> Option<Errno> {
        if code < 0 { Some(Errno(code)) } else { None }
    }
}

/// The raw form of a result that carries no value: 0 or the negative code.
pub const fn raw_unit(result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => error.0,
    }
}

/// The raw form of a result that carries a count.
pub fn raw_count(result: Result<u64>) -> i64 {
    match result {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(error) => i64::from(error.0),
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
