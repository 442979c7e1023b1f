//! How the guest's instructions are carried out: speed, clock, processors, features.
//!
//! The one thing to hold in mind: times are compared with limits two orders of magnitude away, so a busy
//! machine does not change a verdict.

use std::time::Duration;

use kvm_bindings::{
    KVM_CAP_NR_VCPUS, KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_RUNNABLE, kvm_cpuid_entry2, kvm_mp_state,
};
use kvm_ioctls::{Cap, Kvm};

use super::finding::{Fact, Finding};
use super::microguest::{Event, Lab, LabError, Ring, image, kvm_error, programs};
use super::uses::Ring0;
use crate::vcpu::exit::Exit;

/// A measurement is long enough from here on: a hundred exits.
const LONG_ENOUGH: Duration = Duration::from_millis(3);
const MAX_TURNS: u64 = 1 << 30;
/// The best of this many is taken: a busy machine makes single ones worse, never better.
const REPEATS: u32 = 3;

/// Nanoseconds per turn of a counting program, without what one run costs.
pub fn nanoseconds_per_turn(lab: &mut Lab) -> Result<f64, LabError> {
    let empty = fastest(lab, 1)?;
    let mut turns = 256;
    loop {
        let whole = fastest(lab, turns)?;
        if whole >= LONG_ENOUGH || turns >= MAX_TURNS {
            return Ok(whole.saturating_sub(empty).as_secs_f64() * 1e9 / (turns - 1) as f64);
        }
        turns *= 4;
    }
}

fn fastest(lab: &mut Lab, turns: u64) -> Result<Duration, LabError> {
    let mut best = Duration::MAX;
    for _ in 0..REPEATS {
        let regs = kvm_bindings::kvm_regs { rbx: turns, ..lab.start_registers() };
        lab.set_registers(&regs)?;
        let (exit, taken) = lab.run_timed(0)?;
        if exit != Exit::Io {
            return Err(kvm_error("KVM_RUN of a counting loop")(kvm_ioctls::Error::new(libc::EIO)));
        }
        lab.finish()?;
        best = best.min(taken);
    }
    Ok(best)
}

/// Speed of a loop in `ring`, in nanoseconds per instruction.
pub fn instruction_time(kvm: &Kvm, ring: Ring) -> Result<f64, LabError> {
    const INSTRUCTIONS_PER_TURN: f64 = 2.0;
    let mut lab = Lab::new(kvm, ring, programs::COUNT)?;
    Ok(nanoseconds_per_turn(&mut lab)? / INSTRUCTIONS_PER_TURN)
}

fn speed(ns: f64) -> String {
    let per_us = 1000.0 / ns.max(0.001);
    let rate = if per_us < 10.0 { format!("{per_us:.2}") } else { format!("{per_us:.0}") };
    format!("{ns:.2} ns per instruction ({rate} instructions/µs)")
}

/// Probe: speed in ring 0.
pub fn ring0(kvm: &Kvm) -> Result<Finding, LabError> {
    let ns = instruction_time(kvm, Ring::Zero)?;
    Ok(ring0_finding(ns))
}

fn ring0_finding(ns: f64) -> Finding {
    let class = Ring0::of(Some(ns));
    let detail = format!("{}: {}", class.name(), speed(ns));
    let finding = match class {
        Ring0::Native => Finding::ok(detail),
        _ => Finding::limited(detail).advise(
            "this KVM interprets guest kernel code; everything works, but figures of kernel time mean \
             nothing here. Use a host with VT-x or SVM for measurements",
        ),
    };
    finding.knowing(Fact::Ring0(ns))
}

/// Probe: speed in ring 3.
pub fn ring3(kvm: &Kvm) -> Result<Finding, LabError> {
    let ns = instruction_time(kvm, Ring::Three)?;
    let detail = format!("{}: {}", Ring0::of(Some(ns)).name(), speed(ns));
    Ok(match Ring0::of(Some(ns)) {
        Ring0::Interpreted => Finding::limited(detail).advise("guest programs run slowly on this host"),
        _ => Finding::ok(detail),
    })
}

/// Probe: the time-stamp counter advances evenly, and at the frequency that KVM states.
pub fn tsc(kvm: &Kvm) -> Result<Finding, LabError> {
    const TURNS: u64 = 10_000_000;
    let mut lab = Lab::new(kvm, Ring::Three, programs::TIMESTAMPS)?;
    let stated = lab.cpu()?.get_tsc_khz().ok();
    let mut seen: f64 = 0.0;
    for _ in 0..REPEATS {
        let regs = kvm_bindings::kvm_regs { rbx: TURNS, ..lab.start_registers() };
        lab.set_registers(&regs)?;
        let (exit, taken) = lab.run_timed(0)?;
        if exit != Exit::Io {
            return Ok(Finding::missing(format!("RDTSC in the guest ended in {exit:?}")));
        }
        let after = lab.registers()?;
        let ticks = after.rax.wrapping_sub(after.r8);
        // Time lost between the guest's readings and ours only ever lowers the figure.
        seen = seen.max(ticks as f64 / taken.as_secs_f64() / 1000.0);
        lab.finish()?;
    }
    Ok(tsc_finding(seen, stated))
}

/// A busy machine may still have taken time away each time, so only a rough agreement is asked for.
fn tsc_finding(seen_khz: f64, stated_khz: Option<u32>) -> Finding {
    let seen = seen_khz / 1000.0;
    match stated_khz {
        Some(khz) if (seen_khz / f64::from(khz) - 1.0).abs() < 0.1 => {
            Finding::ok(format!("{:.1} MHz stated, {seen:.1} MHz seen", f64::from(khz) / 1000.0))
        }
        Some(khz) => Finding::limited(format!(
            "{:.1} MHz stated, but {seen:.1} MHz seen: cycle counts are no times here",
            f64::from(khz) / 1000.0
        )),
        None => Finding::limited(format!("no frequency stated, {seen:.1} MHz seen")),
    }
}

/// Probe: a second processor runs.
pub fn processors(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::with_cpus(kvm, Ring::Three, programs::NOTHING, 2)?;
    if let Some(second) = lab.cpus.get(1) {
        // With an in-kernel interrupt controller all but the first wait to be started.
        let _ = second.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE });
    }
    let most = kvm.check_extension_int(Cap::MaxVcpus);
    let advised = kvm.check_extension_raw(u64::from(KVM_CAP_NR_VCPUS));
    let both = [lab.run_cpu(0)?, lab.run_cpu(1)?];
    let done = Event::Port { port: programs::DONE, cpl: 3 };
    Ok(match both {
        [first, second] if first == done && second == done => {
            Finding::ok(format!("two ran; {advised} advised, {most} at most"))
        }
        [_, second] => Finding::limited(format!("the second processor came back with {second:?}"))
            .advise("use --cpus 1 on this host"),
    })
}

/// Probe: a page marked no-execute is not executed.
pub fn no_execute(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = Lab::new(kvm, Ring::Three, programs::CALL)?;
    lab.write(image::TARGET, programs::RETURN)?;
    lab.write(image::target_entry(), &image::no_execute_entry().to_le_bytes())?;
    Ok(match lab.run()? {
        Event::Vector(trap) if trap.vector == 14 => {
            Finding::ok(format!("fetch refused: #PF, error {:#x}", trap.error.unwrap_or(0)))
        }
        Event::Port { .. } => Finding::limited("the page was executed all the same"),
        other => Finding::limited(format!("the fetch ended in {other:?}")),
    })
}

/// A feature that is worth knowing about: name, leaf, sub-leaf, register, bit.
type Feature = (&'static str, u32, u32, fn(&kvm_cpuid_entry2) -> u32, u32);

const FEATURES: [Feature; 10] = [
    ("SMEP", 7, 0, |e| e.ebx, 7),
    ("SMAP", 7, 0, |e| e.ebx, 20),
    ("NX", 0x8000_0001, 0, |e| e.edx, 20),
    ("1GiB-pages", 0x8000_0001, 0, |e| e.edx, 26),
    ("x2APIC", 1, 0, |e| e.ecx, 21),
    ("TSC-deadline", 1, 0, |e| e.ecx, 24),
    ("FSGSBASE", 7, 0, |e| e.ebx, 0),
    ("PCID", 1, 0, |e| e.ecx, 17),
    ("RDTSCP", 0x8000_0001, 0, |e| e.edx, 27),
    ("invariant-TSC", 0x8000_0007, 0, |e| e.edx, 8),
];

/// Probe: what CPUID a guest is given.
pub fn features(kvm: &Kvm) -> Result<Finding, LabError> {
    let offered =
        kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(kvm_error("KVM_GET_SUPPORTED_CPUID"))?;
    let (with, without) = sort_features(offered.as_slice());
    Ok(match without.is_empty() {
        true => Finding::ok(with.join(" ")),
        false => Finding::limited(format!("{}; without {}", with.join(" "), without.join(" "))),
    })
}

fn sort_features(offered: &[kvm_cpuid_entry2]) -> (Vec<&'static str>, Vec<&'static str>) {
    FEATURES
        .iter()
        .map(|&(name, leaf, sub, register, bit)| {
            let has =
                offered.iter().any(|e| e.function == leaf && e.index == sub && register(e) & 1 << bit != 0);
            (name, has)
        })
        .fold((Vec::new(), Vec::new()), |(mut with, mut without), (name, has)| {
            if has {
                with.push(name)
            } else {
                without.push(name)
            }
            (with, without)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn speeds_are_classified_and_given_in_numbers() {
        let native = ring0_finding(0.31);
        assert_eq!((native.state, native.fact), (State::Ok, Some(Fact::Ring0(0.31))));
        assert_eq!(native.detail, "native: 0.31 ns per instruction (3226 instructions/µs)");
        let slow = ring0_finding(1021.0);
        assert_eq!(slow.state, State::Limited);
        assert_eq!(slow.detail, "interpreted: 1021.00 ns per instruction (0.98 instructions/µs)");
        assert!(slow.advice.is_some());
    }

    #[test]
    fn a_clock_that_disagrees_is_limited() {
        assert_eq!(tsc_finding(2_445_100.0, Some(2_445_000)).state, State::Ok);
        assert_eq!(tsc_finding(1_000_000.0, Some(2_445_000)).state, State::Limited);
        assert_eq!(tsc_finding(1_000_000.0, None).state, State::Limited);
    }

    #[test]
    fn features_are_read_from_the_right_leaf_and_bit() {
        let offered = [
            kvm_cpuid_entry2 { function: 7, ebx: 1 << 7, ..Default::default() },
            kvm_cpuid_entry2 { function: 7, index: 1, ebx: 1 << 20, ..Default::default() },
            kvm_cpuid_entry2 { function: 0x8000_0001, edx: 1 << 20, ..Default::default() },
        ];
        let (with, without) = sort_features(&offered);
        assert_eq!(with, ["SMEP", "NX"]);
        assert!(without.contains(&"SMAP") && without.contains(&"x2APIC"));
    }
}
