//! The server around the logic.

use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::ipc::{Call, senda};
use refault_abi::kcall::privilege;
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::options::Mode;
use refault_abi::pm::{self, Kill, Restarted, SIGKILL};
use refault_abi::rs::{self, Died, Lookup, PERIOD, WATCHED};
use refault_abi::{Endpoint, Errno, Message, Result, vm};
use refault_rs::excuse::is_excused;
use refault_rs::lookups::Lookups;
use refault_rs::service::{Fate, Service, Step};
use refault_rt::ipc::{self, Received};
use refault_rt::server::{self, Answer};
use refault_rt::{asyncsend, diag, info, kernel};

/// Status of the machine when a server cannot be kept alive: EX_SOFTWARE of sysexits.h.
const SERVER_DIED: i64 = 70;

/// Who asked for a successor, and how.
#[derive(Clone, Copy, Debug)]
struct Asker {
    endpoint: Endpoint,
    transaction: u16,
    /// By SENDREC: it is there for the answer.
    waits: bool,
}

/// The server's state.
pub struct Rs {
    services: Vec<Service>,
    lookups: Lookups<Asker>,
    /// Servers are asked whether they are alive. Not where a standstill is to be seen: it would be ended.
    heartbeats: bool,
    /// The alarm is set.
    ticking: bool,
}

impl Rs {
    /// Finds the servers there are.
    pub fn new() -> Rs {
        let alive = |watched: &rs::Watched| {
            kernel::proc_info(watched.first.slot())
                .ok()
                .map(|info| Service::new(*watched, Endpoint::from_raw(info.endpoint)))
        };
        // A bad option is INIT's to complain about.
        let heartbeats = info::options().is_none_or(|options| {
            options.mode == Mode::Hardened && options.watchdog == 0 && !options.measure
        });
        let services = WATCHED.iter().filter_map(alive).collect();
        let mut rs = Rs { services, lookups: Lookups::new(), heartbeats, ticking: false };
        rs.set_alarm();
        rs
    }

    /// Serves for ever.
    pub fn serve(mut self) -> ! {
        server::serve(|request| self.dispatch(request))
    }

    fn dispatch(&mut self, request: &Received) -> Answer {
        let message = &request.message;
        let sender = message.sender();
        if request.delivery.is_notify() {
            if sender == Endpoint::CLOCK {
                self.period();
            } else if let Some(service) = self.services.iter_mut().find(|s| s.endpoint == sender) {
                let before = service.beats;
                service.beat();
                info::count(Counter::RsBeats, service.beats.wrapping_sub(before));
            }
            return Answer::Later;
        }
        match message.kind() {
            rs::DIED if sender == Endpoint::PM => {
                self.died(&message.get());
                Answer::Later
            }
            rs::LOOKUP if server::is_boot_server(sender) => {
                let waits = request.delivery.call() == Call::SendRec as u64;
                let asker = Asker { endpoint: sender, transaction: message.transaction(), waits };
                Answer::status(self.lookup(&message.get(), asker))
            }
            rs::SERVICE => match self.service(message.get::<rs::Service>().slot) {
                Ok(service) => Answer::payload(&service),
                Err(error) => Answer::unit(Err(error)),
            },
            rs::DIED | rs::LOOKUP => Answer::unit(Err(Errno::EPERM)),
            // Answers to nothing: RS asks by SENDREC.
            REPLY => Answer::Later,
            _ => Answer::unit(Err(Errno::EBADREQUEST)),
        }
    }

    /// Asks for the next period's end, if anything can happen then.
    fn set_alarm(&mut self) {
        self.ticking = self.heartbeats || self.services.iter().any(Service::is_waiting);
        if self.ticking
            && let Err(error) = kernel::setalarm(PERIOD)
        {
            diag!("rs: no alarm: {error}");
        }
    }

    /// A period is over.
    fn period(&mut self) {
        for index in 0..self.services.len() {
            let heartbeats = self.heartbeats;
            let Some(service) = self.services.get_mut(index) else { continue };
            if !heartbeats && service.is_up() {
                continue;
            }
            let excused = kernel::proc_info(service.watched.first.slot()).is_ok_and(|info| is_excused(&info));
            match service.period(excused) {
                Step::Nothing => {}
                Step::Ask => {
                    // A server that is gone is told by PM.
                    let _ = ipc::notify(service.endpoint);
                }
                Step::End => {
                    let dead = service.endpoint;
                    diag!("rs: {} ({}) does not answer", service.watched.program, dead.raw());
                    let request = Kill { endpoint: dead.raw(), signal: SIGKILL };
                    if let Err(error) = ask(Endpoint::PM, pm::KILL, &request) {
                        diag!("rs: pm does not end it: {error}");
                    }
                }
                Step::Restart => self.restart(index),
            }
        }
        self.set_alarm();
    }

    /// DIED.
    fn died(&mut self, died: &Died) {
        let dead = Endpoint::from_raw(died.endpoint);
        let Some(index) = self.services.iter().position(|service| service.endpoint == dead) else { return };
        let Some(service) = self.services.get_mut(index) else { return };
        let fate = service.died(dead);
        self.follow(index, fate);
    }

    /// Does what becomes of a server that is gone.
    fn follow(&mut self, index: usize, fate: Fate) {
        let Some(service) = self.services.get(index) else { return };
        let program = service.watched.program;
        match fate {
            Fate::Stale => {}
            Fate::Restart(0) => self.restart(index),
            Fate::Restart(periods) => {
                diag!("rs: {program} is restarted in {periods} s");
                if !self.ticking {
                    self.set_alarm();
                }
            }
            Fate::GivenUp => {
                diag!("rs: {program} has ended too often");
                // Does not return unless it is denied, which it is not.
                let _ = kernel::shutdown(SERVER_DIED);
            }
        }
    }

    /// Makes a server again, tells whom it concerns, and has it run.
    fn restart(&mut self, index: usize) {
        let Some(service) = self.services.get(index) else { return };
        let old = service.endpoint;
        let made = spawn(service.watched);
        let new = match made {
            Ok(new) => new,
            Err(error) => {
                diag!("rs: {} cannot be made again: {error}", service.watched.program);
                let fate = self.services.get_mut(index).map_or(Fate::Stale, Service::not_made);
                // At the earliest in the next period, so that this ends.
                let fate = if fate == Fate::Restart(0) { Fate::Restart(1) } else { fate };
                return self.follow(index, fate);
            }
        };
        let Some(service) = self.services.get_mut(index) else { return };
        service.made(new);
        let (slot, restarts, program) = (new.slot(), service.restarts, service.watched.program);
        info::count(Counter::RsRestarts, 1);
        diag!("rs: {program} restarted as {} (restart {restarts})", new.raw());
        let restarted = Restarted { old: old.raw(), new: new.raw() };
        tell(Endpoint::VFS, &restarted);
        if slot == Endpoint::BLK.slot() {
            for service in self.services.iter().filter(|service| service.is_up()) {
                if [Endpoint::MFS.slot(), Endpoint::MFS2.slot()].contains(&service.endpoint.slot()) {
                    tell(service.endpoint, &restarted);
                }
            }
        }
        if let Err(error) = ask(Endpoint::PM, pm::RESTARTED, &restarted) {
            diag!("rs: {program} does not run: {error}");
        }
        for asker in self.lookups.found(slot, new) {
            answer(asker, Ok(u64::try_from(new.raw()).unwrap_or(0)));
        }
    }

    /// LOOKUP.
    fn lookup(&mut self, request: &Lookup, asker: Asker) -> Result<u64> {
        let dead = Endpoint::from_raw(request.dead);
        let service = self.services.iter().find(|service| service.watched.first.slot() == request.slot);
        let service = service.ok_or(Errno::ESRCH)?;
        if service.is_given_up() {
            return Err(Errno::EIO);
        }
        if service.is_up() && service.endpoint != dead {
            return u64::try_from(service.endpoint.raw()).map_err(|_| Errno::EIO);
        }
        self.lookups.add(request.slot, dead, asker).map_err(|_| Errno::EAGAIN)?;
        Err(Errno::EDONTREPLY)
    }

    /// SERVICE.
    fn service(&self, slot: i32) -> Result<rs::Service> {
        let service = self.services.iter().find(|service| service.watched.first.slot() == slot);
        let service = service.ok_or(Errno::ESRCH)?;
        Ok(rs::Service {
            slot,
            endpoint: service.endpoint.raw(),
            restarts: service.restarts,
            given_up: u32::from(service.is_given_up()),
            beats: service.beats,
        })
    }
}

/// A request that is answered at once, with a plain status.
fn ask<T: Payload>(server: Endpoint, request: u16, payload: &T) -> Result<u64> {
    ipc::sendrec(server, &Message::new(request, payload))?.get::<Status>().check()
}

/// Has VM make the process.
fn spawn(watched: rs::Watched) -> Result<Endpoint> {
    // What the boot image's servers have, too: drivers go first.
    let (privilege, priority) = match watched.first {
        Endpoint::BLK => (privilege::DRIVER, 1),
        _ => (privilege::SERVER, 3),
    };
    let mut name = [0; 16];
    for (place, byte) in name.iter_mut().zip(watched.program.bytes()) {
        *place = byte;
    }
    let request = vm::SpawnServer { slot: watched.first.slot(), privilege, priority, reserved: 0, name };
    let made = ask(Endpoint::VM, vm::SPAWN_SERVER, &request)?;
    i32::try_from(made).map(Endpoint::from_raw).map_err(|_| Errno::EINVAL)
}

/// Tells a server of a successor, without waiting for it.
fn tell(to: Endpoint, restarted: &Restarted) {
    // It may be in a SENDREC, whose answer this is not.
    post(to, &Message::new(rs::RESTARTED, restarted), senda::NOREPLY);
}

/// Answers a LOOKUP some time after it came.
fn answer(asker: Asker, result: Result<u64>) {
    let message = Message::new(REPLY, &Status::of(result)).with_transaction(asker.transaction);
    if asker.waits {
        // Whoever is not there any more has died meanwhile.
        let _ = ipc::sendnb(asker.endpoint, &message);
    } else {
        post(asker.endpoint, &message, 0);
    }
}

fn post(to: Endpoint, message: &Message, flags: u32) {
    // Whoever is gone needs no news.
    while asyncsend::take_failed().is_some() {}
    if let Err(error) = asyncsend::send(to, message, flags) {
        diag!("rs: {} cannot be told: {error}", to.raw());
    }
}
