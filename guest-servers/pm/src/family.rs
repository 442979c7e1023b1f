//! Processes, parents and exit statuses.

use alloc::vec::Vec;

use refault_abi::kcall::privilege;
use refault_abi::{Endpoint, Errno, Result};

/// Most processes and statuses not yet asked for, so that nobody can fill PM's memory.
pub const MAX_RECORDS: usize = 256;

/// What PM knows about a process. Records lie in the order of birth.
#[derive(Clone, Copy, Debug)]
struct Record {
    endpoint: Endpoint,
    parent: Endpoint,
    state: State,
    class: u32,
    name: [u8; 16],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// In WAIT.
    Waiting,
    /// It runs no more; VFS is closing its files.
    Ending,
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
    /// Whose descendants the interrupt character ends.
    foreground: Endpoint,
}

impl Family {
    /// Only INIT, which inherits every orphan.
    pub fn new() -> Family {
        let mut family = Family { records: Vec::new(), foreground: Endpoint::INIT };
        family.spawned(Endpoint::INIT, Endpoint::NONE, "init", privilege::USER);
        family
    }

    fn find(&mut self, endpoint: Endpoint) -> Option<&mut Record> {
        self.records.iter_mut().find(|record| record.endpoint == endpoint)
    }

    fn get(&self, endpoint: Endpoint) -> Option<&Record> {
        self.records.iter().find(|record| record.endpoint == endpoint)
    }

    /// Whether it is a process that has not begun to end.
    pub fn is_alive(&self, endpoint: Endpoint) -> bool {
        self.get(endpoint).is_some_and(|record| matches!(record.state, State::Running | State::Waiting))
    }

    /// The process's name, for messages.
    pub fn name(&self, endpoint: Endpoint) -> &str {
        let text = self.get(endpoint).and_then(|record| record.name.split(|byte| *byte == 0).next());
        text.and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("?")
    }

    /// The process's privilege class, if it is one of PM's.
    pub fn class(&self, endpoint: Endpoint) -> Option<u32> {
        self.get(endpoint).map(|record| record.class)
    }

    /// Its parent.
    pub fn parent(&self, endpoint: Endpoint) -> Option<Endpoint> {
        self.get(endpoint).map(|record| record.parent)
    }

    /// EAGAIN when one more child would be too many, ESRCH when the parent is not a process.
    pub fn may_spawn(&self, parent: Endpoint) -> Result<()> {
        if !self.is_alive(parent) {
            return Err(Errno::ESRCH);
        }
        if self.records.len() >= MAX_RECORDS { Err(Errno::EAGAIN) } else { Ok(()) }
    }

    /// A child was made.
    pub fn spawned(&mut self, child: Endpoint, parent: Endpoint, name: &str, class: u32) {
        let name = stored(name);
        self.records.push(Record { endpoint: child, parent, state: State::Running, class, name });
    }

    /// A process runs another program now.
    pub fn became(&mut self, endpoint: Endpoint, name: &str, class: u32) {
        if let Some(record) = self.find(endpoint) {
            record.name = stored(name);
            record.class = class;
        }
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

    /// A process begins to end. False when it has ended, is ending, or never was.
    pub fn ending(&mut self, endpoint: Endpoint) -> bool {
        if self.foreground == endpoint {
            self.foreground = Endpoint::INIT;
        }
        match self.find(endpoint) {
            Some(record) if matches!(record.state, State::Running | State::Waiting) => {
                record.state = State::Ending;
                true
            }
            _ => false,
        }
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

    /// A child that never ran: nobody waits for it.
    pub fn forget(&mut self, endpoint: Endpoint) {
        self.records.retain(|record| record.endpoint != endpoint);
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
        self.get(endpoint).is_some_and(|record| record.state == State::Waiting)
    }

    /// FOREGROUND. ESRCH when it is no process.
    pub fn foreground(&mut self, endpoint: Endpoint) -> Result<()> {
        if !self.is_alive(endpoint) {
            return Err(Errno::ESRCH);
        }
        self.foreground = endpoint;
        Ok(())
    }

    /// Whom the interrupt character ends: the living descendants of the process that last called FOREGROUND.
    pub fn interrupted(&self) -> Vec<Endpoint> {
        let mut family = Vec::from([self.foreground]);
        // A child is younger than its parent; only INIT has inherited ones, and it has no parent that could come later.
        for record in &self.records {
            if family.contains(&record.parent) {
                family.push(record.endpoint);
            }
        }
        family.into_iter().skip(1).filter(|endpoint| self.is_alive(*endpoint)).collect()
    }
}

/// A name as it is kept.
fn stored(name: &str) -> [u8; 16] {
    let mut stored = [0; 16];
    for (place, byte) in stored.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    stored
}

impl Default for Family {
    fn default() -> Self {
        Family::new()
    }
}

#[cfg(test)]
#[path = "family_tests.rs"]
mod tests;
