//! Text out: [`diag!`](crate::diag) for servers (kernel log), [`print!`](crate::print!) and
//! [`println!`](crate::println!) for programs (descriptor 1).

use core::fmt::{self, Write};

/// Bytes of one DIAG call.
const DIAG_BYTES: usize = 48;

/// Collects text into DIAG calls.
pub struct DiagWriter {
    text: [u8; DIAG_BYTES],
    used: usize,
    failed: bool,
}

impl DiagWriter {
    /// An empty one.
    pub const fn new() -> DiagWriter {
        DiagWriter { text: [0; DIAG_BYTES], used: 0, failed: false }
    }

    /// Sends what is buffered. False when the caller may not use DIAG.
    pub fn flush(&mut self) -> bool {
        if let Some(text) = self.text.get(..self.used)
            && !text.is_empty()
        {
            self.failed |= crate::kernel::diag(text).is_err();
        }
        self.used = 0;
        !self.failed
    }
}

impl Default for DiagWriter {
    fn default() -> Self {
        DiagWriter::new()
    }
}

impl Write for DiagWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.used == DIAG_BYTES {
                self.flush();
            }
            if let Some(place) = self.text.get_mut(self.used) {
                *place = byte;
                self.used += 1;
            }
        }
        Ok(())
    }
}

/// Behind [`diag!`](crate::diag). False when the caller may not use DIAG.
pub fn diag_line(arguments: fmt::Arguments<'_>) -> bool {
    let mut writer = DiagWriter::new();
    // The writer does not fail; a failing `Display` only shortens the line.
    let _ = writer.write_fmt(arguments);
    let _ = writer.write_str("\n");
    writer.flush()
}

/// Collects text for a descriptor.
struct FileWriter {
    descriptor: i32,
    text: [u8; 256],
    used: usize,
    failed: bool,
}

impl FileWriter {
    fn flush(&mut self) {
        let mut rest = self.text.get(..self.used).unwrap_or_default();
        while !rest.is_empty() {
            match crate::user::write(self.descriptor, rest) {
                Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
                _ => {
                    self.failed = true;
                    break;
                }
            }
        }
        self.used = 0;
    }
}

impl Write for FileWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.used == self.text.len() {
                self.flush();
            }
            if let Some(place) = self.text.get_mut(self.used) {
                *place = byte;
                self.used += 1;
            }
        }
        if self.failed { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Behind [`print!`](crate::print!): formatted text to a descriptor, in few writes.
pub fn print_to(descriptor: i32, arguments: fmt::Arguments<'_>) {
    let mut writer = FileWriter { descriptor, text: [0; 256], used: 0, failed: false };
    // Nobody is left to tell about a terminal that takes no text.
    let _ = writer.write_fmt(arguments);
    writer.flush();
}

/// A line for the kernel's log. Servers only.
#[macro_export]
macro_rules! diag {
    ($($argument:tt)*) => {{
        let _ = $crate::print::diag_line(::core::format_args!($($argument)*));
    }};
}

/// Text to descriptor 1.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::print::print_to(1, ::core::format_args!($($argument)*)) };
}

/// A line to descriptor 1.
#[macro_export]
macro_rules! println {
    () => { $crate::print::print_to(1, ::core::format_args!("\n")) };
    ($($argument:tt)*) => {
        $crate::print::print_to(1, ::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}

/// A line to descriptor 2.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::print::print_to(2, ::core::format_args!("{}\n", ::core::format_args!($($argument)*)))
    };
}
