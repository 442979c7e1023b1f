//! The driver around the line discipline.

use alloc::vec::Vec;

use refault_abi::cdev::{self, Transfer};
use refault_abi::kcall::DEVIO_IN_MAX;
use refault_abi::message::{REPLY, Status};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, pm};
use refault_rt::ipc::Received;
use refault_rt::kernel::IrqOperation;
use refault_rt::server::{self, Answer};
use refault_rt::{asyncsend, diag, kernel};
use refault_tty::line::{Effect, Line};
use refault_tty::readers::Readers;

/// Data port of the first serial port of a PC.
const PORT: u32 = 0x3f8;
/// Its interrupt-enable port.
const INTERRUPTS: u32 = 0x3f9;
/// Interrupt enable: a byte has been received.
const RECEIVED: u8 = 1;
/// Its interrupt line.
const LINE: u32 = 4;
/// Bytes copied and written at once: the most DEVIO_OUT takes.
const PIECE: usize = 4096;

/// The driver's state.
pub struct Terminal {
    line: Line,
    /// Reads that wait for a line.
    readers: Readers<Message>,
    piece: Vec<u8>,
}

impl Terminal {
    /// Turns the receiver's interrupt on.
    pub fn new() -> Terminal {
        let on = kernel::irqctl(IrqOperation::Route, LINE)
            .and_then(|()| kernel::devio_out(INTERRUPTS, &[RECEIVED]));
        if let Err(error) = on {
            diag!("tty: no input: {error}");
        }
        let mut terminal =
            Terminal { line: Line::new(), readers: Readers::new(), piece: alloc::vec![0; PIECE] };
        // What came before the interrupt was on.
        terminal.take_input();
        terminal
    }

    /// Serves for ever.
    pub fn serve(mut self) -> ! {
        server::serve(|request| self.dispatch(request))
    }

    fn dispatch(&mut self, request: &Received) -> Answer {
        let message = &request.message;
        match message.kind() {
            _ if request.delivery.is_notify() => {
                if message.sender() == Endpoint::HARDWARE {
                    self.take_input();
                }
                Answer::Later
            }
            cdev::WRITE => Answer::status(self.write(message)),
            cdev::READ => self.read(message),
            cdev::CANCEL if server::is_boot_server(message.sender()) => {
                self.readers.cancel(message.get::<Transfer>().user);
                Answer::Later
            }
            // PM has ended whom the interrupt was for: whoever still reads is told that its line will not come.
            REPLY if message.sender() == Endpoint::PM => {
                self.readers.interrupt(u64::try_from(message.get::<Status>().result).unwrap_or(0));
                while let Some(read) = self.readers.take_first() {
                    answer(&read, Err(Errno::EINTR));
                }
                Answer::Later
            }
            kind => {
                diag!("tty: request {kind:#x} from {}", message.source);
                Answer::status(Err(Errno::EBADREQUEST))
            }
        }
    }

    /// Writes everything, or what could be copied before an error.
    fn write(&mut self, message: &Message) -> Result<u64> {
        let transfer: Transfer = message.get();
        let mut done = 0u64;
        while done < transfer.bytes {
            let count = usize::try_from(transfer.bytes - done).unwrap_or(PIECE).min(PIECE);
            let Some(part) = self.piece.get_mut(..count) else { break };
            let moved = kernel::safecopy_from(message.sender(), GrantId(transfer.grant), done, part);
            let whole = usize::try_from(moved.bytes).unwrap_or(0).min(count);
            if let Some(part) = part.get(..whole)
                && !part.is_empty()
            {
                kernel::devio_out(PORT, part)?;
            }
            done += whole as u64;
            match moved.result {
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(done)
    }

    /// Answers with a line, or waits for one.
    fn read(&mut self, message: &Message) -> Answer {
        let transfer: Transfer = message.get();
        if transfer.bytes == 0 {
            return Answer::status(Ok(0));
        }
        if !server::is_boot_server(message.sender()) {
            // An answer that comes late is kept for servers only.
            return Answer::status(Err(Errno::EPERM));
        }
        if self.readers.take_interrupt() {
            return Answer::status(Err(Errno::EINTR));
        }
        match self.readers.add(transfer.user, *message) {
            Ok(()) => self.give(),
            Err(_) => return Answer::status(Err(Errno::EAGAIN)),
        }
        self.take_input();
        Answer::Later
    }

    /// Takes what has been typed, as long as there is room; the rest stays in the line, and with whoever is typing.
    fn take_input(&mut self) {
        let mut echo = Vec::new();
        while self.line.has_room(DEVIO_IN_MAX) {
            let Ok(received) = kernel::devio_in() else { break };
            let count = usize::try_from(received.length).unwrap_or(0).min(DEVIO_IN_MAX);
            for byte in received.bytes.iter().take(count) {
                if self.line.typed(*byte, &mut echo) == Effect::Interrupt {
                    let interrupt = Message::new(pm::INTERRUPT, &Status { result: i64::from(pm::SIGINT) });
                    // A full table of undelivered messages: as many interrupts are on their way.
                    let _ = asyncsend::send(Endpoint::PM, &interrupt, 0);
                }
            }
            if !echo.is_empty() {
                // It is the driver's own port.
                let _ = kernel::devio_out(PORT, &echo);
                echo.clear();
            }
            self.give();
            if count < DEVIO_IN_MAX {
                break;
            }
        }
    }

    /// Gives lines to those who wait for them.
    fn give(&mut self) {
        while let Some(read) = self.readers.first().copied() {
            let transfer: Transfer = read.get();
            let Some(bytes) = self.line.peek(usize::try_from(transfer.bytes).unwrap_or(PIECE)) else { break };
            let count = bytes.len();
            let result = match count {
                // The end of the input.
                0 => Ok(()),
                _ => kernel::safecopy_to(read.sender(), GrantId(transfer.grant), 0, bytes).result,
            };
            if result.is_ok() {
                self.line.consume(count);
            }
            self.readers.take_first();
            answer(&read, result.map(|()| count as u64));
        }
    }
}

/// Answers a read some time after it came, without waiting for VFS.
fn answer(read: &Message, result: Result<u64>) {
    // Whoever is gone needs no answer.
    while asyncsend::take_failed().is_some() {}
    // Fewer reads wait than the table has room for, and VFS always comes back for its messages.
    let _ = asyncsend::send(read.sender(), &read.reply(REPLY, &Status::of(result)), 0);
}
