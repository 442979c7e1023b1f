//! Ways from ring 3 into ring 0: which of them work decides the guest's system call instruction.

use kvm_ioctls::Kvm;

use super::cpu::nanoseconds_per_turn;
use super::finding::{Fact, Finding};
use super::microguest::{Event, Lab, LabError, Ring, Trap, image, programs};

const BREAKPOINT: u8 = 3;
const DONE_IN_RING_3: Event = Event::Port { port: programs::DONE, cpl: 3 };

/// Probe: SYSCALL enters ring 0 at the address in LSTAR, and SYSRET comes back.
pub fn syscall(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::SYSCALL)?;
    lab.enable_syscall()?;
    let entered = lab.run()?;
    if entered != (Event::Port { port: programs::ENTERED, cpl: 0 }) {
        return Ok(broken_syscall(entered));
    }
    let back = lab.run()?;
    if back != DONE_IN_RING_3 {
        return Ok(Finding::missing(format!("SYSCALL enters ring 0, but SYSRET ends in {}", words(back))));
    }
    let mut lab = Lab::new(kvm, Ring::Three, programs::SYSCALLS)?;
    lab.enable_syscall()?;
    lab.write(image::SYSCALL_TARGET, programs::QUIET_SYSCALL_ENTRY)?;
    let round_trip = nanoseconds_per_turn(&mut lab)?;
    Ok(Finding::ok(format!("there and back in {}", time(round_trip))).knowing(Fact::Syscall))
}

/// What SYSCALL did instead.
fn broken_syscall(event: Event) -> Finding {
    let detail = match event {
        Event::Vector(trap) if trap.vector == 14 && trap.cr2 == image::SYSCALL_TARGET && trap.from == 3 => {
            format!(
                "broken: goes to LSTAR but stays in ring 3, so the fetch faults (#PF, error {:#x})",
                trap.error.unwrap_or(0)
            )
        }
        other => format!("broken: {}", words(other)),
    };
    Finding::missing(detail)
}

/// Probe: INT n from ring 3.
pub fn int_n(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::INT_N)?;
    Ok(match there_and_back(&mut lab, programs::INT_N_VECTOR)? {
        Ok(()) => Finding::ok("delivered, and back"),
        Err(event) => Finding::missing(format!("INT {:#x}: {}", programs::INT_N_VECTOR, words(event))),
    })
}

/// Probe: INT3 from ring 3.
pub fn int3(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::INT3)?;
    if let Err(event) = there_and_back(&mut lab, BREAKPOINT)? {
        return Ok(Finding::missing(words(event)));
    }
    let mut lab = Lab::new(kvm, Ring::Three, programs::INT3S)?;
    let handler = image::HANDLERS + u64::from(BREAKPOINT) * image::HANDLER_SIZE;
    lab.write(handler, programs::QUIET_HANDLER)?;
    let round_trip = nanoseconds_per_turn(&mut lab)?;
    Ok(Finding::ok(format!("there and back in {}", time(round_trip))).knowing(Fact::Int3))
}

/// Ok if the handler of `vector` is entered in ring 0 and returns; else the first event that was different.
fn there_and_back(lab: &mut Lab, vector: u8) -> Result<Result<(), Event>, LabError> {
    match lab.run()? {
        Event::Vector(Trap { vector: v, cpl: 0, from: 3, .. }) if v == vector => {}
        other => return Ok(Err(other)),
    }
    let back = lab.run()?;
    Ok(if back == DONE_IN_RING_3 { Ok(()) } else { Err(back) })
}

fn time(ns: f64) -> String {
    if ns < 1000.0 { format!("{ns:.0} ns") } else { format!("{:.1} µs", ns / 1000.0) }
}

/// An event in a user's words.
pub fn words(event: Event) -> String {
    match event {
        Event::Vector(Trap { vector, error: Some(error), from, .. }) => {
            format!("exception {vector} (error {error:#x}) from ring {from}")
        }
        Event::Vector(Trap { vector, from, .. }) => format!("exception {vector} from ring {from}"),
        Event::Port { port: programs::ENTERED, cpl } => format!("the entry was reached in ring {cpl}"),
        Event::Port { cpl, .. } => format!("the program ran on in ring {cpl}"),
        Event::MmioRead { gpa, .. } => format!("an MMIO read at {gpa:#x}"),
        Event::MmioWrite { gpa, .. } => format!("an MMIO write at {gpa:#x}"),
        Event::Gone { .. } => "SIGBUS".into(),
        Event::Fault { .. } => "EFAULT".into(),
        Event::Stuck => "nothing came back (kicked)".into(),
        Event::Other(exit) => format!("exit {exit:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn a_syscall_that_stays_in_ring_3_is_named() {
        let trap = Trap {
            vector: 14,
            error: Some(0x15),
            rip: image::SYSCALL_TARGET,
            from: 3,
            cpl: 0,
            cr2: image::SYSCALL_TARGET,
        };
        let finding = broken_syscall(Event::Vector(trap));
        assert_eq!(finding.state, State::Missing);
        assert!(finding.detail.contains("stays in ring 3") && finding.detail.contains("0x15"));
        let other = broken_syscall(Event::Vector(Trap { vector: 6, error: None, ..trap }));
        assert_eq!(other.detail, "broken: exception 6 from ring 3");
    }
}
