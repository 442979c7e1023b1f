//! The loop of a simple server: receive, dispatch, reply.
//!
//! The one thing to hold in mind: a server must not be stopped by whom it serves. The reply goes out in the
//! same trap as the next receive; a requester that is not ready for it gets it a little later if it is a boot
//! server, and never otherwise.

use refault_abi::ipc::Call;
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::{Endpoint, Errno, Message, Result};

use crate::ipc::{self, Received};

/// What a dispatcher answers.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// This message, sent with the request's transaction id.
    Message(Message),
    /// Nothing now (the specification's EDONTREPLY).
    Later,
}

impl Answer {
    /// A plain status: count or error.
    pub fn status(result: Result<u64>) -> Answer {
        match result {
            Err(Errno::EDONTREPLY) => Answer::Later,
            _ => Answer::payload(&Status::of(result)),
        }
    }

    /// A plain status without a value.
    pub fn unit(result: Result<()>) -> Answer {
        Answer::status(result.map(|()| 0))
    }

    /// Any reply structure, as message type REPLY.
    pub fn payload<T: Payload>(payload: &T) -> Answer {
        Answer::Message(Message::new(REPLY, payload))
    }
}

/// Whether the requester is one of the boot servers, which always come back to receiving; restarted ones included.
pub fn is_boot_server(source: Endpoint) -> bool {
    source.index().is_some_and(|slot| slot < Endpoint::FIRST_DYNAMIC_SLOT)
}

/// Receives whatever comes next; an error would mean that the server itself is gone. RS's question whether this server is
/// alive is answered here and not seen by anybody else.
pub fn next() -> Received {
    loop {
        if let Ok(received) = ipc::receive(Endpoint::ANY)
            && !heartbeat(&received)
        {
            return received;
        }
    }
}

/// Answers a notification of RS with a notification, which is how RS sees that this server is alive. False for anything else.
pub fn heartbeat(received: &Received) -> bool {
    let asked = received.delivery.is_notify() && received.message.sender() == Endpoint::RS;
    if asked {
        // RS is gone: then nobody asks.
        let _ = ipc::notify(Endpoint::RS);
    }
    asked
}

/// Sends `answer` as the reply to `request`, and does not wait for a receiver that may never come.
pub fn reply(request: &Received, answer: &Message) {
    let answer = answer.with_transaction(request.message.transaction());
    let to = request.message.sender();
    let waits = request.delivery.call() != Call::SendRec as u64 && is_boot_server(to);
    // A requester that died does not need its answer.
    let _ = if waits { ipc::send(to, &answer) } else { ipc::sendnb(to, &answer) };
}

/// Sends `answer` as the reply to `request`, then receives: in one trap where the requester is ready.
pub fn reply_next(request: &Received, answer: &Message) -> Received {
    let with_id = answer.with_transaction(request.message.transaction());
    match ipc::reply_receive(request.message.sender(), &with_id, Endpoint::ANY) {
        Ok(received) if heartbeat(&received) => next(),
        Ok(received) => received,
        Err(Errno::ENOTREADY) => {
            reply(request, answer);
            next()
        }
        Err(_) => next(),
    }
}

/// Serves for ever. Notifications are dispatched too; what is answered to them is ignored.
pub fn serve(mut dispatch: impl FnMut(&Received) -> Answer) -> ! {
    let mut request = next();
    loop {
        request = match dispatch(&request) {
            Answer::Message(answer) if !request.delivery.is_notify() => reply_next(&request, &answer),
            _ => next(),
        };
    }
}
