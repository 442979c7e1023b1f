//! The disk is a sound file system, and holds what the program said.
//!
//! The host's own checker (`fsck.minix -f`), or where it is not installed a walk, which finds less. It needs a program that writes
//! everything back before it ends.

use crate::suite::verdict::Verdict;

use super::{Evidence, Finding, Oracle};

/// Looks for damage.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let Some(disk) = evidence.disk.filter(|_| evidence.has_ended()) else { return Vec::new() };
    let damaged = |why: String| Finding::new(Oracle::Image, Verdict::Corrupt, why);
    let mut found: Vec<Finding> = disk.sound.iter().map(|why| damaged(format!("the disk: {why}"))).collect();
    match &disk.tree {
        Err(why) => found.push(damaged(format!("the disk cannot be read: {why}"))),
        Ok(tree) => {
            for claim in evidence.told.files().iter().filter(|claim| claim.disk == 0) {
                let there = tree.get(&claim.path);
                let is =
                    there.is_some_and(|e| e.size == claim.bytes && format!("{:016x}", e.fnv) == claim.fnv);
                if !is {
                    found.push(damaged(format!(
                        "{}: the program said {} bytes with sum {}; the disk has {there:?}",
                        claim.path, claim.bytes, claim.fnv
                    )));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn damage_and_false_claims_are_found() {
        assert_eq!(check(&Sample::good().evidence()), []);
        let mut sample = Sample::good();
        sample.disk.sound = Some("zone 7 is in two files".into());
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.disk.tree = Err("no superblock".into());
        assert_eq!(check(&sample.evidence()).len(), 1);
        let mut sample = Sample::good();
        sample.disk.tree = Ok(crate::campaign::tree::Tree::default());
        assert_eq!(check(&sample.evidence()).len(), 1, "the claimed file is not there");
    }
}
