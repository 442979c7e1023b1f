//! The block driver: virtio-blk over virtio-mmio.
//!
//! The one thing to hold in mind: leaving the guest is the dearest thing here. A request costs one register
//! write; its answer is looked for in the ring first, and only then waited for with an interrupt, whose
//! acknowledgement is the second one.
#![no_std]
#![no_main]

extern crate alloc;

mod driver;
mod hardware;

use alloc::vec::Vec;

use refault_abi::bdev;
use refault_abi::{Endpoint, Errno, Message};
use refault_rt::ipc::Received;
use refault_rt::server::{self, Answer};

use driver::Driver;
use refault_blk::request::Direction;

refault_rt::entry!(main);

fn main(_args: refault_rt::start::Args) -> i32 {
    let mut driver = hardware::find().map(Driver::new);
    let mut request = server::next();
    loop {
        let mut done: Vec<(Received, Message)> = Vec::new();
        match (&mut driver, request.delivery.is_notify()) {
            (Some(driver), true) if request.message.sender() == Endpoint::HARDWARE => {
                driver.interrupt(&mut done);
            }
            (_, true) => {}
            // Whoever writes to the disk behind a file system's back ruins it.
            (_, false) if !server::is_boot_server(request.message.sender()) => {
                answer(&mut done, &request, Answer::unit(Err(Errno::EPERM)));
            }
            (Some(driver), false) => dispatch(driver, &request, &mut done),
            (None, false) => answer(&mut done, &request, no_device(request.message.kind())),
        }
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
fn answer(done: &mut Vec<(Received, Message)>, request: &Received, answer: Answer) {
    if let Answer::Message(message) = answer {
        done.push((*request, message));
    }
}

/// What every request gets where there is no device.
fn no_device(kind: u16) -> Answer {
    match kind {
        bdev::GEOMETRY => {
            let result = i64::from(Errno::ENXIO.code());
            Answer::payload(&bdev::Geometry { result, ..bdev::Geometry::default() })
        }
        bdev::READ | bdev::WRITE | bdev::FLUSH => Answer::unit(Err(Errno::ENXIO)),
        _ => Answer::unit(Err(Errno::EBADREQUEST)),
    }
}

fn dispatch(driver: &mut Driver, request: &Received, done: &mut Vec<(Received, Message)>) {
    let message = &request.message;
    let begun = match message.kind() {
        bdev::GEOMETRY => return answer(done, request, Answer::payload(&driver.geometry())),
        bdev::READ => driver.transfer(request, &message.get(), Direction::Read),
        bdev::WRITE => driver.transfer(request, &message.get(), Direction::Write),
        bdev::FLUSH => driver.flush(request),
        _ => Err(Errno::EBADREQUEST),
    };
    match begun {
        Ok(true) => driver.poll(done),
        Ok(false) => answer(done, request, Answer::unit(Ok(()))),
        Err(error) => answer(done, request, driver.failed(error)),
    }
}
