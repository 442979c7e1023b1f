//! Message passing against a model that says the same thing naively: random programs of four processes.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Whom a model process takes messages from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Any,
    One(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Sending { to: usize, then_receive: bool },
    Receiving { from: From, answer: bool },
}

struct Model {
    state: Vec<State>,
    /// `rax` of the last primitive that ended.
    result: Vec<i64>,
    /// What the current step delivered: status, source and type, first word.
    delivered: Vec<Option<(u64, u64, u64)>>,
    /// Outgoing message of a blocked sender, and under which call.
    outgoing: Vec<(u32, u64, u64)>,
    /// Blocked senders in the order they came.
    order: Vec<usize>,
    notified: BTreeSet<(usize, usize)>,
}

impl Model {
    fn endpoint(&self, who: usize) -> Endpoint {
        Endpoint::new(0, (FIRST + who) as i32)
    }

    fn accepts(&self, receiver: usize, sender: usize) -> bool {
        match self.state[receiver] {
            State::Receiving { from, .. } => from == From::Any || from == From::One(sender),
            _ => false,
        }
    }

    fn waits_for(&self, who: usize) -> Option<usize> {
        match self.state[who] {
            State::Sending { to, .. } => Some(to),
            State::Receiving { from: From::One(from), .. } => Some(from),
            _ => None,
        }
    }

    /// The processes from `towards` on that wait for one another, up to `me` if it is reached.
    fn deadlock(&self, me: usize, towards: usize, sending: bool) -> bool {
        let mut chain = vec![towards];
        loop {
            let last = chain[chain.len() - 1];
            if last == me {
                break;
            }
            match self.waits_for(last) {
                Some(next) if !chain.contains(&next) => chain.push(next),
                _ => return false,
            }
        }
        let meets = chain.len() == 2 && matches!(self.state[towards], State::Sending { .. }) != sending;
        !meets
    }

    fn deliver(&mut self, to: usize, from: usize, call: u64, kind: u32, word: u64) {
        self.state[to] = State::Running;
        self.result[to] = 0;
        self.delivered[to] = Some((call, head(self.endpoint(from), kind), word));
    }

    fn fail(&mut self, who: usize, error: Errno) {
        self.result[who] = code(error);
    }

    /// The send half; `None` when it failed.
    fn send(&mut self, me: usize, to: usize, call: Call, kind: u32, word: u64) -> Option<bool> {
        if self.accepts(to, me) {
            self.deliver(to, me, call as u64, kind, word);
            return Some(true);
        }
        if self.deadlock(me, to, true) {
            self.fail(me, Errno::ELOCKED);
            return None;
        }
        self.outgoing[me] = (kind, word, call as u64);
        self.order.push(me);
        self.state[me] = State::Sending { to, then_receive: call == Call::SendRec };
        Some(false)
    }

    fn send_now(&mut self, me: usize, to: usize, call: Call, kind: u32, word: u64) -> bool {
        let ready = self.accepts(to, me);
        if ready {
            self.deliver(to, me, call as u64, kind, word);
        } else {
            self.fail(me, Errno::ENOTREADY);
        }
        ready
    }

    fn receive(&mut self, me: usize, from: From, block: bool) {
        let matches = |who: usize| from == From::Any || from == From::One(who);
        if let Some((sender, _)) =
            self.notified.iter().copied().find(|(sender, to)| *to == me && matches(*sender))
        {
            self.notified.remove(&(sender, me));
            self.deliver(me, sender, Call::Notify as u64, u32::from(NOTIFY_TYPE), 77);
            return;
        }
        let waiting = |who: &&usize| {
            matches!(self.state[**who], State::Sending { to, .. } if to == me) && matches(**who)
        };
        if let Some(sender) = self.order.iter().find(waiting).copied() {
            self.order.retain(|who| *who != sender);
            let (kind, word, call) = self.outgoing[sender];
            self.deliver(me, sender, call, kind, word);
            self.state[sender] = match self.state[sender] {
                State::Sending { then_receive: true, .. } => {
                    State::Receiving { from: From::One(me), answer: true }
                }
                _ => {
                    self.result[sender] = 0;
                    State::Running
                }
            };
            return;
        }
        if !block {
            return self.fail(me, Errno::ENOTREADY);
        }
        if let From::One(peer) = from
            && self.deadlock(me, peer, false)
        {
            return self.fail(me, Errno::ELOCKED);
        }
        self.state[me] = State::Receiving { from, answer: false };
    }

    fn run(&mut self, me: usize, call: Call, to: usize, from: From, kind: u32, word: u64) {
        match call {
            Call::Send => {
                if self.send(me, to, call, kind, word) == Some(true) {
                    self.result[me] = 0;
                }
            }
            Call::SendRec => {
                if self.send(me, to, call, kind, word) == Some(true) {
                    self.state[me] = State::Receiving { from: From::One(to), answer: true };
                }
            }
            Call::SendNb => {
                if self.send_now(me, to, call, kind, word) {
                    self.result[me] = 0;
                }
            }
            Call::ReplyReceive => {
                if self.send_now(me, to, Call::Send, kind, word) {
                    self.receive(me, from, true);
                }
            }
            Call::Receive => self.receive(me, from, true),
            Call::ReceiveNb => self.receive(me, from, false),
            Call::Notify => {
                match self.state[to] {
                    State::Receiving { answer: false, .. } if self.accepts(to, me) => {
                        self.deliver(to, me, Call::Notify as u64, u32::from(NOTIFY_TYPE), 77);
                    }
                    _ => {
                        self.notified.insert((me, to));
                    }
                }
                self.result[me] = 0;
            }
            _ => unreachable!("not generated"),
        }
    }
}

const PROCESSES: usize = 4;

fn step() -> impl Strategy<Value = (usize, Call, usize, Option<usize>)> {
    let call = prop::sample::select(vec![
        Call::Send,
        Call::SendRec,
        Call::SendRec,
        Call::SendNb,
        Call::Receive,
        Call::Receive,
        Call::ReceiveNb,
        Call::ReplyReceive,
        Call::Notify,
    ]);
    (0..PROCESSES, call, 0..PROCESSES, prop::option::of(0..PROCESSES))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut table = table(PROCESSES);
        let mut fake = Fake::default();
        let mut model = Model {
            state: vec![State::Running; PROCESSES],
            result: vec![0; PROCESSES],
            delivered: vec![None; PROCESSES],
            outgoing: vec![(0, 0, 0); PROCESSES],
            order: Vec::new(),
            notified: BTreeSet::new(),
        };
        for (number, (who, call, to, from)) in steps.into_iter().enumerate() {
            if model.state[who] != State::Running {
                continue;
            }
            let (kind, word) = (0x100 + number as u32, number as u64 * 3 + 1);
            model.delivered.fill(None);
            let peer = from.map_or(Endpoint::ANY, |from| endpoint(&table, from));
            let destination = endpoint(&table, to);
            run(&mut table, &mut fake, who, call, destination, peer, (kind, word));
            model.run(who, call, to, from.map_or(From::Any, From::One), kind, word);
            for process in 0..PROCESSES {
                let real = &table.procs[FIRST + process];
                let flags = match model.state[process] {
                    State::Running => 0,
                    State::Sending { then_receive: false, .. } => rts::SENDING,
                    State::Sending { then_receive: true, .. } => rts::SENDING | rts::RECEIVING,
                    State::Receiving { .. } => rts::RECEIVING,
                };
                prop_assert_eq!(real.flags, flags, "flags of {} after step {}", process, number);
                if flags == 0 {
                    prop_assert_eq!(real.frame.rax.cast_signed(), model.result[process], "result of {} after step {}", process, number);
                }
                if let Some(message) = model.delivered[process] {
                    let got = (real.frame.rdi, real.frame.message[0], real.frame.message[1]);
                    prop_assert_eq!(got, message, "message of {} after step {}", process, number);
                }
            }
        }
        // Nobody is in a queue it should not be in.
        for process in 0..PROCESSES {
            let mut at = table.procs[FIRST + process].queue_head;
            let mut queue = Vec::new();
            while let Some(slot) = crate::table::index_of(at) {
                queue.push(slot - FIRST);
                at = table.procs[slot].queue_next;
            }
            let expected: Vec<usize> = model.order.iter().copied()
                .filter(|who| matches!(model.state[*who], State::Sending { to, .. } if to == process)).collect();
            prop_assert_eq!(queue, expected);
        }
    }
}
