//! Processes, parents and exit statuses.

use alloc::vec::Vec;

use refault_abi::{Endpoint, Errno, Result};

/// Most processes and statuses not yet asked for, so that nobody can fill PM's memory.
pub const MAX_RECORDS: usize = 256;

/// What PM knows about a process.
#[derive(Clone, Copy, Debug)]
struct Record {
    endpoint: Endpoint,
    parent: Endpoint,
    state: State,
    name: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// In WAIT.
    Waiting,
    /// Ended with this status; its parent has not asked yet.
    Ended(i64),
}

/// What WAIT finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A child that has ended, with its status.
    Ended(Endpoint, i64),
    /// Children, but none has ended: the caller is remembered.
    Later,
}

/// A WAIT that can be answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Who waits.
    pub parent: Endpoint,
    /// Whose status.
    pub child: Endpoint,
    /// The status.
    pub status: i64,
}

/// All processes.
#[derive(Debug)]
pub struct Family {
    records: Vec<Record>,
}

impl Family {
    /// Only INIT, which inherits every orphan.
    pub fn new() -> Family {
        let mut family = Family { records: Vec::new() };
        family.add(Endpoint::INIT, Endpoint::NONE, "init");
        family
    }

    fn add(&mut self, endpoint: Endpoint, parent: Endpoint, name: &str) {
        let mut stored = [0; 16];
        for (place, byte) in stored.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        self.records.push(Record { endpoint, parent, state: State::Running, name: stored });
    }

    fn find(&mut self, endpoint: Endpoint) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.endpoint == endpoint)
    }

    /// Whether it is a process that has not ended.
    pub fn is_alive(&self, endpoint: Endpoint) -> bool {
        self.records
            .iter()
            .any(|record| record.endpoint == endpoint && !matches!(record.state, State::Ended(_)))
    }

    /// The process's name, for messages.
    pub fn name(&self, endpoint: Endpoint) -> &str {
        let record = self.records.iter().find(|record| record.endpoint == endpoint);
        let text = record.and_then(|record| record.name.split(|byte| *byte == 0).next());
        text.and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("?")
    }

    /// EAGAIN when one more child would be too many, ESRCH when the parent is not a process.
    pub fn may_spawn(&self, parent: Endpoint) -> Result<()> {
        if !self.is_alive(parent) {
            return Err(Errno::ESRCH);
        }
        if self.records.len() >= MAX_RECORDS { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// A child was made.
    pub fn spawned(&mut self, child: Endpoint, parent: Endpoint, name: &str) {
        self.add(child, parent, name);
    }

    /// WAIT. ECHILD when there is no child at all.
    pub fn wait(&mut self, parent: Endpoint) -> Result<Wait> {
        let ended = self
            .records
            .iter()
            .position(|record| record.parent == parent && matches!(record.state, State::Ended(_)));
        if let Some(index) = ended {
            let record = self.records.remove(index);
            if let State::Ended(status) = record.state {
                return Ok(Wait::Ended(record.endpoint, status));
            }
        }
        if !self.records.iter().any(|record| record.parent == parent) {
            return Err(Errno::ECHILD);
        }
        if let Some(record) = self.find(parent) {
            record.state = State::Waiting;
        }
        Ok(Wait::Later)
    }

    /// A process has ended. Its children become INIT's; statuses that nobody can ask for any more are dropped.
    /// Answers the WAITs that end now.
    pub fn ended(&mut self, endpoint: Endpoint, status: i64) -> Vec<Wake> {
        match self.find(endpoint) {
            Some(record) if !matches!(record.state, State::Ended(_)) => record.state = State::Ended(status),
            _ => return Vec::new(),
        }
        for record in &mut self.records {
            if record.parent == endpoint {
                record.parent = Endpoint::INIT;
            }
        }
        let mut wakes = Vec::new();
        while let Some(wake) = self.next_wake() {
            wakes.push(wake);
        }
        wakes
    }

    /// A waiting parent with an ended child; both are settled.
    fn next_wake(&mut self) -> Option<Wake> {
        let (index, child, parent, status) =
            self.records.iter().enumerate().find_map(|(index, record)| match record.state {
                State::Ended(status) if self.waits(record.parent) => {
                    Some((index, record.endpoint, record.parent, status))
                }
                _ => None,
            })?;
        self.records.remove(index);
        self.find(parent)?.state = State::Running;
        Some(Wake { parent, child, status })
    }

    fn waits(&self, endpoint: Endpoint) -> bool {
        self.records.iter().any(|record| record.endpoint == endpoint && record.state == State::Waiting)
    }
}

impl Default for Family {
    fn default() -> Self {
        Family::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: Endpoint = Endpoint::INIT;

    fn process(slot: i32) -> Endpoint {
        Endpoint::new(1, slot)
    }

    #[test]
    fn a_status_waits_for_the_parent_or_the_parent_for_it() {
        let mut family = Family::new();
        assert_eq!(family.wait(INIT), Err(Errno::ECHILD));
        family.spawned(process(12), INIT, "first");
        assert_eq!(family.wait(INIT), Ok(Wait::Later));
        let wake = Wake { parent: INIT, child: process(12), status: 3 };
        assert_eq!(family.ended(process(12), 3), [wake]);
        family.spawned(process(13), INIT, "second");
        assert_eq!(family.ended(process(13), 4), []);
        assert_eq!(family.ended(process(13), 5), []);
        assert!(!family.is_alive(process(13)));
        assert_eq!(family.wait(INIT), Ok(Wait::Ended(process(13), 4)));
        assert_eq!(family.wait(INIT), Err(Errno::ECHILD));
        assert!(family.is_alive(INIT));
    }

    #[test]
    fn orphans_become_inits_children() {
        let mut family = Family::new();
        family.spawned(process(12), INIT, "parent");
        family.spawned(process(13), process(12), "running");
        family.spawned(process(14), process(12), "ended");
        assert_eq!(family.ended(process(14), 9), []);
        assert_eq!(family.wait(INIT), Ok(Wait::Later));
        // One WAIT takes one child; the others stay for the next.
        assert_eq!(family.ended(process(12), 1).len(), 1);
        assert!(matches!(family.wait(INIT), Ok(Wait::Ended(_, _))));
        assert_eq!(family.wait(INIT), Ok(Wait::Later));
        assert_eq!(family.ended(process(13), 2), [Wake { parent: INIT, child: process(13), status: 2 }]);
    }

    #[test]
    fn records_are_bounded_and_strangers_have_no_children() {
        let mut family = Family::new();
        assert_eq!(family.may_spawn(process(20)), Err(Errno::ESRCH));
        for number in 1..MAX_RECORDS {
            family.may_spawn(INIT).unwrap();
            family.spawned(Endpoint::new(number as i32, 12), INIT, "a name of more than 16 bytes");
        }
        assert_eq!(family.may_spawn(INIT), Err(Errno::EAGAIN));
        assert_eq!(family.name(Endpoint::new(1, 12)), "a name of more t");
        assert_eq!(family.name(process(40)), "?");
    }
}
