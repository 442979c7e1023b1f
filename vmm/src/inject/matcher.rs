//! Which fault sites a set of rules wants.
//!
//! Pure: site in, decision out, no clock, no memory, no guest. The one thing to hold in mind: a rule's count
//! is per *page of a request*, whatever the attempt, so `reflect` takes each matching page away once and the
//! repeated operation finds it. `nth=N: reflect*K` names one page of a request by its first site and follows it from there.

use std::collections::HashMap;
use std::fmt;

use refault_abi::doorbell::Site;
use refault_abi::fs;
use refault_abi::grant::Tag;

use super::draw::draw;
use super::rule::{AccessKind, Action, Page, Rule, Side, SiteRule, Times};

/// Requests whose history is kept. A guest that numbers requests at random cannot make the host grow without
/// bound; it only makes rules forget.
const MAX_TRACKED: usize = 1 << 16;

/// A site as rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteName {
    /// File system request code.
    pub operation: u16,
    /// The lender's request number.
    pub request: u32,
    /// Attempt, from 1; 0 when the guest does not say.
    pub attempt: u16,
    /// Which copying call of this attempt, from 1.
    pub copy: u32,
    /// Page in the range.
    pub page: u32,
    /// Pages of the range.
    pub pages: u32,
    /// Whose memory.
    pub side: Side,
    /// Reading or writing.
    pub access: AccessKind,
}

/// In the rule language: a rule with this filter wants this site and, within a run, no other.
impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, request, attempt, copy, page, side, access, .. } = self;
        let operation = fs::operation_name(*operation);
        write!(
            f,
            "{operation} request={request} copy={copy} page={page} attempt={attempt} side={side} access={access}"
        )
    }
}

/// How requests are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// By the lender's own numbers.
    #[default]
    Lender,
    /// From 1, in the order in which they are first seen: the same in every run of a session.
    Seen,
}

/// What a page of a request is, for counting: rule, operation, request, side, page.
type PageOfRequest = (usize, u16, u32, Side, u32);

/// The rules and what they have used up.
#[derive(Debug)]
pub struct Matcher {
    rules: Vec<SiteRule>,
    guest: bool,
    seed: u64,
    used: HashMap<PageOfRequest, u32>,
    /// Pages that a rule with `nth` has met and is not done with.
    followed: HashMap<PageOfRequest, u32>,
    /// Sites passed.
    passed: u64,
    copies: HashMap<(u16, u32, u16), (u64, u32)>,
    numbering: Numbering,
    numbers: HashMap<u32, u32>,
}

impl Matcher {
    /// A matcher that has seen nothing. Of the rules it takes those of sites.
    pub fn new(rules: &[Rule], numbering: Numbering, seed: u64) -> Self {
        let sites = rules.iter().filter_map(|rule| match rule {
            Rule::Site(rule) => Some(rule.clone()),
            _ => None,
        });
        Self {
            rules: sites.collect(),
            guest: rules.contains(&Rule::Guest),
            seed,
            used: HashMap::new(),
            followed: HashMap::new(),
            passed: 0,
            copies: HashMap::new(),
            numbering,
            numbers: HashMap::new(),
        }
    }

    /// Whether a rule lets the guest have pages of its own taken away.
    pub fn allows_guest(&self) -> bool {
        self.guest
    }

    /// How many sites from here is the next one that has to be looked at; 0 if there is none, so that sites cost the guest
    /// nothing. More than 1 only where the rules name sites by their number alone.
    pub fn countdown(&self) -> u64 {
        if !self.followed.is_empty() || self.rules.iter().any(needs_every_site) {
            return 1;
        }
        let wanted = self.rules.iter().flat_map(|rule| rule.nth.iter().flatten());
        wanted.filter_map(|nth| nth.checked_sub(self.passed)).filter(|left| *left > 0).min().unwrap_or(0)
    }

    /// Notes that so many more sites have been passed, the one at hand included.
    pub fn pass(&mut self, sites: u64) {
        self.passed = self.passed.saturating_add(sites);
    }

    /// The site's name; counts the copies of its attempt.
    pub fn name(&mut self, site: &Site) -> SiteName {
        let tag = Tag(site.tag);
        let request = self.number(tag.request());
        let key = (tag.operation(), tag.request(), tag.attempt());
        if self.copies.len() >= MAX_TRACKED {
            self.copies.clear();
        }
        let seen = self.copies.entry(key).or_insert((site.copy, 1));
        if seen.0 != site.copy {
            *seen = (site.copy, seen.1.saturating_add(1));
        }
        SiteName {
            operation: tag.operation(),
            request,
            attempt: tag.attempt(),
            copy: seen.1,
            page: site.page,
            pages: site.pages,
            side: if site.side == 0 { Side::Granter } else { Side::Grantee },
            access: if site.access == 0 { AccessKind::Read } else { AccessKind::Write },
        }
    }

    fn number(&mut self, request: u32) -> u32 {
        if self.numbering == Numbering::Lender {
            return request;
        }
        if self.numbers.len() >= MAX_TRACKED {
            self.numbers.clear();
        }
        let next = self.numbers.len() as u32 + 1;
        *self.numbers.entry(request).or_insert(next)
    }

    /// The action of the first rule that wants the page of this site away now, its count taken. `vcpu` is the processor that is
    /// there.
    pub fn decide(&mut self, site: &SiteName, vcpu: u32) -> Option<Action> {
        for used in [&mut self.used, &mut self.followed] {
            if used.len() >= MAX_TRACKED {
                used.clear();
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let times = match rule.action {
                Action::Reflect(times) => times,
                Action::Delay(_) | Action::Poison => Times::Count(1),
            };
            let key = (index, site.operation, site.request, site.side, site.page);
            if let Some(used) = self.followed.get_mut(&key) {
                *used = used.saturating_add(1);
                if !is_left(times, *used) {
                    self.followed.remove(&key);
                }
                return Some(rule.action);
            }
            let what = [
                SITE,
                index as u64,
                u64::from(site.operation) << 32 | u64::from(site.request),
                u64::from(site.copy) << 32 | u64::from(site.page),
                u64::from(site.attempt) << 32
                    | u64::from(site.side == Side::Grantee) << 1
                    | u64::from(site.access == AccessKind::Write),
            ];
            let wanted = matches(rule, site)
                && rule.vcpus.as_ref().is_none_or(|vcpus| vcpus.contains(&vcpu))
                && rule.share.is_none_or(|share| share.takes(draw(self.seed, &what)));
            if !wanted {
                continue;
            }
            if let Some(nth) = &rule.nth {
                if nth.contains(&self.passed) {
                    if is_left(times, 1) {
                        self.followed.insert(key, 1);
                    }
                    return Some(rule.action);
                }
                continue;
            }
            let used = self.used.entry(key).or_insert(0);
            if is_left(times, *used) {
                *used = used.saturating_add(1);
                return Some(rule.action);
            }
        }
        None
    }
}

/// Sets the draws of sites apart from those of memory.
const SITE: u64 = 0x7369_7465;

fn is_left(times: Times, used: u32) -> bool {
    match times {
        Times::Count(count) => used < count,
        Times::Forever => true,
    }
}

/// Whether a rule can only be decided by whoever has seen all sites: requests and copies are numbered as they are seen.
fn needs_every_site(rule: &SiteRule) -> bool {
    rule.nth.is_none() || rule.requests.is_some() || rule.copies.is_some() || rule.share.is_some()
}

fn matches(rule: &SiteRule, site: &SiteName) -> bool {
    let page = |wanted: &Page| match *wanted {
        Page::Index(index) => index == site.page,
        Page::Last => site.page.checked_add(1) == Some(site.pages),
    };
    rule.operation.is_none_or(|o| o == site.operation)
        && rule.requests.as_ref().is_none_or(|r| r.contains(&site.request))
        && rule.copies.as_ref().is_none_or(|c| c.contains(&site.copy))
        && rule.pages.as_ref().is_none_or(|p| p.iter().any(page))
        && rule.attempts.as_ref().is_none_or(|a| a.contains(&u32::from(site.attempt)))
        && rule.side.is_none_or(|s| s == site.side)
        && rule.access.is_none_or(|a| a == site.access)
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
