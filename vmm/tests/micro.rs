//! Machines with micro-guests: the processor's way from PVH entry to ring 3 and back, interrupts, and traps.

mod common;

use common::{away_guest, config, kvm_or_skip, machine_guest, run};
use refault::inject::mechanism::Wanted;
use refault::inject::parse_rule;
use refault::vm::End;

#[test]
fn a_kernel_finds_everything_it_needs() {
    if !kvm_or_skip("a_kernel_finds_everything_it_needs") {
        return;
    }
    let (config, console) = config(machine_guest());
    let outcome = run(config);
    assert_eq!(console.text(), "ABCDEFGHIJKLMN");
    assert_eq!(outcome.end, End::Exited(42));
    assert!(outcome.stats.exits["io"] >= 15, "{:?}", outcome.stats.exits);
}

#[test]
fn without_rules_nothing_is_armed_and_nothing_is_asked_of_the_guest() {
    if !kvm_or_skip("without_rules_nothing_is_armed") {
        return;
    }
    let (config, console) = config(away_guest());
    let outcome = run(config);
    // The guest sees that no countdown was set, and stops there.
    assert_eq!((console.text().as_str(), outcome.end), ("!", End::Exited(100)));
    assert_eq!(outcome.stats.faults, None);
}

/// Pages away by `mechanism`: reads, string moves, updates, ring 3; and all sums.
fn pages_go_away(mechanism: Wanted, name: &str) {
    if !kvm_or_skip(name) {
        return;
    }
    let (mut config, console) = config(away_guest());
    config.rules = vec![parse_rule("read request=9 page=1,2,3,4,5: reflect").unwrap()];
    config.mechanism = mechanism;
    let outcome = run(config);
    assert_eq!(console.text(), "ABCDEFG", "{:?} {:?}", outcome.end, outcome.faults);
    assert_eq!(outcome.end, End::Exited(7));
    let faults = outcome.stats.faults.unwrap();
    assert!(faults.conserved(), "{faults:?}");
    assert_eq!((faults.sites, faults.armed, faults.trapped, faults.never_touched), (6, 5, 4, 1));
    // The update is reflected by a processor, resolved on a host that interprets ring 0.
    assert_eq!(faults.reflected + faults.resolved, 4);
    assert!(faults.reflected >= 3, "{faults:?}");
    assert_eq!((faults.reflected_again, faults.resolved_again), (0, 0));
    let user: Vec<_> = outcome.faults.iter().filter(|f| f.user).collect();
    assert_eq!(user.len(), 1);
    assert_eq!((user[0].gva & 0xfff, user[0].gpa & !0xfff, user[0].write), (8, 0x40_0000, false));
    assert!(outcome.faults.iter().all(|f| f.request == 9));
}

#[test]
fn pages_go_away_by_poison() {
    pages_go_away(Wanted::Poison, "pages_go_away_by_poison");
}

#[test]
fn pages_go_away_by_prot_none() {
    pages_go_away(Wanted::ProtNone, "pages_go_away_by_prot_none");
}
