//! Which fault sites a set of rules wants.
//!
//! Pure: site in, decision out, no clock, no memory, no guest. The one thing to hold in mind: a rule's count
//! is per *page of a request*, whatever the attempt, so `reflect` takes each matching page away once and the
//! repeated operation finds it.

use std::collections::HashMap;
use std::fmt;

use refault_abi::doorbell::Site;
use refault_abi::fs;
use refault_abi::grant::Tag;

use super::rule::{AccessKind, Page, Rule, RuleAction, Side, Times};

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
    rules: Vec<Rule>,
    used: HashMap<PageOfRequest, u32>,
    copies: HashMap<(u16, u32, u16), (u64, u32)>,
    numbering: Numbering,
    numbers: HashMap<u32, u32>,
}

impl Matcher {
    /// A matcher that has seen nothing.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self::numbered(rules, Numbering::Lender)
    }

    /// A matcher that has seen nothing, for rules in which requests are numbered like this.
    pub fn numbered(rules: Vec<Rule>, numbering: Numbering) -> Self {
        Self { rules, used: HashMap::new(), copies: HashMap::new(), numbering, numbers: HashMap::new() }
    }

    /// Whether any site can be of interest: without such a rule the guest's sites cost it nothing.
    pub fn wants_sites(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.action, RuleAction::Reflect(_)))
    }

    /// Whether a rule lets the guest have pages of its own taken away.
    pub fn allows_guest(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == RuleAction::AllowGuest)
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

    /// The action of the first rule that wants the page of this site away now, its count taken.
    pub fn decide(&mut self, site: &SiteName) -> Option<RuleAction> {
        if self.used.len() >= MAX_TRACKED {
            self.used.clear();
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let RuleAction::Reflect(times) = rule.action else { continue };
            if !matches(rule, site) {
                continue;
            }
            let key = (index, site.operation, site.request, site.side, site.page);
            let used = self.used.entry(key).or_insert(0);
            let left = match times {
                Times::Count(count) => *used < count,
                Times::Forever => true,
            };
            if left {
                *used = used.saturating_add(1);
                return Some(rule.action);
            }
        }
        None
    }
}

fn matches(rule: &Rule, site: &SiteName) -> bool {
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
