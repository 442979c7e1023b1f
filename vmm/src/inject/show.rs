//! Rules as text: what is printed here reads back as the same rule.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use refault_abi::fs;

use super::rule::{
    AccessKind, Action, Awaited, Delay, DiskAction, DiskOp, DiskRule, MemoryRule, Page, PageClass, Rule,
    Share, Side, SiteRule, Span, Times,
};

/// Types whose values each have one word.
macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),+ $(,)? })+) => { $(
        impl $type {
            /// All values, with the word that each is written by.
            pub const WORDS: &[(&'static str, $type)] = &[$(($word, $type::$variant)),+];
        }

        impl Display for $type {
            fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($type::$variant => $word),+
                })
            }
        }
    )+ };
}

words! {
    Side { Granter = "granter", Grantee = "grantee" }
    AccessKind { Read = "read", Write = "write" }
    Awaited { Disk = "disk", Site = "site", Trap = "trap" }
    DiskOp { Read = "read", Write = "write", Flush = "flush" }
    PageClass {
        Kernel = "kernel",
        PageTables = "pagetables",
        Descriptors = "descriptors",
        Virtqueues = "virtqueues",
        GrantTables = "granttables",
        Messages = "messages",
    }
}

impl Display for Page {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Page::Index(index) => index.fmt(f),
            Page::Last => f.write_str("last"),
        }
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 10_000, self.0 % 10_000);
        match rest {
            0 => write!(f, "{whole}%"),
            _ => write!(f, "{whole}.{}%", format!("{rest:04}").trim_end_matches('0')),
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Reflect(Times::Count(1)) => f.write_str("reflect"),
            Action::Reflect(Times::Count(n)) => write!(f, "reflect*{n}"),
            Action::Reflect(Times::Forever) => f.write_str("reflect*forever"),
            Action::Delay(Delay::For(time)) => write!(f, "delay={}", Time(*time)),
            Action::Delay(Delay::Until(what)) => write!(f, "delay until={what}"),
            Action::Poison => f.write_str("poison"),
        }
    }
}

impl Display for DiskAction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DiskAction::Error => f.write_str("error"),
            DiskAction::Delay(time) => write!(f, "delay={}", Time(*time)),
            DiskAction::Torn(sectors) => write!(f, "torn={sectors}"),
            DiskAction::Short(sectors) => write!(f, "short={sectors}"),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Guest => f.write_str("guest : allow"),
            Rule::Site(rule) => rule.fmt(f),
            Rule::Memory(rule) => rule.fmt(f),
            Rule::Disk(rule) => rule.fmt(f),
        }
    }
}

impl Display for SiteRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(operation) = self.operation {
            write!(f, "{} ", fs::operation_name(operation))?;
        }
        list(f, "request", self.requests.as_deref())?;
        list(f, "copy", self.copies.as_deref())?;
        list(f, "page", self.pages.as_deref())?;
        list(f, "attempt", self.attempts.as_deref())?;
        one(f, "side", self.side)?;
        one(f, "access", self.access)?;
        list(f, "vcpu", self.vcpus.as_deref())?;
        list(f, "nth", self.nth.as_deref())?;
        one(f, "share", self.share)?;
        write!(f, ": {}", self.action)
    }
}

impl Display for MemoryRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.ranges {
            None => f.write_str("gpa=ram ")?,
            Some(ranges) => {
                let ranges: Vec<_> = ranges.iter().map(|range| Hexadecimal(*range)).collect();
                list(f, "gpa", Some(&ranges))?;
            }
        }
        one(f, "every", self.every)?;
        one(f, "share", self.share)?;
        one(f, "class", self.class)?;
        one(f, "access", self.access)?;
        list(f, "vcpu", self.vcpus.as_deref())?;
        write!(f, ": {}", self.action)
    }
}

impl Display for DiskRule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("disk ")?;
        one(f, "n", self.disk)?;
        one(f, "op", self.op)?;
        list(f, "nth", self.nth.as_deref())?;
        list(f, "sector", self.sectors.as_deref())?;
        one(f, "share", self.share)?;
        write!(f, ": {}", self.action)
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// A span of addresses.
struct Hexadecimal(Span);

impl Display for Hexadecimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.first == self.0.last {
            true => write!(f, "{:#x}", self.0.first),
            false => write!(f, "{:#x}-{:#x}", self.0.first, self.0.last),
        }
    }
}

/// A time, exactly, in the largest unit that gives a whole number.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let (per, unit) = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")]
            .into_iter()
            .find(|(per, _)| ns.is_multiple_of(*per))
            .unwrap_or((1, "ns"));
        write!(f, "{}{unit}", ns / per)
    }
}

fn one<T: Display>(f: &mut Formatter<'_>, key: &str, value: Option<T>) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{key}={value} "),
        None => Ok(()),
    }
}

fn list<T: Display>(f: &mut Formatter<'_>, key: &str, values: Option<&[T]>) -> fmt::Result {
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
