//! The serial console at COM1. Input is taken when the terminal driver asks; the kernel itself only writes.

use core::fmt::{self, Write};

use super::registers::{in8, out8, pause};

const DATA: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = DATA + 1;
const FIFO_CONTROL: u16 = DATA + 2;
const LINE_CONTROL: u16 = DATA + 3;
const MODEM_CONTROL: u16 = DATA + 4;
const LINE_STATUS: u16 = DATA + 5;
/// Line status: a byte has been received.
const RECEIVED: u8 = 0x01;
/// Line status: the transmitter has room for a whole FIFO.
const EMPTY: u8 = 0x20;
const FIFO_BYTES: usize = 16;
/// Looks at the status before bytes are sent into a port that never gets ready.
const PATIENCE: u32 = 100_000;

/// 8 data bits, FIFOs on, no interrupts. The speed stays what it was; there is no line behind the port.
pub fn start() {
    out8(LINE_CONTROL, 0x03);
    out8(INTERRUPT_ENABLE, 0);
    out8(FIFO_CONTROL, 0x07);
    out8(MODEM_CONTROL, 0x03);
}

/// Writes bytes, a FIFO's worth per look at the status.
pub fn write(bytes: &[u8]) {
    for chunk in bytes.chunks(FIFO_BYTES) {
        for _ in 0..PATIENCE {
            if in8(LINE_STATUS) & EMPTY != 0 {
                break;
            }
            pause();
        }
        for byte in chunk {
            out8(DATA, *byte);
        }
    }
}

/// Takes one received byte, if there is one.
pub fn read() -> Option<u8> {
    (in8(LINE_STATUS) & RECEIVED != 0).then(|| in8(DATA))
}

/// Chooses the interrupts of the line.
pub fn interrupts(enabled: u8) {
    // OUT2: without it the interrupt does not leave a PC's serial port.
    out8(MODEM_CONTROL, 0x0b);
    out8(INTERRUPT_ENABLE, enabled);
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// A line of the kernel's log.
pub fn log(arguments: fmt::Arguments<'_>) {
    // Writing to the console cannot fail.
    let _ = Console.write_fmt(arguments);
}
