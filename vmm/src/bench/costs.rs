//! What operations cost: ring-0 instructions of all processes involved, messages and copies, under each policy.
//!
//! Each policy has a machine of its own, in which `sys_costs` performs the operations and the monitor steps through the
//! kernel ([`crate::vcpu::measure`]). The one thing to hold in mind: these are counts. They are the same on every host and
//! on a busy one, so they can be asserted; what they leave out is ring 3 and the price of an instruction.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use refault_abi::doorbell::Measured;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::document::Figure;
use super::samples::{Operation, Sample, join};
use crate::cli::report;
use crate::guest_image;
use crate::mkfs;
use crate::vm::config::{Console, Disk};
use crate::vm::console::Capture;
use crate::vm::{Config, End, Vm};

/// A policy that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Its name in tables.
    pub name: &'static str,
    /// Words of the guest's command line.
    pub words: &'static str,
}

/// The default policy.
pub const HARDENED: Policy = Policy { name: "hardened", words: "retry=hardened" };
/// The default policy, with VFS lending without CPF_TRY: for comparison, without faults.
pub const TRY_OFF: Policy = Policy { name: "hardened, try=off", words: "retry=hardened try=off" };

/// All of them, the default one first.
pub const POLICIES: [Policy; 5] = [
    HARDENED,
    TRY_OFF,
    Policy { name: "mark", words: "retry=mark" },
    Policy { name: "efault", words: "retry=efault" },
    Policy { name: "faithful", words: "mode=faithful" },
];

/// A faulted read must not cost more than this many clean ones.
pub const FAULTED_MAX: f64 = 2.5;
/// CPF_TRY must not change the cost of a clean read by more than this part of it.
pub const TRY_MAX: f64 = 0.01;
/// Most samples of one operation that `sys_costs` takes.
pub const SAMPLES_MAX: u32 = 15;
/// Time allowed to one machine: a hundred thousand steps, on a host where each takes a tenth of a millisecond, and then some.
const LIMIT: Duration = Duration::from_secs(600);

/// The faulted reads for which [`FAULTED_MAX`] holds: the page that is absent is in VM's cache, or needs none. One that
/// VM must first have the file system bring in is a second operation.
pub const BOUNDED: [Measured; 2] = [Measured::ReadFaultMapped, Measured::ReadFaultAnonymous];

/// What a policy's operations cost.
#[derive(Debug, Clone)]
pub struct Costs {
    /// The policy.
    pub policy: Policy,
    /// Its operations, in the order of their numbers.
    pub operations: Vec<Operation>,
}

impl Costs {
    /// One of its operations.
    pub fn of(&self, what: Measured) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == what as u32)
    }

    /// Ring-0 instructions of an operation's least sample.
    pub fn instructions(&self, what: Measured) -> Option<u64> {
        Some(self.of(what)?.least()?.instructions)
    }
}

/// The clean operation that another one is compared with, in the same machine.
pub fn clean(what: Measured) -> Option<Measured> {
    match what {
        Measured::ReadFaultMapped | Measured::ReadFaultFile | Measured::ReadFaultAnonymous => {
            Some(Measured::Read)
        }
        Measured::WriteFaultMapped => Some(Measured::Write),
        _ => None,
    }
}

/// A comparison with what is allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// What is compared.
    pub what: String,
    /// The first divided by the second.
    pub ratio: f64,
    /// Whether it is within its bound.
    pub holds: bool,
    /// The bound, in words.
    pub bound: String,
}

/// The comparisons that have bounds; those of machines that were not measured are missing.
pub fn ratios(all: &[Costs]) -> Vec<Ratio> {
    let of = |policy: Policy| all.iter().find(|costs| costs.policy == policy);
    let divided = |a: Option<u64>, b: Option<u64>| Some(a? as f64 / b.filter(|b| *b != 0)? as f64);
    let clean_read = of(HARDENED).and_then(|costs| costs.instructions(Measured::Read));
    let mut ratios = Vec::new();
    for what in BOUNDED {
        let faulted = of(HARDENED).and_then(|costs| costs.of(what));
        let instructions = faulted.and_then(|operation| Some(operation.least()?.instructions));
        if let (Some(operation), Some(ratio)) = (faulted, divided(instructions, clean_read)) {
            ratios.push(Ratio {
                what: format!("{} / clean", operation.name),
                ratio,
                holds: ratio <= FAULTED_MAX,
                bound: format!("at most {FAULTED_MAX}"),
            });
        }
    }
    let without = of(TRY_OFF).and_then(|costs| costs.instructions(Measured::Read));
    if let Some(ratio) = divided(clean_read, without) {
        ratios.push(Ratio {
            what: "clean read with CPF_TRY / without".into(),
            ratio,
            holds: (ratio - 1.0).abs() <= TRY_MAX,
            bound: format!("1 to within {TRY_MAX}"),
        });
    }
    ratios
}

/// The figures of everything that was measured.
pub fn figures(all: &[Costs]) -> Vec<Figure> {
    /// A unit's name, and a sample's figure in it.
    type Unit = (&'static str, fn(&Sample) -> u64);
    /// What a sample is asked for, in the order of a document.
    const UNITS: [Unit; 5] = [
        ("ring-0 instructions", |sample| sample.instructions),
        ("kernel entries", |sample| sample.kernel_entries),
        ("messages", |sample| sample.messages),
        ("copies", |sample| sample.copies),
        ("bytes copied", |sample| sample.copy_bytes),
    ];
    let mut figures = Vec::new();
    for costs in all {
        for operation in &costs.operations {
            let compared = Measured::ALL
                .iter()
                .find(|(what, _)| *what as u32 == operation.id)
                .and_then(|(what, _)| costs.of(clean(*what)?));
            for (unit, of) in UNITS {
                let name = format!("costs/{}/{}", costs.policy.name, operation.name);
                let values = |operation: &Operation| operation.samples.iter().map(of).collect();
                let baseline = compared
                    .and_then(|clean| Figure::of(String::new(), unit, values(clean), None))
                    .map(|clean| clean.p50);
                figures.extend(Figure::of(name, unit, values(operation), baseline));
            }
        }
    }
    figures
}

/// Measures `policies`, each in a machine of its own, with this many samples of each operation.
///
/// # Errors
/// A disk or a machine could not be made, or a guest did not do all of it; says which.
pub async fn measure(policies: &[Policy], samples: u32) -> anyhow::Result<Vec<Costs>> {
    let directory = tempfile::tempdir()?;
    let master = directory.path().join("costs.img");
    mkfs::make_demo_image(&master, false)?;
    // More machines at once than processors would only make each of them slower.
    let slots = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));
    // A set, so that machines end with the future that waits for them.
    let mut tasks = JoinSet::new();
    for (index, policy) in policies.iter().copied().enumerate() {
        let disk = directory.path().join(format!("costs-{index}.img"));
        std::fs::copy(&master, &disk)?;
        let slots = slots.clone();
        tasks.spawn(async move {
            let _slot = slots.acquire().await;
            anyhow::Ok((index, one(policy, samples, &disk).await?))
        });
    }
    let mut all = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (index, costs) = done??;
        all.insert(index, costs);
    }
    Ok(all.into_values().collect())
}

async fn one(policy: Policy, samples: u32, disk: &Path) -> anyhow::Result<Costs> {
    let capture = Capture::default();
    let config = Config {
        image: Some(Arc::from(guest_image::BOOT_IMAGE)),
        command_line: format!("measure=on {}", policy.words),
        program: vec!["sys_costs".into(), samples.to_string()],
        disks: vec![Disk::new(disk)],
        console: Console { output: Box::new(capture.clone()), input: None },
        timeout: Some(LIMIT),
        ..Config::new(guest_image::KERNEL)
    };
    let outcome = Vm::start(config)?.run().await;
    let console = capture.text();
    if outcome.end != End::Exited(0) {
        let last = console.lines().rev().find(|line| !line.starts_with('@')).unwrap_or_default();
        anyhow::bail!("{}: {}; its last words: {last}", policy.name, report::describe(&outcome.end).2);
    }
    let operations =
        join(&console, &outcome.stats.costs).map_err(|why| anyhow::anyhow!("{}: {why}", policy.name))?;
    Ok(Costs { policy, operations })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(policy: Policy, figures: &[(Measured, u64)]) -> Costs {
        let operation = |&(what, instructions): &(Measured, u64)| {
            let name = Measured::ALL[what as usize].1;
            let sample = Sample {
                instructions,
                kernel_entries: 1,
                messages: 2,
                copies: 1,
                copy_bytes: 4096,
                faults: 0,
                repeats: 0,
            };
            Operation { id: what as u32, name, samples: vec![sample] }
        };
        Costs { policy, operations: figures.iter().map(operation).collect() }
    }

    #[test]
    fn bounds() {
        let read = Measured::Read;
        let all = [
            costs(
                HARDENED,
                &[(read, 1000), (Measured::ReadFaultMapped, 2500), (Measured::ReadFaultAnonymous, 2501)],
            ),
            costs(TRY_OFF, &[(read, 990)]),
        ];
        let ratios = ratios(&all);
        assert_eq!(ratios.iter().map(|ratio| ratio.holds).collect::<Vec<_>>(), [true, false, false]);
        assert!((ratios[2].ratio - 1.0101).abs() < 1e-4);
        assert_eq!(super::ratios(&all[1..]), []);
    }

    #[test]
    fn figures_have_their_clean_operation_as_baseline() {
        let all = [costs(HARDENED, &[(Measured::Read, 1000), (Measured::ReadFaultMapped, 2500)])];
        let figures = figures(&all);
        assert_eq!(figures.len(), 10);
        assert_eq!((figures[0].p50, figures[0].baseline), (1000, None));
        assert_eq!(
            (figures[5].p50, figures[5].baseline, figures[5].unit),
            (2500, Some(1000), "ring-0 instructions")
        );
        assert!(figures[5].name.starts_with("costs/hardened/read, buffer page absent"));
    }

    #[test]
    fn policies_are_words_the_guest_knows() {
        for policy in POLICIES {
            refault_abi::options::Options::parse(policy.words).unwrap();
        }
    }
}
