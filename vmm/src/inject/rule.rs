//! Injection rules: which accesses lose their page, and what then happens.
//!
//! A rule is a filter over fault sites and an action. Everything a rule does not mention matches. Rules say
//! nothing of time: a set of rules applied to the same sequence of sites always decides the same.

use std::fmt;

use refault_abi::fs;

/// Whose memory the access goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The lender's: the memory a grant names.
    Granter,
    /// The copier's own.
    Grantee,
}

/// What the access does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads the page.
    Read,
    /// Writes the page.
    Write,
}

/// One position in a range of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Counted from 0.
    Index(u32),
    /// The last one, whatever its number.
    Last,
}

/// How often a matching page of one request is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// So many times.
    Count(u32),
    /// At every attempt.
    Forever,
}

/// What happens at the trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// Nothing at any site: the guest may have pages of its own taken away, by asking for it at the doorbell. Written
    /// `guest: allow`, and nothing else of the rule means anything then.
    AllowGuest,
    /// The guest gets a page fault and the page stays away until it asks for it.
    Reflect(Times),
}

/// One rule. `None` matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// File system request, such as [`fs::READ`].
    pub operation: Option<u16>,
    /// The lender's request numbers.
    pub requests: Option<Vec<u32>>,
    /// Which copying calls of a request's attempt, counted from 1.
    pub copies: Option<Vec<u32>>,
    /// Positions in the range.
    pub pages: Option<Vec<Page>>,
    /// Attempts, counted from 1.
    pub attempts: Option<Vec<u32>>,
    /// Whose memory.
    pub side: Option<Side>,
    /// Reading or writing.
    pub access: Option<AccessKind>,
    /// What to do.
    pub action: RuleAction,
}

/// Operations that a rule can name.
pub const OPERATIONS: [u16; 8] =
    [fs::READ, fs::WRITE, fs::BREAD, fs::BWRITE, fs::GETDENTS, fs::RDLINK, fs::SLINK, fs::STAT];

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Page::Index(index) => index.fmt(f),
            Page::Last => f.write_str("last"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Granter => "granter",
            Side::Grantee => "grantee",
        })
    }
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessKind::Read => "read",
            AccessKind::Write => "write",
        })
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuleAction::AllowGuest => f.write_str("allow"),
            RuleAction::Reflect(Times::Count(1)) => f.write_str("reflect"),
            RuleAction::Reflect(Times::Count(n)) => write!(f, "reflect*{n}"),
            RuleAction::Reflect(Times::Forever) => f.write_str("reflect*forever"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.action == RuleAction::AllowGuest {
            f.write_str("guest ")?;
        }
        if let Some(operation) = self.operation {
            write!(f, "{} ", fs::operation_name(operation))?;
        }
        list(f, "request", self.requests.as_deref())?;
        list(f, "copy", self.copies.as_deref())?;
        list(f, "page", self.pages.as_deref())?;
        list(f, "attempt", self.attempts.as_deref())?;
        if let Some(side) = self.side {
            write!(f, "side={side} ")?;
        }
        if let Some(access) = self.access {
            write!(f, "access={access} ")?;
        }
        write!(f, ": {}", self.action)
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, key: &str, values: Option<&[T]>) -> fmt::Result {
    let Some(values) = values else { return Ok(()) };
    write!(f, "{key}=")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        value.fmt(f)?;
    }
    f.write_str(" ")
}
