//! Children that do one thing: fork with a closure, and waiting for exactly one of them.
//!
//! A child shares nothing with its parent but descriptors; it says how it went by its status. The one thing to hold in mind: a
//! child must not print cases, because it counts for nobody.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::Message;
use refault_rt::user::{self, Forked};
use refault_rt::{Endpoint, ipc, kernel};

use super::measure::Delta;
use super::suite::{Explain, Record, expect};

/// Kind of the message by which a parent lets children go on.
const GO: u16 = 0x7f01;
/// Kind of the message by which a child says that it is where it should be, with a value.
const HERE: u16 = 0x7f02;

/// Status of a child whose closure complained.
pub const COMPLAINED: i32 = 17;

/// A child under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child(pub Endpoint);

impl Child {
    /// Forks; the child runs the closure and ends with 0, or says on descriptor 2 what is wrong and ends with [`COMPLAINED`].
    pub fn run(body: impl FnOnce() -> Result<(), String>) -> Result<Child, String> {
        Child::with_status(|| match body() {
            Ok(()) => 0,
            Err(why) => {
                refault_rt::eprintln!("child: {why}");
                COMPLAINED
            }
        })
    }

    /// The same for a child that chooses its status.
    pub fn with_status(body: impl FnOnce() -> i32) -> Result<Child, String> {
        match user::fork().explain("fork")? {
            Forked::Parent(child) => Ok(Child(child)),
            Forked::Child => user::exit(body()),
        }
    }

    /// Lets a child go on that stands at [`wait_for_go`].
    pub fn go(self) -> Result<(), String> {
        ipc::send(self.0, &Message::bare(GO)).explain("letting the child go")
    }

    /// Waits until the child is where it says [`here`]; its value.
    pub fn arrived(self) -> Result<u64, String> {
        let received = ipc::receive(self.0).explain("waiting for the child")?;
        expect("the child's message", received.message.kind(), HERE)?;
        let [value, ..] = received.message.payload;
        Ok(value)
    }

    /// Waits for its end; its status.
    pub fn status(self) -> Result<i64, String> {
        let (gone, status) = user::wait().explain("wait")?;
        expect("the child that ended", gone, self.0)?;
        Ok(status)
    }

    /// Waits for its end, which must be a good one.
    pub fn good(self) -> Result<(), String> {
        expect("the child's status", self.status()?, 0)
    }
}

/// Waits for the ends of all of them, in whatever order; each must be good.
pub fn all_good(children: &[Child]) -> Result<(), String> {
    let mut left: Vec<Endpoint> = children.iter().map(|child| child.0).collect();
    while !left.is_empty() {
        let (gone, status) = user::wait().explain("wait")?;
        let index = left.iter().position(|child| *child == gone);
        let index = index.ok_or_else(|| format!("{gone:?} ended, which nobody waits for"))?;
        left.swap_remove(index);
        expect("a child's status", status, 0)?;
    }
    Ok(())
}

/// In each of `rounds`: waits until all of them are where they say [`here`], drops all caches, and lets them go on together, so that
/// each finds the others at work. Then waits for their good ends; what happened from their first going on.
pub fn all_go(record: &mut Record, children: &[Child], rounds: u64) -> Result<Delta, String> {
    let gather = || {
        children.iter().try_for_each(|child| child.arrived().map(drop))?;
        user::flush_caches().explain("flushing the caches").map(drop)
    };
    let go = || children.iter().try_for_each(|child| child.go());
    gather()?;
    let (answer, delta) = record.measure(|| {
        go()?;
        for _ in 1..rounds {
            gather()?;
            go()?;
        }
        all_good(children)
    })?;
    answer?;
    Ok(delta)
}

/// Lets some time go by: until another look at something that may take until the reincarnation server has made a successor.
pub fn look_later() -> Result<(), String> {
    const MICROSECONDS: u64 = 50_000;
    kernel::setalarm(MICROSECONDS).explain("the alarm")?;
    ipc::receive(Endpoint::CLOCK).explain("waiting for the alarm").map(drop)
}

/// In a child: waits for [`Child::go`].
pub fn wait_for_go() -> Result<(), String> {
    let parent = user::getppid().explain("getppid")?;
    ipc::receive(parent).explain("waiting for the sign").map(drop)
}

/// In a child: says that it has come this far.
pub fn here(value: u64) -> Result<(), String> {
    let parent = user::getppid().explain("getppid")?;
    let mut message = Message::bare(HERE);
    if let Some(place) = message.payload.first_mut() {
        *place = value;
    }
    ipc::send(parent, &message).explain("telling the parent")
}
