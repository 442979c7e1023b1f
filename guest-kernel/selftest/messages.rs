//! Message passing, deadlock detection, death, privileges, time.

use refault_abi::counters::Counter;
use refault_abi::ipc::{Call, Delivery, NOTIFY_TYPE, senda};
use refault_abi::kcall::{self, privilege, rts};
use refault_abi::layout::pte;
use refault_abi::{Endpoint, Errno, Message, pm};

use crate::trap::{kernel_call, primitive};
use crate::world::{ARENA, World, head};
use crate::{agent, check, same};

const ANY: Endpoint = Endpoint::ANY;
const NONE: Endpoint = Endpoint::NONE;

/// All cases.
pub fn run(world: &mut World) {
    rendezvous(world);
    fast_path(world);
    notifications(world);
    asynchronous(world);
    deadlock(world);
    death(world);
    privileges(world);
    exceptions(world);
    time(world);
}

fn code(error: Errno) -> i64 {
    i64::from(error.code())
}

fn rendezvous(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let b = world.agent("b", privilege::TEST, 5);
    world.settle();
    // Receiver first.
    world.order(&b, Call::Receive, NONE, ANY, &[]);
    world.settle();
    same!(world.state(&b), (rts::RECEIVING, ANY), "blocked receiver");
    world.order(&a, Call::Send, b.endpoint, NONE, &[head(0x77), 1, 2, 3]);
    same!(world.report(&a).result, 0, "send to a receiver");
    let got = world.report(&b);
    same!((got.result, got.source(), got.kind()), (0, a.endpoint, 0x77), "received");
    same!(&got.words[1..4], &[1, 2, 3], "payload");
    same!(Delivery(got.status).call(), Call::Send as u64, "status");
    // Sender first.
    world.settle();
    world.order(&a, Call::Send, b.endpoint, NONE, &[head(0x78), 4]);
    world.settle();
    same!(world.state(&a), (rts::SENDING, b.endpoint), "blocked sender");
    let got = world.execute(&b, Call::Receive, NONE, a.endpoint, &[]);
    same!((got.kind(), got.words[1]), (0x78, 4), "received from a blocked sender");
    same!(world.report(&a).result, 0, "sender goes on");
    // SENDREC against REPLYRECEIVE.
    world.settle();
    world.order(&a, Call::SendRec, b.endpoint, b.endpoint, &[head(0x79), 5]);
    let got = world.execute(&b, Call::Receive, NONE, ANY, &[]);
    same!((got.kind(), Delivery(got.status).call()), (0x79, Call::SendRec as u64), "request");
    world.settle();
    world.order(&b, Call::ReplyReceive, a.endpoint, ANY, &[head(0x7a), 6]);
    let got = world.report(&a);
    same!((got.result, got.kind(), got.words[1]), (0, 0x7a, 6), "reply");
    world.settle();
    same!(world.state(&b).0, rts::RECEIVING, "replier receives");
    world.order(&a, Call::SendNb, b.endpoint, NONE, &[head(0x7b)]);
    same!(world.report(&a).result, 0, "SENDNB to a receiver");
    same!(world.report(&b).kind(), 0x7b, "received after the reply");
    same!(
        world.execute(&a, Call::SendNb, b.endpoint, NONE, &[]).result,
        code(Errno::ENOTREADY),
        "SENDNB to somebody else's receiver"
    );
    same!(world.execute(&a, Call::ReceiveNb, NONE, ANY, &[]).result, code(Errno::ENOTREADY), "RECEIVENB");
    same!(
        world.execute(&a, Call::ReplyReceive, b.endpoint, ANY, &[]).result,
        code(Errno::ENOTREADY),
        "REPLYRECEIVE to nobody waiting"
    );
    same!(world.execute(&a, Call::Send, ANY, NONE, &[]).result, code(Errno::EINVAL), "send to ANY");
    same!(
        world.execute(&a, Call::Send, Endpoint::from_raw(63), NONE, &[]).result,
        code(Errno::EDEADSRCDST),
        "send to nobody"
    );
    world.remove(&a);
    world.remove(&b);
}

/// The two cases that the entry code serves itself: they must look exactly like the general ones.
fn fast_path(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let b = world.agent("b", privilege::TEST, 5);
    world.settle();
    world.order(&b, Call::Receive, NONE, ANY, &[]);
    world.settle();
    let before = counter(Counter::Messages);
    // A forged source.
    let forged = head(0x55) | u64::from(Endpoint::PM.raw() as u32) | 0xffff_0000;
    world.order(&a, Call::SendRec, b.endpoint, b.endpoint, &[forged, 1, 2, 3, 4, 5]);
    let got = world.report(&b);
    same!((got.result, got.status), (0, Call::SendRec as u64), "status of a fast request");
    same!(got.words, [head(0x55) | u64::from(a.endpoint.raw() as u32), 1, 2, 3, 4, 5], "fast request");
    world.settle();
    same!(world.state(&a), (rts::RECEIVING, b.endpoint), "waits for its answer");
    same!(world.execute(&b, Call::Notify, a.endpoint, NONE, &[]).result, 0, "notify during a fast request");
    world.settle();
    same!(world.state(&a).0, rts::RECEIVING, "a notification is no answer to a fast request");
    world.order(&b, Call::ReplyReceive, a.endpoint, ANY, &[head(0x56), 9, 8, 7, 6, 5]);
    let got = world.report(&a);
    same!((got.result, got.status), (0, Call::Send as u64), "status of a fast answer");
    same!(got.words, [head(0x56) | u64::from(b.endpoint.raw() as u32), 9, 8, 7, 6, 5], "fast answer");
    check(counter(Counter::Messages) >= before + 2, format_args!("fast messages are counted"));
    world.settle();
    same!(world.state(&b), (rts::RECEIVING, ANY), "the server receives from anybody");
    same!(world.execute(&a, Call::Notify, b.endpoint, NONE, &[]).result, 0, "and takes notifications");
    same!(world.report(&b).kind(), NOTIFY_TYPE, "this one");
    // With something pending the answer must not go the fast way.
    world.settle();
    world.order(&a, Call::SendRec, b.endpoint, b.endpoint, &[head(0x57)]);
    same!(world.execute(&b, Call::Receive, NONE, a.endpoint, &[]).kind(), 0x57, "another request");
    world.remove(&a);
    same!(
        world.execute(&b, Call::ReplyReceive, a.endpoint, ANY, &[]).result,
        code(Errno::EDEADSRCDST),
        "an answer to the dead"
    );
    world.remove(&b);
}

/// Reads a counter.
pub fn counter(counter: Counter) -> u64 {
    let place = refault_abi::layout::STATS + counter as u64 * 8;
    // SAFETY: the counters page is mapped.
    unsafe { core::ptr::with_exposed_provenance::<u64>(place as usize).read_volatile() }
}

fn notifications(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let b = world.agent("b", privilege::TEST, 5);
    same!(world.execute(&a, Call::Notify, b.endpoint, NONE, &[]).result, 0, "notify");
    same!(world.execute(&a, Call::Notify, b.endpoint, NONE, &[]).result, 0, "notify again");
    let got = world.execute(&b, Call::Receive, NONE, ANY, &[]);
    same!((got.source(), got.kind()), (a.endpoint, NOTIFY_TYPE), "one notification");
    check(Delivery(got.status).is_notify(), format_args!("notification's status"));
    check(got.words[1] != 0, format_args!("notification's time stamp"));
    same!(world.execute(&b, Call::ReceiveNb, NONE, ANY, &[]).result, code(Errno::ENOTREADY), "not two");
    // Not into the receive half of a SENDREC.
    world.settle();
    world.order(&b, Call::SendRec, a.endpoint, a.endpoint, &[head(0x10)]);
    same!(world.execute(&a, Call::Receive, NONE, ANY, &[]).kind(), 0x10, "request");
    same!(world.execute(&a, Call::Notify, b.endpoint, NONE, &[]).result, 0, "notify a waiting caller");
    world.settle();
    same!(world.state(&b).0, rts::RECEIVING, "still waits for its answer");
    world.order(&a, Call::SendNb, b.endpoint, NONE, &[head(0x11)]);
    same!(world.report(&a).result, 0, "answer");
    same!(world.report(&b).kind(), 0x11, "the answer, not the notification");
    same!(world.execute(&b, Call::Receive, NONE, ANY, &[]).kind(), NOTIFY_TYPE, "notification afterwards");
    world.remove(&a);
    world.remove(&b);
}

fn asynchronous(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let b = world.agent("b", privilege::TEST, 5);
    let entry = |world: &World, index: u64, flags: u32, kind: u16| {
        let at = a.arena + index * 80;
        world.write(at, u64::from(flags) | u64::from(b.endpoint.raw() as u32) << 32);
        world.write(at + 8, 0);
        world.write(at + 16, head(kind));
        world.write(at + 24, 0xabc + index);
    };
    let flags = |world: &World, index: u64| world.read(a.arena + index * 80) as u32;
    entry(world, 0, senda::VALID, 0x20);
    entry(world, 1, senda::VALID | senda::NOREPLY, 0x21);
    same!(world.execute(&a, Call::SendA, NONE, NONE, &[ARENA, 2]).result, 0, "SENDA");
    same!(flags(world, 0), senda::VALID, "nothing delivered yet");
    let got = world.execute(&b, Call::Receive, NONE, ANY, &[]);
    same!((got.kind(), got.words[1], got.source()), (0x20, 0xabc, a.endpoint), "first entry");
    same!(flags(world, 0), senda::VALID | senda::DONE, "marked done");
    // The second one must not answer a SENDREC.
    world.settle();
    world.order(&b, Call::SendRec, a.endpoint, a.endpoint, &[head(0x22)]);
    same!(world.execute(&a, Call::Receive, NONE, ANY, &[]).kind(), 0x22, "request");
    world.settle();
    same!(world.state(&b).0, rts::RECEIVING, "NOREPLY does not answer");
    entry(world, 0, senda::VALID, 0x23);
    same!(world.execute(&a, Call::SendA, NONE, NONE, &[ARENA, 1]).result, 0, "SENDA as an answer");
    same!(world.report(&b).kind(), 0x23, "an entry without NOREPLY does");
    same!(world.execute(&a, Call::SendA, NONE, NONE, &[ARENA, 2]).result, 0, "SENDA again");
    same!(world.execute(&b, Call::Receive, NONE, a.endpoint, &[]).kind(), 0x21, "NOREPLY entry by RECEIVE");
    // Entries to nobody, and tables that cannot be.
    world.write(a.arena, u64::from(senda::VALID) | 63 << 32);
    same!(world.execute(&a, Call::SendA, NONE, NONE, &[ARENA, 1]).result, 0, "SENDA to nobody");
    same!(world.read(a.arena + 8) as i32, Errno::EDEADSRCDST.code(), "result of an entry to nobody");
    let bad: [(&[u64], Errno); 4] = [
        (&[ARENA, 1 << 20], Errno::EINVAL),
        (&[ARENA + 4, 1], Errno::EINVAL),
        (&[u64::MAX - 7, 1], Errno::EFAULT),
        (&[0x3000_0000, 1], Errno::EFAULT),
    ];
    for (words, error) in bad {
        same!(world.execute(&a, Call::SendA, NONE, NONE, words).result, code(error), "bad SENDA table");
    }
    // An entry that cannot be marked done is not delivered: it would be, again and again.
    entry(world, 0, senda::VALID, 0x24);
    same!(
        world.execute(&a, Call::SendA, NONE, NONE, &[ARENA, 1]).result,
        0,
        "SENDA before the table is read-only"
    );
    world.map(a.root, ARENA, a.arena, pte::PRESENT | pte::USER);
    let got = world.execute(&b, Call::ReceiveNb, NONE, ANY, &[]).result;
    same!(got, code(Errno::ENOTREADY), "an entry in a read-only table");
    let got = world.execute(&a, Call::SendA, NONE, NONE, &[ARENA, 1]).result;
    same!(got, code(Errno::EFAULT), "a read-only table");
    world.remove(&a);
    world.remove(&b);
}

fn deadlock(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let b = world.agent("b", privilege::TEST, 5);
    let c = world.agent("c", privilege::TEST, 5);
    world.settle();
    world.order(&a, Call::SendRec, b.endpoint, b.endpoint, &[head(0x30)]);
    world.order(&b, Call::SendRec, c.endpoint, c.endpoint, &[head(0x31)]);
    world.settle();
    same!(
        world.execute(&c, Call::SendRec, a.endpoint, a.endpoint, &[]).result,
        code(Errno::ELOCKED),
        "circle of three"
    );
    same!(
        world.execute(&c, Call::Send, c.endpoint, NONE, &[]).result,
        code(Errno::ELOCKED),
        "send to oneself"
    );
    same!(
        world.execute(&c, Call::Receive, NONE, a.endpoint, &[]).result,
        code(Errno::ELOCKED),
        "receive inside the circle"
    );
    same!(world.execute(&c, Call::Receive, NONE, b.endpoint, &[]).kind(), 0x31, "the circle can be broken");
    same!(world.execute(&c, Call::SendNb, b.endpoint, NONE, &[head(0x32)]).result, 0, "answer");
    same!(world.report(&b).kind(), 0x32, "answered");
    world.remove(&a);
    world.remove(&b);
    world.remove(&c);
}

fn death(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let b = world.agent("b", privilege::TEST, 5);
    let c = world.agent("c", privilege::TEST, 5);
    world.settle();
    world.order(&a, Call::SendRec, b.endpoint, b.endpoint, &[head(0x40)]);
    world.order(&c, Call::Receive, NONE, b.endpoint, &[]);
    world.settle();
    world.remove(&b);
    same!(world.report(&a).result, code(Errno::EDEADSRCDST), "waiting to send to the dead");
    same!(world.report(&c).result, code(Errno::EDEADSRCDST), "waiting to receive from the dead");
    let again = world.agent_in(b.endpoint.slot(), "again", privilege::TEST, 5);
    same!(again.endpoint, b.endpoint.next_generation(), "next generation");
    same!(
        world.execute(&a, Call::SendNb, b.endpoint, NONE, &[]).result,
        code(Errno::EDEADSRCDST),
        "the old endpoint stays dead"
    );
    world.remove(&a);
    world.remove(&again);
    world.remove(&c);
}

fn privileges(world: &mut World) {
    let user = world.agent("user", privilege::USER, 7);
    let test = world.agent("test", privilege::TEST, 7);
    // A user process cannot receive orders; it shows what it may do by being stuck in ETRAPDENIED.
    world.settle_with(&user);
    world.remove(&user);
    same!(world.call(&test, kcall::NULL, &[]).result, 0, "NULL");
    same!(
        world.call(&test, kcall::VIRCOPY, &[]).result,
        code(Errno::ECALLDENIED),
        "VIRCOPY by a test process"
    );
    same!(
        world.call(&test, kcall::PROC_EXIT, &[8]).result,
        code(Errno::ECALLDENIED),
        "PROC_EXIT by a test process"
    );
    same!(world.call(&test, kcall::BASE + 13, &[]).result, code(Errno::EBADREQUEST), "unknown kernel call");
    same!(world.call(&test, 0x1234, &[]).result, code(Errno::EBADREQUEST), "kernel call out of range");
    world.order_raw(&test, agent::ORDER + 99, [0; 7]);
    same!(world.report(&test).result, code(Errno::EBADCALL), "unknown primitive");
    world.remove(&test);
}

fn exceptions(world: &mut World) {
    let manager = world.agent_in(Endpoint::PM.slot(), "pm", privilege::SERVER, 4);
    for (order, signal) in [(agent::INVALID, 4), (agent::NARROW, 11)] {
        let a = world.agent("a", privilege::TEST, 5);
        world.settle();
        world.order_raw(&a, order, [0; 7]);
        world.settle();
        let (flags, target) = world.state(&a);
        same!(flags, rts::STOPPED | rts::SENDING, "stopped by an exception");
        same!(target, Endpoint::PM, "telling PM");
        let got = world.execute(&manager, Call::Receive, NONE, ANY, &[]);
        same!((got.source(), got.kind()), (a.endpoint, pm::KILLED), "KILLED in its name");
        check(Delivery(got.status).from_kernel(), format_args!("KILLED is from the kernel"));
        same!(got.words[1], u64::from(a.endpoint.raw() as u32) | signal << 32, "which signal");
        world.settle();
        same!(world.state(&a).0, rts::STOPPED, "stays stopped");
        world.remove(&a);
    }
    world.remove(&manager);
}

fn time(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 9);
    let b = world.agent("b", privilege::TEST, 9);
    same!(world.call(&a, kcall::SETALARM, &[20_000]).result, 0, "SETALARM");
    world.settle();
    world.order(&a, Call::Receive, NONE, ANY, &[]);
    // The processor idles until the alarm.
    let got = world.report(&a);
    same!((got.source(), got.kind()), (Endpoint::CLOCK, NOTIFY_TYPE), "CLOCK notification");
    // Two of one level: one that never leaves the processor does not keep it from the other.
    world.settle();
    world.order_raw(&a, agent::SPIN, [ARENA, 0, 0, 0, 0, 0, 0]);
    world.order(&b, Call::Yield, NONE, NONE, &[]);
    same!(world.report(&b).result, 0, "a rival gets its turn");
    check(world.read(a.arena) > 0, format_args!("and the other one had its own"));
    world.remove(&a);
    world.remove(&b);
    let mut bare = Message::default();
    same!(primitive(Call::ReceiveNb, NONE, ANY, &mut bare).0, code(Errno::ENOTREADY), "no stray messages");
    same!(kernel_call(kcall::EVENT, &[1u64, 0]).0, code(Errno::EPERM), "the kernel's own events");
}

impl World {
    /// Lets a USER agent, which cannot receive, spin on its denied RECEIVE for a moment, then stops it.
    fn settle_with(&mut self, user: &crate::world::Agent) {
        let mut bare = Message::default();
        // It is never ready for a message, since RECEIVE is denied to it.
        same!(
            primitive(Call::SendNb, user.endpoint, NONE, &mut bare).0,
            code(Errno::ENOTREADY),
            "a user process does not receive"
        );
    }
}
