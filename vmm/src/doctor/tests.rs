use super::uses::{Engine, Mechanism, Ring0, TrapInstruction};
use super::*;

fn sample() -> Report {
    let facts = Facts {
        kvm: true,
        ring0_ns: Some(1000.0),
        int3: true,
        poison: true,
        reflect: true,
        irqchip: true,
        ..Facts::default()
    };
    let host = Host {
        kernel: "6.12.0".into(),
        kvm_module: "kvm_amd".into(),
        nested: true,
        cpu: "Some CPU".into(),
        ring0: Ring0::of(facts.ring0_ns),
        mechanism: Uses::decide(&facts).mechanism,
    };
    let probe = |name, state, advice: Option<&str>| Probe {
        name,
        ok: state == State::Ok,
        state,
        detail: format!("detail of {name}"),
        advice: advice.map(str::to_owned),
    };
    Report {
        schema: SCHEMA,
        host,
        probes: vec![
            probe("kvm-machine", State::Ok, None),
            probe("ring0-speed", State::Limited, Some("measure elsewhere")),
            probe("syscall", State::Missing, None),
        ],
        uses: Uses::decide(&facts),
        facts,
    }
}

#[test]
fn the_document_has_its_promised_shape() {
    let json = serde_json::to_value(sample()).unwrap();
    assert_eq!(json["schema"], "refault.doctor/1");
    assert_eq!(json["host"]["ring0"], "interpreted");
    assert_eq!(json["host"]["mechanism"], "UFFDIO_POISON");
    assert_eq!(json["uses"]["mechanism"], "UFFDIO_POISON");
    assert_eq!(json["uses"]["engine"], "threads");
    assert_eq!(json["uses"]["trap_instruction"], "INT3");
    assert_eq!(json["probes"][0]["ok"], true);
    assert_eq!(json["probes"][0]["advice"], serde_json::Value::Null);
    assert_eq!(json["probes"][1]["ok"], false);
    assert_eq!(json["probes"][1]["state"], "limited");
    assert_eq!(json["probes"][1]["advice"], "measure elsewhere");
    assert!(json.get("facts").is_none());
}

#[test]
fn the_table_is_aligned_and_ends_in_advice() {
    let text = render::text(&sample());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "kvm-machine  ok       detail of kvm-machine");
    assert_eq!(lines[1], "ring0-speed  limited  detail of ring0-speed");
    assert_eq!(lines[2], "syscall      missing  detail of syscall");
    assert!(
        text.contains("will be used: mechanism UFFDIO_POISON, block engine threads, trap instruction INT3")
    );
    assert!(text.ends_with("what to do:\n  ring0-speed: measure elsewhere\n"));
}

#[test]
fn what_was_not_tried_is_one_line() {
    let mut report = sample();
    for probe in &mut report.probes {
        probe.detail = NOT_TRIED.into();
    }
    let text = render::text(&report);
    assert!(text.contains("cannot be used, which these need: kvm-machine, ring0-speed, syscall\n"), "{text}");
    assert_eq!(text.matches(NOT_TRIED).count(), 1);
}

#[test]
fn names_are_unique() {
    let mut names: Vec<&str> = PROBES.iter().chain(&EXTRAS).map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_probe_that_hangs_or_dies_is_reported_and_survived() {
    fn hangs() -> Finding {
        loop {
            std::thread::park();
        }
    }
    fn dies() -> Finding {
        panic!("a probe dies, on purpose");
    }
    assert_eq!(bounded(Run::Host(hangs), Duration::from_millis(1)).state, State::Missing);
    assert_eq!(bounded(Run::Host(dies), PROBE_LIMIT).detail, "the probe itself failed");
}

/// Whether there is a KVM to test with; says so loudly if not.
fn kvm_here(test: &str) -> bool {
    match open_kvm() {
        Ok(_) => true,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            false
        }
    }
}

#[test]
fn this_host_is_examined_completely() {
    if !kvm_here("this_host_is_examined_completely") {
        return;
    }
    let report = examine();
    eprintln!("{}", render::text(&report));
    assert_eq!(report.probes.len(), PROBES.len() + EXTRAS.len());
    assert!(report.probes.iter().all(|p| !p.detail.is_empty() && p.ok == (p.state == State::Ok)));
    let state = |name| report.probes.iter().find(|p| p.name == name).map(|p| p.state);
    // Without these no host runs any guest, so a failure here is the probe's.
    for name in ["kvm-device", "kvm-api", "kvm-machine", "immediate-exit", "kick"] {
        assert_eq!(state(name), Some(State::Ok), "{name}");
    }
    assert_eq!(report.uses.mechanism != Mechanism::None, report.facts.poison || report.facts.prot_none);
    assert_eq!(report.uses.engine == Engine::IoUring, state("io_uring") == Some(State::Ok));
    assert_eq!(report.uses.trap_instruction == TrapInstruction::Syscall, state("syscall") == Some(State::Ok));
}
