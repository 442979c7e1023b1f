//! The block driver: virtio-blk over virtio-mmio, for every disk of the machine; and the endless source of zeroes, which is
//! a character device only by its requests.
//!
//! The one thing to hold in mind: leaving the guest is the dearest thing here. A request costs one register
//! write; its answer is looked for in the ring first, and only then waited for with an interrupt, whose
//! acknowledgement is the second one.
#![no_std]
#![no_main]

extern crate alloc;

mod driver;
mod hardware;
mod zero;

use alloc::vec::Vec;

use refault_abi::bdev::{self, Disk, Transfer};
use refault_abi::{Endpoint, Errno, Message, Result, cdev};
use refault_rt::ipc::Received;
use refault_rt::server::{self, Answer};
use refault_rt::{info, ipc, kernel};

use driver::Driver;
use refault_blk::request::Direction;

refault_rt::entry!(main);

/// Microseconds between two ticks while a device is at work. No device takes that long.
const TICK: u64 = 10_000_000;

/// What goes out: requests with their answers.
type Done = Vec<(Received, Message)>;

/// The disks, by their numbers. One that cannot be used is `None`.
struct Disks {
    drivers: Vec<Option<Driver>>,
    /// An alarm is set.
    ticking: bool,
    /// Microseconds that go by before each transfer.
    seek: u64,
}

fn main(_args: refault_rt::start::Args) -> i32 {
    let drivers = hardware::find().into_iter().map(|found| found.map(Driver::new)).collect();
    let seek = info::options().map_or(0, |options| options.seek.into());
    let mut disks = Disks { drivers, ticking: false, seek };
    let mut request = server::next();
    loop {
        let mut done = Done::new();
        if request.delivery.is_notify() {
            disks.notified(&request.message, &mut done);
        } else if !server::is_boot_server(request.message.sender()) {
            // Whoever writes to the disk behind a file system's back ruins it.
            answer(&mut done, &request, Answer::unit(Err(Errno::EPERM)));
        } else {
            disks.dispatch(&request, &mut done);
        }
        disks.tick_while_busy();
        // The last answer goes out with the next receive, in one trap.
        request = match done.pop() {
            Some((last, message)) => {
                for (earlier, message) in &done {
                    server::reply(earlier, message);
                }
                server::reply_next(&last, &message)
            }
            None => server::next(),
        };
    }
}

/// Adds an answer to those that go out.
fn answer(done: &mut Done, request: &Received, answer: Answer) {
    if let Answer::Message(message) = answer {
        done.push((*request, message));
    }
}

impl Disks {
    /// A notification: an interrupt, or time that has gone by.
    fn notified(&mut self, message: &Message, done: &mut Done) {
        let [_, lines, ..] = message.payload;
        let drivers = self.drivers.iter_mut().flatten();
        match message.sender() {
            Endpoint::HARDWARE => {
                drivers
                    .filter(|driver| driver.is_interrupted(lines))
                    .for_each(|driver| driver.interrupt(done));
            }
            Endpoint::CLOCK => {
                self.ticking = false;
                drivers.for_each(|driver| driver.tick(done));
            }
            _ => {}
        }
    }

    /// Has the clock tick as long as a device has something to do: one kernel call per tick, none per request.
    fn tick_while_busy(&mut self) {
        if !self.ticking && self.drivers.iter().flatten().any(Driver::is_busy) {
            self.ticking = kernel::setalarm(TICK).is_ok();
        }
    }

    /// Lets the time of a seek go by, if there is one: everybody else runs meanwhile.
    fn seek(&mut self) {
        if self.seek != 0 && kernel::setalarm(self.seek).is_ok() {
            // There is one alarm: the tick's was replaced.
            self.ticking = false;
            // Only a kernel that is ending refuses; then nothing is to be waited for.
            let _ = ipc::receive(Endpoint::CLOCK);
        }
    }

    fn driver(&mut self, disk: u64) -> Result<&mut Driver> {
        let place = usize::try_from(disk).ok().and_then(|disk| self.drivers.get_mut(disk));
        place.and_then(Option::as_mut).ok_or(Errno::ENXIO)
    }

    fn dispatch(&mut self, request: &Received, done: &mut Done) {
        let message = &request.message;
        match message.kind() {
            bdev::GEOMETRY => {
                let geometry = match self.driver(message.get::<Disk>().disk) {
                    Ok(driver) => driver.geometry(),
                    Err(error) => bdev::Geometry { result: error.code().into(), ..bdev::Geometry::default() },
                };
                answer(done, request, Answer::payload(&geometry));
            }
            bdev::READ | bdev::WRITE => {
                let transfer: Transfer = message.get();
                let reads = message.kind() == bdev::READ;
                let direction = if reads { Direction::Read } else { Direction::Write };
                self.seek();
                self.begin(transfer.disk, request, done, |driver| {
                    driver.transfer(request, &transfer, direction)
                });
            }
            bdev::FLUSH => {
                self.begin(message.get::<Disk>().disk, request, done, |driver| driver.flush(request));
            }
            cdev::READ | cdev::WRITE => answer(done, request, zero::serve(message)),
            _ => answer(done, request, Answer::unit(Err(Errno::EBADREQUEST))),
        }
    }

    /// Begins a request, and waits a little for its end.
    fn begin(
        &mut self,
        disk: u64,
        request: &Received,
        done: &mut Done,
        action: impl FnOnce(&mut Driver) -> Result<bool>,
    ) {
        let driver = match self.driver(disk) {
            Ok(driver) => driver,
            Err(error) => return answer(done, request, Answer::unit(Err(error))),
        };
        match action(driver) {
            Ok(true) => driver.poll(done),
            Ok(false) => answer(done, request, Answer::unit(Ok(()))),
            Err(error) => answer(done, request, driver.failed(error)),
        }
    }
}
