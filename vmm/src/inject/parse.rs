//! Reading an injection rule.
//!
//! ```text
//! rule      = [operation] { key "=" values } ":" action
//!           | "gpa" "=" ( "ram" | ranges ) { key "=" values } ":" action
//!           | "disk" { key "=" values } ":" fault
//!           | "guest" ":" "allow"
//! operation = read | write | bread | bwrite | getdents | rdlink | slink | stat
//! key       = request | copy | page | attempt | side | access | vcpu | nth | share      of sites
//!           | every | share | class | access | vcpu                                    of physical addresses
//!           | n | op | nth | sector | share                                            of disks
//! values    = value { "," value }
//! action    = reflect [ "*" ( count | forever ) ] | delay "=" time | delay until "=" ( disk | site | trap ) | poison
//! fault     = error | delay "=" time | torn "=" sectors | short "=" sectors
//! ```
//!
//! Pure: text in, [`Rule`] or [`RuleError`] out. An error knows the place, and shows it under the rule. This file takes a line
//! apart; what its words mean is in [`super::wording`].

use std::fmt;
use std::ops::Range;

use super::rule::Rule;
use super::wording::{Complaint, Item, Word, Wording};

/// A rule that cannot be read: the rule, the place, and what would have been right there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The whole rule.
    pub rule: String,
    /// Bytes of it that are wrong; empty at a place where something is missing.
    pub place: Range<usize>,
    /// What was expected there.
    pub expected: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this injection rule cannot be read:")?;
        writeln!(f, "    {}", self.rule)?;
        writeln!(f, "    {}", mark(&self.rule, &self.place))?;
        write!(f, "expected here: {}", self.expected)
    }
}

impl std::error::Error for RuleError {}

/// What stands under a line to show a place in it.
pub(super) fn mark(line: &str, place: &Range<usize>) -> String {
    let before = line.get(..place.start).unwrap_or("").chars().count();
    let marked = line.get(place.clone()).unwrap_or("").chars().count().max(1);
    format!("{}{}", " ".repeat(before), "^".repeat(marked))
}

/// Reads one rule.
pub fn parse_rule(text: &str) -> Result<Rule, RuleError> {
    take_apart(Word { text, at: 0 })
        .and_then(|wording| wording.rule())
        .map_err(|Complaint { place, expected }| RuleError { rule: text.to_owned(), place, expected })
}

/// The words of a rule that stands somewhere in a text.
pub(super) fn take_apart(whole: Word<'_>) -> Result<Wording<'_>, Complaint> {
    let Some((filter, action)) = whole.cut(':') else {
        let end = whole.range().end;
        let expected = "`:` and an action, as in `read page=1: reflect`".to_owned();
        return Err(Complaint { place: end..end, expected });
    };
    let mut wording = Wording { first: None, items: Vec::new(), action };
    for (index, word) in filter.words().enumerate() {
        match word.cut('=') {
            Some((key, values)) => wording.items.push(Item { key, values: values.split(',').collect() }),
            None if index == 0 => wording.first = Some(word),
            None => {
                let expected = "`key=value`; only the first word may be an operation".to_owned();
                return Err(Complaint { place: word.range(), expected });
            }
        }
    }
    Ok(wording)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
