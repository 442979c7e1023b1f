//! What operations cost: the bounds that a fault and CPF_TRY must keep, and the document that says so.
//!
//! The one thing to hold in mind: these are counts of instructions, not times, so they are asserted on every host and on a
//! busy one. What may differ from sample to sample is whether the scheduler had a reason to look around, which is why the
//! least of several samples is compared.

mod common;

use std::process::ExitCode;

use common::Suite;
use common::command::refault;
use refault::bench::costs::{self, Costs, HARDENED, POLICIES, TRY_OFF};
use refault::bench::samples::Sample;
use refault_abi::doorbell::Measured;

/// Samples of each operation where bounds are asserted.
const SAMPLES: u32 = 5;

fn main() -> ExitCode {
    let mut suite = Suite::new("costs");
    suite.host("a_benchmark_that_is_none", a_benchmark_that_is_none);
    suite.kvm("faults_and_try_keep_their_bounds", faults_and_try_keep_their_bounds);
    suite.kvm("the_document_has_every_policy", the_document_has_every_policy);
    suite.run()
}

fn a_benchmark_that_is_none() {
    let said = refault(["bench", "nonesuch"]);
    assert_eq!(said.code, Some(160), "{}", said.all());
    assert!(said.err.contains("nonesuch") && said.err.contains("costs"), "{}", said.err);
}

fn faults_and_try_keep_their_bounds() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let all = runtime.block_on(costs::measure(&[HARDENED, TRY_OFF], SAMPLES)).unwrap();
    let ratios = costs::ratios(&all);
    // Both faulted reads, and the read with and without CPF_TRY.
    assert_eq!(ratios.len(), 3, "{ratios:?}");
    for ratio in &ratios {
        assert!(ratio.holds, "{}: {:.3}, must be {}", ratio.what, ratio.ratio, ratio.bound);
        // A fault that costs nothing has not happened.
        assert!(ratio.ratio > 0.9, "{ratio:?}");
    }

    let [hardened, without] = all.as_slice() else { panic!("{all:?}") };
    let clean = least(hardened, Measured::Read);
    // To VFS, to the file system, and back; one copy.
    assert_eq!((clean.messages, clean.copies, clean.copy_bytes), (4, 1, 4096), "{clean:?}");
    assert_eq!((clean.faults, clean.repeats), (0, 0));
    for what in costs::BOUNDED {
        let faulted = least(hardened, what);
        assert_eq!((faulted.faults, faulted.repeats), (1, 1), "{faulted:?}");
        // Both attempts, and what moved is counted once.
        assert_eq!((faulted.copies, faulted.copy_bytes), (2, 4096), "{faulted:?}");
        assert!(faulted.instructions > clean.instructions && faulted.messages > clean.messages);
        // Without CPF_TRY that read has no end.
        assert!(without.of(what).is_none());
    }
    let same = least(without, Measured::Read);
    assert_eq!((same.messages, same.kernel_entries), (clean.messages, clean.kernel_entries));
}

fn least(costs: &Costs, what: Measured) -> Sample {
    let operation = costs.of(what).unwrap_or_else(|| panic!("{what:?} was not measured"));
    assert!(operation.samples.len() >= SAMPLES as usize, "{operation:?}");
    *operation.least().unwrap()
}

fn the_document_has_every_policy() {
    let said = refault(["bench", "costs", "--samples", "1", "--json", "-"]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["schema"], "refault.bench/1");
    assert!(document["host"]["mechanism"].is_string(), "{}", document["host"]);
    let results = document["results"].as_array().unwrap();
    for policy in POLICIES {
        let name = format!("costs/{}/{}", policy.name, Measured::ALL[Measured::Read as usize].1);
        let of = |unit: &str| {
            let found = results.iter().find(|r| r["name"] == name.as_str() && r["unit"] == unit);
            found.unwrap_or_else(|| panic!("no {unit} of {name}")).clone()
        };
        let instructions = of("ring-0 instructions");
        for key in ["n", "min", "p50", "p90", "p99", "p999", "max"] {
            assert!(instructions[key].as_u64().is_some_and(|n| n > 0), "{key}: {instructions}");
        }
        assert!(instructions["baseline"].is_null());
        assert_eq!((of("messages")["p50"].as_u64(), of("copies")["p50"].as_u64()), (Some(4), Some(1)));
    }
    let faulted = Measured::ALL[Measured::ReadFaultMapped as usize].1;
    let with_baseline = results.iter().filter(|r| r["name"].as_str().unwrap().ends_with(faulted));
    assert!(with_baseline.clone().count() > 0 && with_baseline.clone().all(|r| r["baseline"].is_u64()));
    // The tables went where the document did not.
    assert!(said.err.contains("policy: faithful") && said.err.contains("at most 2.5"), "{}", said.err);
}
