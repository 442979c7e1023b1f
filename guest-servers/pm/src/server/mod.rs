//! The server around the logic: its state, and where each message goes.

mod birth;
mod copy;
mod end;
mod exec;
mod talk;

use alloc::collections::VecDeque;

use refault_abi::info::Info;
use refault_abi::kcall::{ProcInfo, rts};
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::options::{Mode, Options};
use refault_abi::pm::{self, Waited};
use refault_abi::{Endpoint, Errno, Message, Result, vfs};
use refault_pm::errands::Errands;
use refault_pm::family::{Family, Wait};
use refault_rt::ipc::{self, Received};
use refault_rt::server::{self, Answer};
use refault_rt::{info, kernel, waits};
use zerocopy::FromZeros;

/// Priority of programs: behind every server.
const PROGRAM_PRIORITY: u32 = 8;

/// Who asked, and under which number.
#[derive(Clone, Copy, Debug)]
struct Caller {
    endpoint: Endpoint,
    transaction: u16,
}

/// What PM goes on with when the answer to a request has come.
#[derive(Debug)]
enum Errand {
    /// VM: the caller's strings are present now.
    Present(copy::Strings),
    /// VFS: knows the child of a SPAWN.
    Born { caller: Caller, child: Endpoint },
    /// VFS: knows the child of a FORK.
    Forked { caller: Caller, child: Endpoint },
    /// VFS: has looked at the program file.
    Checked(exec::Exec),
    /// VM: has replaced the program.
    Became(exec::Exec),
    /// VFS: has closed the files of a process that ended.
    Closed { endpoint: Endpoint, status: i64 },
    /// VFS: has written everything back.
    WrittenBack { status: i64 },
    /// Nothing.
    Done,
}

impl Errand {
    /// For whom it is, and what it is about, for whoever looks at who waits for whom.
    fn purpose(&self) -> (Endpoint, &'static str) {
        match self {
            Errand::Present(strings) => (strings.caller(), "strings"),
            Errand::Born { caller, .. } => (caller.endpoint, "SPAWN"),
            Errand::Forked { caller, .. } => (caller.endpoint, "FORK"),
            Errand::Checked(exec) | Errand::Became(exec) => (exec.caller(), "EXEC"),
            Errand::Closed { endpoint, .. } => (*endpoint, "EXIT"),
            Errand::WrittenBack { .. } => (Endpoint::INIT, "SHUTDOWN"),
            Errand::Done => (Endpoint::INIT, "birth"),
        }
    }
}

/// The server's state.
pub struct Pm {
    family: Family,
    /// With the declared wait of whom each is for.
    errands: Errands<(Errand, waits::Wait)>,
    /// Messages for which the table of asynchronous sends had no room.
    backlog: VecDeque<(Endpoint, Message)>,
    /// Messages that came from VM while its answer to something else was awaited.
    mail: VecDeque<Message>,
    /// The machine is stopping.
    stopping: bool,
    first_program: bool,
    mode: Mode,
}

impl Pm {
    /// INIT is the first process; VFS is told of it.
    pub fn new() -> Pm {
        let information: &Info = info::info();
        // A bad option is INIT's to complain about.
        let mode = Options::parse(information.cmdline()).map_or(Mode::Hardened, |options| options.mode);
        let mut pm = Pm {
            family: Family::new(),
            errands: Errands::new(),
            backlog: VecDeque::new(),
            mail: VecDeque::new(),
            stopping: false,
            first_program: true,
            mode,
        };
        pm.ask_later(Endpoint::VFS, vfs::PM_NEW, &talk::target(Endpoint::INIT), Errand::Done);
        pm
    }

    /// Serves for ever.
    pub fn serve(mut self) -> ! {
        let mut request = server::next();
        loop {
            let answer = self.dispatch(&request);
            while let Some(message) = self.mail.pop_front() {
                self.take_mail(&message);
            }
            self.flush_backlog();
            request = match answer {
                Answer::Message(answer) if !request.delivery.is_notify() => {
                    server::reply_next(&request, &answer)
                }
                _ => server::next(),
            };
        }
    }

    fn dispatch(&mut self, request: &Received) -> Answer {
        let message = &request.message;
        let sender = message.sender();
        if request.delivery.is_notify() {
            return Answer::Later;
        }
        let caller = Caller { endpoint: sender, transaction: message.transaction() };
        match message.kind() {
            REPLY => self.go_on(message),
            pm::EXIT if self.family.is_alive(sender) => self.end(sender, message.get::<Status>().result),
            pm::EXIT if server::is_boot_server(sender) => {
                self.server_ended(sender, message.get::<Status>().result)
            }
            pm::KILLED if sender == Endpoint::VM || request.delivery.from_kernel() => {
                self.killed(&message.get());
            }
            pm::SPAWN => return later(self.fetch_strings(caller, copy::Purpose::Spawn, &message.get())),
            pm::EXEC => return later(self.fetch_strings(caller, copy::Purpose::Exec, &message.get())),
            pm::FORK => return later(self.fork(caller)),
            pm::WAIT => {
                return match self.family.wait(sender) {
                    Ok(Wait::Ended(child, status)) => Answer::payload(&waited(child, status)),
                    Ok(Wait::Later) => Answer::Later,
                    Err(error) => Answer::payload(&Waited { result: i64::from(error.code()), status: 0 }),
                };
            }
            pm::GETPID => return Answer::status(number(sender)),
            pm::GETPPID => {
                return Answer::status(self.family.parent(sender).ok_or(Errno::ESRCH).and_then(number));
            }
            pm::KILL => return Answer::unit(self.kill(sender, &message.get())),
            pm::INFO => return Answer::payload(&process_info(message.get::<Status>().result)),
            pm::FOREGROUND => return Answer::unit(self.family.foreground(sender)),
            pm::INTERRUPT if sender == Endpoint::TTY => self.interrupt(message.get::<Status>().result),
            pm::RESTARTED if sender == Endpoint::RS => return Answer::unit(self.restarted(&message.get())),
            pm::SHUTDOWN if sender == Endpoint::INIT => self.shut_down(message.get::<Status>().result),
            pm::EXIT | pm::SHUTDOWN | pm::KILLED | pm::INTERRUPT | pm::RESTARTED => {
                return Answer::unit(Err(Errno::EPERM));
            }
            _ => return Answer::unit(Err(Errno::EBADREQUEST)),
        }
        Answer::Later
    }

    /// The answer to an errand.
    fn go_on(&mut self, message: &Message) {
        let Some((errand, wait)) = self.errands.take(message.transaction(), message.sender()) else { return };
        drop(wait);
        let result = message.get::<Status>().check();
        match errand {
            Errand::Present(strings) => self.strings_present(strings, result),
            Errand::Born { caller, child } => self.born(caller, child, result),
            Errand::Forked { caller, child } => self.forked(caller, child, result),
            Errand::Checked(exec) => self.checked(exec, &message.get()),
            Errand::Became(exec) => self.became(exec, result),
            Errand::Closed { endpoint, status } => self.closed(endpoint, status, result),
            Errand::WrittenBack { status } => self.written_back(status, result),
            Errand::Done => {}
        }
    }

    /// Answers a caller some time after its request. One that does not wait any more has lost its answer.
    fn answer<T: Payload>(&self, caller: Caller, payload: &T) {
        let answer = Message::new(REPLY, payload).with_transaction(caller.transaction);
        let _ = ipc::sendnb(caller.endpoint, &answer);
    }
}

/// An answer that has been or will be given separately, or an error at once.
fn later(result: Result<()>) -> Answer {
    match result {
        Ok(()) => Answer::Later,
        Err(error) => Answer::unit(Err(error)),
    }
}

/// An endpoint as a plain status.
fn number(endpoint: Endpoint) -> Result<u64> {
    u64::try_from(endpoint.raw()).map_err(|_| Errno::ESRCH)
}

/// The answer to WAIT.
fn waited(child: Endpoint, status: i64) -> Waited {
    Waited { result: i64::from(child.raw()), status }
}

/// INFO.
fn process_info(slot: i64) -> ProcInfo {
    let found = i32::try_from(slot).map_err(|_| Errno::EINVAL).and_then(kernel::proc_info);
    found.unwrap_or_else(|_| ProcInfo { flags: rts::FREE, ..ProcInfo::new_zeroed() })
}
