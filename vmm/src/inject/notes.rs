//! For tests: a mechanism that only takes notes, and what is tried with it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use refault_abi::doorbell::access;

use super::injector::Injector;
use super::mechanism::{Mechanism, Notice, TrapPage};
use super::parse_rule;
use super::trap::{Trap, Via};
use crate::memory::{GuestRam, MIN_RAM};

pub const SITES: u64 = 0x3000;
pub const RECORDS: u64 = 0x4000;

#[derive(Debug, Default, Clone)]
pub struct Notes(Arc<Mutex<Vec<(&'static str, u64)>>>);

impl Notes {
    pub fn taken(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap().clone()
    }
}

impl Mechanism for Notes {
    fn name(&self) -> &'static str {
        "notes"
    }
    fn arm(&self, page: u64) -> io::Result<()> {
        self.0.lock().unwrap().push(("arm", page));
        Ok(())
    }
    fn disarm(&self, page: u64) -> io::Result<()> {
        self.0.lock().unwrap().push(("disarm", page));
        Ok(())
    }
    fn trapped(&self, notice: Notice) -> TrapPage {
        match notice {
            Notice::RunFailed { gpa: None } => TrapPage::Unknown,
            Notice::Interpreted { gpa } => TrapPage::Known(gpa & !0xfff),
            _ => TrapPage::NotMine,
        }
    }
}

/// An injector with these rules, for one processor and the least RAM; nothing is registered.
pub fn injector_for(rules: &[&str], seed: u64) -> (Injector, Notes, Arc<GuestRam>) {
    let ram = Arc::new(GuestRam::new(MIN_RAM).unwrap());
    let notes = Notes::default();
    let rules: Vec<_> = rules.iter().map(|rule| parse_rule(rule).unwrap()).collect();
    (Injector::new(ram.clone(), Box::new(notes.clone()), 1, &rules, seed), notes, ram)
}

/// A write by the kernel on processor 0, 8 bytes into the page, that can be told exactly.
pub fn touch_at(page: u64) -> Trap {
    Trap {
        gpa: page + 8,
        gva: Some(0xffff_8000_0000_0008 + page),
        access: access::WRITE,
        rip: 0x1234,
        cpl: 0,
        vcpu: 0,
        via: Via::BusError,
        at: Instant::now(),
        vectors: 256,
    }
}
