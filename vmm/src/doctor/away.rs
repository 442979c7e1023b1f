//! Taking a page away and observing what its next touch looks like; giving the guest a page fault for it.
//!
//! Arming is done by the code that the injector uses, so what is observed here is what will happen there. Each
//! probe ends with the page back, and checks that the stopped access then lands exactly once.

use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;

use crate::inject::mechanism::{Mechanism, Wanted, choose};

use super::finding::{Fact, Finding};
use super::microguest::{Event, Lab, LabError, Ring, Trap, image, programs};
use super::traps::words;

const BEFORE: u64 = 41;
const PAGE_FAULT: u8 = 14;
const FAULT_WRITE: u32 = 1 << 1;
const FAULT_USER: u32 = 1 << 2;
const RFLAGS_IF: u64 = 1 << 9;
/// How long a write may take that is known to come back never on some hosts.
const STUCK_LIMIT: Duration = Duration::from_millis(500);

/// A lab whose page under test is away.
struct Armed {
    lab: Lab,
    mechanism: Box<dyn Mechanism>,
    arm_us: f64,
}

/// Why a probe ended early: a finding to report, or an error of the harness.
enum Early {
    Report(Finding),
    Lab(LabError),
}

impl From<LabError> for Early {
    fn from(error: LabError) -> Self {
        Early::Lab(error)
    }
}

type Step<T> = Result<T, Early>;

fn settle(result: Step<Finding>) -> Result<Finding, LabError> {
    match result {
        Ok(finding) | Err(Early::Report(finding)) => Ok(finding),
        Err(Early::Lab(error)) => Err(error),
    }
}

fn armed(kvm: &Kvm, ring: Ring, program: &[u8], wanted: Wanted) -> Step<Armed> {
    let lab = Lab::new(kvm, ring, program)?;
    lab.write(image::TARGET, &BEFORE.to_le_bytes())?;
    let mechanism = choose(lab.ram(), wanted).map_err(|e| Early::Report(cannot_arm(&e.to_string())))?;
    let start = Instant::now();
    mechanism
        .arm(image::TARGET)
        .map_err(|e| Early::Report(Finding::missing(format!("arming a page failed: {e}"))))?;
    let arm_us = start.elapsed().as_secs_f64() * 1e6;
    Ok(Armed { lab, mechanism, arm_us })
}

/// The reason without the remedies that may follow it: those are the userfaultfd probe's to give.
fn cannot_arm(reason: &str) -> Finding {
    let (reason, _) = reason.split_once(". ").unwrap_or((reason, ""));
    Finding::missing(reason)
}

impl Armed {
    fn disarm(&self) -> Step<()> {
        self.mechanism
            .disarm(image::TARGET)
            .map_err(|e| Early::Report(Finding::missing(format!("disarming the page failed: {e}"))))
    }

    /// Lets the program go on with the page back; it has to reach its end.
    fn completes(&mut self) -> Step<()> {
        self.disarm()?;
        match self.lab.run()? {
            Event::Port { port: programs::DONE, .. } => Ok(()),
            other => Err(Early::Report(Finding::missing(format!(
                "after the disarm the access did not complete: {}",
                words(other)
            )))),
        }
    }

    /// Checks what [`programs::INCREMENT`] left behind.
    fn landed_once(&self) -> Step<()> {
        let now = self.lab.read(image::TARGET)?;
        match now.wrapping_sub(BEFORE) {
            1 => Ok(()),
            times => Err(Early::Report(Finding::missing(format!(
                "after the disarm the access landed {times} times instead of once"
            )))),
        }
    }

    /// Checks what [`programs::LOAD`] loaded.
    fn loaded(&self) -> Step<()> {
        match self.lab.registers()?.rax {
            BEFORE => Ok(()),
            other => Err(Early::Report(Finding::missing(format!(
                "after the disarm the load gave {other:#x} instead of {BEFORE:#x}"
            )))),
        }
    }

    fn is_target(&self, hva: u64) -> Step<bool> {
        Ok(hva & !0xfff == self.lab.target_hva()?)
    }
}

/// Probe: UFFDIO_POISON, touched from ring 3.
pub fn poison_ring3(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(poison_from_ring3(kvm))
}

fn poison_from_ring3(kvm: &Kvm) -> Step<Finding> {
    let mut armed = armed(kvm, Ring::Three, programs::INCREMENT, Wanted::Poison)?;
    let start = Instant::now();
    let event = armed.lab.run()?;
    let trap_us = start.elapsed().as_secs_f64() * 1e6;
    let Event::Gone { hva } = event else { return Ok(no_trap(event)) };
    if !armed.is_target(hva)? {
        return Ok(Finding::missing(format!("SIGBUS, but for the wrong address {hva:#x}")));
    }
    armed.completes()?;
    armed.landed_once()?;
    let detail = format!(
        "SIGBUS with the exact address, access lands once after the disarm (arm {:.0} µs, trap {trap_us:.0} µs)",
        armed.arm_us
    );
    Ok(Finding::ok(detail).knowing(Fact::Poison))
}

/// Probe: UFFDIO_POISON, touched from ring 0.
pub fn poison_ring0(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(poison_from_ring0(kvm))
}

fn poison_from_ring0(kvm: &Kvm) -> Step<Finding> {
    let mut load = armed(kvm, Ring::Zero, programs::LOAD, Wanted::Poison)?;
    match load.lab.run()? {
        Event::Gone { hva } if load.is_target(hva)? => {
            load.completes()?;
            load.loaded()?;
            Ok(Finding::ok("SIGBUS with the exact address, as from ring 3"))
        }
        Event::MmioRead { gpa: image::TARGET, .. } => {
            load.lab.answer(&BEFORE.to_le_bytes())?;
            load.completes()?;
            load.loaded()?;
            store_through_mmio(kvm)?;
            Ok(Finding::limited(
                "arrives as an MMIO exit on RAM, with the exact address; loads and stores are completed by hand",
            ))
        }
        other => Ok(no_trap(other)),
    }
}

/// On an interpreting host a store has already retired when it arrives; its bytes have to be put in place.
fn store_through_mmio(kvm: &Kvm) -> Step<()> {
    let mut store = armed(kvm, Ring::Zero, programs::STORE, Wanted::Poison)?;
    let regs = kvm_bindings::kvm_regs { rax: BEFORE + 1, ..store.lab.start_registers() };
    store.lab.set_registers(&regs)?;
    let event = store.lab.run()?;
    let Event::MmioWrite { gpa: image::TARGET, len, data } = event else {
        return Err(Early::Report(no_trap(event)));
    };
    store.lab.write(image::TARGET, data.get(..len).unwrap_or(&data))?;
    store.completes()?;
    store.landed_once()
}

fn no_trap(event: Event) -> Finding {
    Finding::missing(format!("no usable trap: {}", words(event)))
}

/// Probe: PROT_NONE, touched from ring 3.
pub fn prot_none(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(prot_none_from_ring3(kvm))
}

fn prot_none_from_ring3(kvm: &Kvm) -> Step<Finding> {
    let mut armed = armed(kvm, Ring::Three, programs::INCREMENT, Wanted::ProtNone)?;
    let event = armed.lab.run()?;
    let Event::Fault { gpa } = event else { return Ok(no_trap(event)) };
    armed.completes()?;
    armed.landed_once()?;
    let finding = match gpa {
        Some(gpa) if gpa & !0xfff == image::TARGET => Finding::ok("EFAULT with the exact address"),
        Some(gpa) => Finding::limited(format!("EFAULT, but with the wrong address {gpa:#x}")),
        None => Finding::limited("EFAULT without an address: the stopped instruction has to tell the page"),
    };
    Ok(finding.knowing(Fact::ProtNone))
}

/// Probe: PROT_READ, read and written from ring 3.
pub fn prot_read(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(prot_read_from_ring3(kvm))
}

fn prot_read_from_ring3(kvm: &Kvm) -> Step<Finding> {
    reads_go_on(kvm, Wanted::ProtRead)?;
    let mut armed = armed(kvm, Ring::Three, programs::INCREMENT, Wanted::ProtRead)?;
    let event = armed.lab.run()?;
    let Event::Fault { gpa } = event else { return Ok(no_trap(event)) };
    armed.completes()?;
    armed.landed_once()?;
    let address = match gpa {
        Some(_) => "with an address",
        None => "without an address: the stopped instruction has to tell the page",
    };
    Ok(Finding::ok(format!("reads go on, writes stop by EFAULT {address}")).knowing(Fact::ProtRead))
}

/// Probe: UFFDIO_WRITEPROTECT, written from ring 3 with interrupts on.
pub fn write_protect(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(write_protect_from_ring3(kvm))
}

fn write_protect_from_ring3(kvm: &Kvm) -> Step<Finding> {
    reads_go_on(kvm, Wanted::WriteProtect)?;
    let mut armed = armed(kvm, Ring::Three, programs::INCREMENT, Wanted::WriteProtect)?;
    let start = armed.lab.start_registers();
    armed.lab.set_registers(&kvm_bindings::kvm_regs { rflags: start.rflags | RFLAGS_IF, ..start })?;
    armed.lab.limit = STUCK_LIMIT;
    let event = armed.lab.run()?;
    if event == Event::Stuck {
        return Ok(Finding::limited(
            "a write never comes back from KVM_RUN with interrupts on; only by --mechanism writeprotect, never by itself",
        ));
    }
    if !matches!(event, Event::Fault { .. } | Event::Gone { .. }) {
        return Ok(no_trap(event));
    }
    armed.completes()?;
    armed.landed_once()?;
    Ok(Finding::ok("reads go on, writes stop; used only by --mechanism writeprotect"))
}

/// Checks that a page of which only writes stop can be read.
fn reads_go_on(kvm: &Kvm, wanted: Wanted) -> Step<()> {
    let mut load = armed(kvm, Ring::Three, programs::LOAD, wanted)?;
    match load.lab.run()? {
        Event::Port { port: programs::DONE, .. } => load.loaded(),
        other => Err(Early::Report(Finding::missing(format!("a read stopped too: {}", words(other))))),
    }
}

/// Probe: a trap of ring 3 becomes a page fault of the guest.
pub fn reflect_ring3(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(reflect_to(kvm, Ring::Three))
}

/// Probe: a trap of ring 0 becomes a page fault of the guest.
pub fn reflect_ring0(kvm: &Kvm) -> Result<Finding, LabError> {
    settle(reflect_to(kvm, Ring::Zero))
}

fn reflect_to(kvm: &Kvm, ring: Ring) -> Step<Finding> {
    let (program, error, from) = match ring {
        Ring::Three => (programs::INCREMENT, FAULT_WRITE | FAULT_USER, 3),
        Ring::Zero => (programs::LOAD, 0, 0),
    };
    let mut armed = armed(kvm, ring, program, Wanted::Best)?;
    let how = match armed.lab.run()? {
        Event::Gone { .. } | Event::Fault { .. } => "",
        Event::MmioRead { gpa: image::TARGET, .. } => {
            take_back_the_load(&mut armed.lab)?;
            " (the interpreted load is taken back first)"
        }
        other => return Ok(no_trap(other)),
    };
    armed.lab.inject_page_fault(image::TARGET, error)?;
    let event = armed.lab.run()?;
    let wanted = Trap {
        vector: PAGE_FAULT,
        error: Some(u64::from(error)),
        rip: image::PROGRAM,
        from,
        cpl: 0,
        cr2: image::TARGET,
    };
    if event != Event::Vector(wanted) {
        return Ok(Finding::missing(format!("the injected #PF did not arrive: {}", words(event))));
    }
    armed.completes()?;
    match ring {
        Ring::Three => armed.landed_once()?,
        Ring::Zero => armed.loaded()?,
    }
    let finding =
        Finding::ok(format!("#PF arrives with its CR2 and error code, the access is repeated once{how}"));
    Ok(match ring {
        Ring::Three => finding.knowing(Fact::Reflect),
        Ring::Zero => finding,
    })
}

/// Finishes an interpreted load with a false value and puts the registers back to before it.
fn take_back_the_load(lab: &mut Lab) -> Step<()> {
    let before = lab.registers()?;
    lab.answer(&[0; 8])?;
    lab.finish()?;
    lab.set_registers(&before)?;
    Ok(())
}
