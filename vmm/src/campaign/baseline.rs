//! What a workload comes to without faults: the sites it passes, and how it ends.
//!
//! The one thing to hold in mind: it is measured in the same session, from the same ready mark, as the runs it is compared with.

use crate::inject::rule::Side;

use super::experiment::Site;
use super::oracle::{Evidence, rest};
use super::tree::Tree;

/// A fault-free run.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// Sites passed, in order.
    pub sites: Vec<Site>,
    /// Names of cases, and whether they are well.
    pub cases: Vec<(String, bool)>,
    /// The tree of its disk at the end.
    pub tree: Tree,
    /// Grants that VFS made and did not revoke; `None` without counters.
    pub grants: Option<i64>,
    /// Requests that VFS has begun and not answered.
    pub calls: Option<i64>,
}

impl Baseline {
    /// Takes down what came of a fault-free run.
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let tree = evidence.disk.and_then(|disk| disk.tree.clone().ok());
        Self {
            sites: evidence.ran.sites.iter().copied().map(Site).collect(),
            cases: evidence.told.cases().map(|case| (case.name.clone(), case.ok)).collect(),
            tree: tree.unwrap_or_default(),
            grants: rest::grants(evidence),
            calls: rest::calls(evidence),
        }
    }

    /// Pages that a request lends, if a copy touches any of them.
    pub fn lent(&self, request: u32) -> Option<u32> {
        let lent = self.sites.iter().filter(|site| site.request == request && site.side == Side::Granter);
        lent.map(|site| site.pages).max()
    }

    /// Where two fault-free runs differ, which then have no sites that could be aimed at.
    pub fn unlike(&self, other: &Self) -> Option<String> {
        let differs = self.sites.iter().zip(&other.sites).position(|(one, other)| one != other);
        let place = differs.or_else(|| {
            (self.sites.len() != other.sites.len()).then(|| self.sites.len().min(other.sites.len()))
        });
        place.map(|place| {
            let shown = |sites: &[Site]| sites.get(place).map_or("nothing".to_owned(), Site::to_string);
            format!(
                "two fault-free runs pass different sites: the {}th is {} and then {}",
                place.saturating_add(1),
                shown(&self.sites),
                shown(&other.sites)
            )
        })
    }
}
