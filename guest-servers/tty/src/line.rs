//! The line discipline: typed characters become lines that can be corrected until they are ended.
//!
//! Canonical mode only. A line ends with a line feed (the return key), or at the end-of-file character, which is not part
//! of it; an empty line made so is the end of the input. What is not here: the serial line, and who reads.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Longest line, its end included: further characters ring the bell.
pub const LINE_MAX: usize = 255;
/// Bytes of finished lines that are kept before no more input is taken.
pub const READY_MAX: usize = 4096;

/// Control characters that mean something.
mod control {
    pub const INTERRUPT: u8 = 0x03;
    pub const END_OF_FILE: u8 = 0x04;
    pub const BELL: u8 = 0x07;
    pub const BACKSPACE: u8 = 0x08;
    pub const TAB: u8 = b'\t';
    pub const RETURN: u8 = b'\r';
    pub const KILL: u8 = 0x15;
    pub const ERASE_WORD: u8 = 0x17;
    pub const DELETE: u8 = 0x7f;
}

/// Lines in the making and lines to be read.
#[derive(Clone, Debug, Default)]
pub struct Line {
    edit: Vec<u8>,
    /// Finished lines; an empty one is the end of the input.
    ready: VecDeque<Vec<u8>>,
}

/// What a character does beside changing the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Whoever is in the foreground is to be interrupted.
    Interrupt,
}

impl Line {
    /// Nothing typed.
    pub const fn new() -> Line {
        Line { edit: Vec::new(), ready: VecDeque::new() }
    }

    /// Whether `more` bytes can be taken, whatever they are. Until lines are read, the rest has to wait where it comes from.
    pub fn has_room(&self, more: usize) -> bool {
        let kept: usize = self.ready.iter().map(|line| line.len().max(1)).sum();
        kept.saturating_add(self.edit.len()).saturating_add(more) <= READY_MAX
    }

    /// Takes a typed character; what is to be shown goes to `echo`.
    pub fn typed(&mut self, byte: u8, echo: &mut Vec<u8>) -> Effect {
        match byte {
            control::RETURN | b'\n' => {
                self.edit.push(b'\n');
                echo.push(b'\n');
                self.finish();
            }
            control::END_OF_FILE => self.finish(),
            control::INTERRUPT => {
                self.edit.clear();
                self.ready.clear();
                echo.extend_from_slice(b"^C\n");
                return Effect::Interrupt;
            }
            control::BACKSPACE | control::DELETE => {
                self.erase(echo);
            }
            control::KILL => while self.erase(echo) {},
            control::ERASE_WORD => {
                while self.edit.last() == Some(&b' ') && self.erase(echo) {}
                while self.edit.last().is_some_and(|byte| *byte != b' ') && self.erase(echo) {}
            }
            // One place stays free for the line's end.
            _ if self.edit.len() + 1 >= LINE_MAX => echo.push(control::BELL),
            _ => {
                self.edit.push(byte);
                show(byte, echo);
            }
        }
        Effect::None
    }

    fn finish(&mut self) {
        self.ready.push_back(core::mem::take(&mut self.edit));
    }

    /// Takes the last character back, all its bytes. False when there is none.
    fn erase(&mut self, echo: &mut Vec<u8>) -> bool {
        let Some(mut byte) = self.edit.pop() else { return false };
        // The bytes of a character of UTF-8 behind its first.
        while byte & 0xc0 == 0x80
            && let Some(before) = self.edit.pop()
        {
            byte = before;
        }
        for _ in 0..columns(byte) {
            echo.extend_from_slice(b"\x08 \x08");
        }
        true
    }

    /// The first `bytes` bytes that a read may have: of one line, empty at the end of the input. `None` while there is no line.
    pub fn peek(&self, bytes: usize) -> Option<&[u8]> {
        let line = self.ready.front()?;
        Some(line.get(..bytes.min(line.len())).unwrap_or_default())
    }

    /// Takes away what [`Line::peek`] showed.
    pub fn consume(&mut self, bytes: usize) {
        if let Some(line) = self.ready.front_mut() {
            line.drain(..bytes.min(line.len()));
            if line.is_empty() {
                self.ready.pop_front();
            }
        }
    }
}

/// How wide a character with this first byte was shown.
fn columns(byte: u8) -> usize {
    if byte < 0x20 && byte != control::TAB { 2 } else { 1 }
}

/// Shows a character; control characters as a caret and a letter, a tab as one blank, so that both can be taken back.
fn show(byte: u8, echo: &mut Vec<u8>) {
    match byte {
        control::TAB => echo.push(b' '),
        0..0x20 => echo.extend_from_slice(&[b'^', byte + b'@']),
        _ => echo.push(byte),
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
