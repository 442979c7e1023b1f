//! Which classes of pages can be away on this host at all.
//!
//! Page tables, descriptor tables and the kernel's code are touched by the processor itself, without an instruction that names them. A
//! processor that nests page tables stops at such a touch as at any other. A host that reads them in the processor's place, because
//! it shadows page tables or interprets ring 0, finds nothing where a page is away, and gives the guest a page fault that nobody
//! has decided, a triple fault, or up. The one thing to hold in mind: which of the two a host is, is found by trying, with a machine
//! of a dozen instructions for each class, and a rule that would break the guest is refused before it does.

use kvm_ioctls::Kvm;

use crate::doctor::microguest::{Event, Lab, LabError, Ring, image, programs};
use crate::layout::PAGE_SIZE;

use super::mechanism::{MechanismError, Wanted, choose};
use super::rule::{PageClass, Rule};

/// What the page under test holds.
const BYTES: u64 = 0x1234_5678_9abc;
/// Touches of the page until a trial is given up; one walk can touch a table more than once.
const TOUCHES: usize = 16;

/// Why rules cannot be carried out here.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The host answers the processor's own touches wrongly.
    #[error(
        "pages of class={0} cannot be taken away on this host: where the processor touches one by itself, without an instruction that \
         names it, KVM does not stop, but breaks the guest (as a host does that shadows page tables, or interprets ring 0). Leave \
         the rules of class={0} out, or use a host with nested paging"
    )]
    OutOfReach(PageClass),
    /// A page could not be taken away at all.
    #[error(transparent)]
    Mechanism(#[from] MechanismError),
    /// The trial itself failed.
    #[error("it could not be found out which classes of pages can be taken away here: {0}")]
    Trial(#[from] LabError),
}

/// What has been found out so far.
#[derive(Debug, Default)]
pub struct Reach {
    found: Vec<(PageClass, bool)>,
}

impl Reach {
    /// Whether all of `rules` can be carried out; tries what has not been tried before.
    ///
    /// # Errors
    /// The first rule that cannot.
    pub fn check(&mut self, kvm: &Kvm, wanted: Wanted, rules: &[Rule]) -> Result<(), ReachError> {
        for rule in rules {
            let Rule::Memory(rule) = rule else { continue };
            let Some(class) = rule.class else { continue };
            let known = self.found.iter().find(|(tried, _)| *tried == class).map(|(_, good)| *good);
            let good = match known {
                Some(good) => good,
                None => {
                    let good = can_be_away(kvm, wanted, class)?;
                    self.found.push((class, good));
                    good
                }
            };
            if !good {
                return Err(ReachError::OutOfReach(class));
            }
        }
        Ok(())
    }
}

/// Whether a guest whose page of this class is away goes on as if nothing had been, once the page is back.
fn can_be_away(kvm: &Kvm, wanted: Wanted, class: PageClass) -> Result<bool, ReachError> {
    let (ring, program, page) = match class {
        PageClass::PageTables => (Ring::Three, programs::LOAD, image::target_entry() & !(PAGE_SIZE - 1)),
        PageClass::Descriptors => (Ring::Three, programs::INT3, image::IDT),
        PageClass::Kernel => (Ring::Zero, programs::CALL, image::TARGET),
        // Touched by instructions only.
        PageClass::Virtqueues | PageClass::GrantTables | PageClass::Messages => return Ok(true),
    };
    let mut lab = Lab::new(kvm, ring, program)?;
    match class {
        PageClass::Kernel => lab.write(image::TARGET, programs::RETURN)?,
        _ => lab.write(image::TARGET, &BYTES.to_le_bytes())?,
    }
    let mechanism = choose(lab.ram(), wanted)?;
    let refused = |source| ReachError::Mechanism(MechanismError::Trial { name: mechanism.name(), source });
    mechanism.arm(page).map_err(refused)?;
    let mut event = lab.run()?;
    for _ in 0..TOUCHES {
        let here = match event {
            Event::Gone { hva } => lab.ram().vcpu_hva(page) == Some(hva & !(PAGE_SIZE - 1)),
            Event::Fault { gpa } => gpa.is_none_or(|gpa| gpa & !(PAGE_SIZE - 1) == page),
            _ => break,
        };
        if !here {
            break;
        }
        mechanism.disarm(page).map_err(refused)?;
        event = lab.run()?;
    }
    Ok(match (class, event) {
        (PageClass::Descriptors, Event::Vector(trap)) => trap.vector == BREAKPOINT,
        (PageClass::PageTables, Event::Port { port: programs::DONE, .. }) => lab.registers()?.rax == BYTES,
        (PageClass::Kernel, Event::Port { port: programs::DONE, .. }) => true,
        _ => false,
    })
}

/// The vector of INT3.
const BREAKPOINT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::parse_rule;

    fn check(rule: &str) -> Option<Result<(), ReachError>> {
        let Ok(kvm) = crate::host::open_kvm() else {
            eprintln!("SKIPPED: a trial of classes needs /dev/kvm");
            return None;
        };
        Some(Reach::default().check(&kvm, Wanted::Best, &[parse_rule(rule).unwrap()]))
    }

    #[test]
    fn what_only_instructions_touch_can_always_be_away() {
        for class in ["virtqueues", "granttables", "messages"] {
            let Some(found) = check(&format!("gpa=ram class={class}: reflect")) else { return };
            found.unwrap();
        }
        if let Some(found) = check("gpa=ram: reflect") {
            found.unwrap();
        }
    }

    #[test]
    fn a_refusal_names_the_class_and_is_remembered() {
        let Ok(kvm) = crate::host::open_kvm() else { return };
        for class in ["pagetables", "descriptors", "kernel"] {
            let rules = [parse_rule(&format!("gpa=ram class={class}: delay=1ms")).unwrap()];
            let mut reach = Reach::default();
            let first = reach.check(&kvm, Wanted::Best, &rules).map_err(|why| why.to_string());
            if let Err(why) = &first {
                assert!(why.contains(&format!("class={class}")), "{why}");
            }
            assert_eq!(reach.found.len(), 1);
            assert_eq!(reach.check(&kvm, Wanted::Best, &rules).map_err(|why| why.to_string()), first);
        }
    }
}
