//! The steps of one fault, in a micro-guest whose program adds one to a word in ring 3.
//!
//! ```text
//!   arm ─▶ enter ─▶ touch ─▶ trap ─▶ decision        disarm ─▶ enter ─▶ touch ─▶ next exit
//!          └──────── trap ──────────┘                └ disarm ┘└──────── retry ──────────┘
//! ```
//!
//! A *reflected fault* has the guest's page fault between the two: trap, #PF prepared, its handler's exit, disarm, IRET and the touch
//! repeated. The one thing to hold in mind: every iteration checks that the page was the right one and that the access landed exactly
//! once, so a figure is never that of a fault which did not happen.

use std::time::Instant;

use kvm_ioctls::Kvm;

use crate::bench::document::Figure;
use crate::doctor::microguest::{Event, Lab, Ring, image, programs};
use crate::host::open_kvm;
use crate::inject::mechanism::{Mechanism, Notice, TrapPage, Wanted, choose};

/// Unit of all figures here.
const UNIT: &str = "ns";
/// Faults before those that count: the first ones also pay for page tables.
const WARM_UP: usize = 20;
/// A write from ring 3, in a page fault's error code.
const USER_WRITE: u32 = 1 << 1 | 1 << 2;
const PAGE_FAULT: u8 = 14;

/// Samples of the steps.
#[derive(Debug, Default)]
struct Steps {
    arm: Vec<u64>,
    trap: Vec<u64>,
    disarm: Vec<u64>,
    retry: Vec<u64>,
    reflected: Vec<u64>,
}

/// The figures of each mechanism that works here, and why the others do not.
///
/// # Errors
/// KVM failed, or a mechanism that works here did not do what it must.
pub fn measure(faults: usize) -> anyhow::Result<(Vec<Figure>, Vec<String>)> {
    let kvm = open_kvm()?;
    let (mut figures, mut remarks) = (Vec::new(), Vec::new());
    for wanted in [Wanted::Poison, Wanted::ProtNone, Wanted::ProtRead] {
        let lab = Lab::new(&kvm, Ring::Three, programs::INCREMENT)?;
        match choose(lab.ram(), wanted) {
            Err(why) => remarks.push(why.to_string()),
            Ok(mechanism) => {
                let name = mechanism.name();
                let steps = steps(&kvm, lab, mechanism.as_ref(), wanted, faults)
                    .map_err(|why| anyhow::anyhow!("{name}, in a micro-guest: {why}"))?;
                figures.extend(steps.figures(name));
            }
        }
    }
    Ok((figures, remarks))
}

impl Steps {
    fn figures(self, mechanism: &str) -> impl Iterator<Item = Figure> {
        let figure =
            |step: &str, samples| Figure::of(format!("inject/{mechanism}/{step}"), UNIT, samples, None);
        [
            figure("arm", self.arm),
            figure("trap: entry to decision", self.trap),
            figure("disarm", self.disarm),
            figure("retry: entry to next exit", self.retry),
            figure("reflected fault, complete", self.reflected),
        ]
        .into_iter()
        .flatten()
    }
}

fn steps(
    kvm: &Kvm,
    mut lab: Lab,
    mechanism: &dyn Mechanism,
    wanted: Wanted,
    faults: usize,
) -> anyhow::Result<Steps> {
    let mut steps = Steps::default();
    for fault in 0..faults.saturating_add(WARM_UP) {
        let counts = fault >= WARM_UP;
        let before = begin(&mut lab)?;
        let arm = timed(|| mechanism.arm(image::TARGET))?;
        let trap = trapped(&mut lab, mechanism)?;
        let disarm = timed(|| mechanism.disarm(image::TARGET))?;
        let retry = to(&mut lab, programs::DONE)?;
        landed_once(&lab, before)?;
        if counts {
            steps.arm.push(arm);
            steps.trap.push(trap);
            steps.disarm.push(disarm);
            steps.retry.push(retry);
        }
    }
    // The handlers' frames are left on the stack of a machine, so this has one of its own.
    drop(lab);
    let mut lab = Lab::new(kvm, Ring::Three, programs::INCREMENT)?;
    let mechanism = choose(lab.ram(), wanted)?;
    for fault in 0..faults.saturating_add(WARM_UP) {
        let before = begin(&mut lab)?;
        mechanism.arm(image::TARGET)?;
        let trap = trapped(&mut lab, mechanism.as_ref())?;
        let prepare = timed(|| lab.inject_page_fault(image::TARGET, USER_WRITE))?;
        let (delivered, event) = next(&mut lab)?;
        match event {
            Event::Vector(trap) if trap.vector == PAGE_FAULT && trap.cr2 == image::TARGET => {}
            other => anyhow::bail!("the injected page fault did not arrive, but {other:?}"),
        }
        let disarm = timed(|| mechanism.disarm(image::TARGET))?;
        let retry = to(&mut lab, programs::DONE)?;
        landed_once(&lab, before)?;
        if fault >= WARM_UP {
            let parts = [trap, prepare, delivered, disarm, retry];
            steps.reflected.push(parts.into_iter().fold(0, u64::saturating_add));
        }
    }
    Ok(steps)
}

/// Puts the program back to its start; says what the word is.
fn begin(lab: &mut Lab) -> anyhow::Result<u64> {
    // The exit of the last turn is completed first, or it would be in the midst of this one.
    lab.finish()?;
    lab.set_registers(&lab.start_registers())?;
    Ok(lab.read(image::TARGET)?)
}

fn landed_once(lab: &Lab, before: u64) -> anyhow::Result<()> {
    match lab.read(image::TARGET)?.wrapping_sub(before) {
        1 => Ok(()),
        times => anyhow::bail!("an access landed {times} times instead of once"),
    }
}

/// Runs to the trap; from the entry to where the page is known.
fn trapped(lab: &mut Lab, mechanism: &dyn Mechanism) -> anyhow::Result<u64> {
    let (ran, event) = next(lab)?;
    let notice = match event {
        Event::Gone { hva } => Notice::BusError { hva },
        Event::Fault { gpa } => Notice::RunFailed { gpa },
        other => anyhow::bail!("a page that is away was touched, and what came was {other:?}"),
    };
    let start = Instant::now();
    let page = mechanism.trapped(notice);
    let decided = nanoseconds(start);
    match page {
        // Where there is no address, the only page that is away is meant.
        TrapPage::Known(image::TARGET) | TrapPage::Unknown => Ok(ran.saturating_add(decided)),
        other => anyhow::bail!("a touch of the page at {:#x} was taken for {other:?}", image::TARGET),
    }
}

/// Runs to this port.
fn to(lab: &mut Lab, port: u16) -> anyhow::Result<u64> {
    match next(lab)? {
        (ran, Event::Port { port: there, .. }) if there == port => Ok(ran),
        (_, other) => anyhow::bail!("the program should have come to its end, and what came was {other:?}"),
    }
}

/// Runs to the next exit; how long KVM_RUN took, and what it was.
fn next(lab: &mut Lab) -> anyhow::Result<(u64, Event)> {
    let (exit, took) = lab.run_timed(0)?;
    let event = lab.event_of(0, exit)?;
    Ok((u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), event))
}

fn timed<E>(step: impl FnOnce() -> Result<(), E>) -> Result<u64, E> {
    let start = Instant::now();
    step()?;
    Ok(nanoseconds(start))
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_mechanism_is_measured() {
        if open_kvm().is_err() {
            eprintln!("skipped: no usable /dev/kvm");
            return;
        }
        let (figures, remarks) = measure(5).unwrap();
        assert_eq!(figures.len() + remarks.len() * 5, 15, "{figures:?} {remarks:?}");
        for figure in &figures {
            assert_eq!((figure.n, figure.unit), (5, "ns"), "{figure:?}");
            // Nothing of this is done in less than ten cycles.
            assert!(figure.min > 3, "{figure:?}");
        }
    }
}
