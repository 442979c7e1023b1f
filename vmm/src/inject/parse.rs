//! Reading an injection rule.
//!
//! ```text
//! rule      = [operation] { key "=" values } ":" action | "guest" ":" "allow"
//! operation = read | write | bread | bwrite | getdents | rdlink | slink | stat
//! key       = request | copy | page | attempt | side | access
//! values    = value { "," value }
//! action    = reflect [ "*" ( count | forever ) ]
//! ```
//!
//! Pure: text in, [`Rule`] or [`RuleError`] out. An error knows the place, and shows it under the rule.

use std::fmt;
use std::ops::Range;

use refault_abi::fs;

use super::rule::{AccessKind, OPERATIONS, Page, Rule, RuleAction, Side, Times};

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
        let before = self.rule.get(..self.place.start).unwrap_or("").chars().count();
        let marked = self.rule.get(self.place.clone()).unwrap_or("").chars().count().max(1);
        writeln!(f, "this injection rule cannot be read:")?;
        writeln!(f, "    {}", self.rule)?;
        writeln!(f, "    {}{}", " ".repeat(before), "^".repeat(marked))?;
        write!(f, "expected here: {}", self.expected)
    }
}

impl std::error::Error for RuleError {}

/// Reads one rule.
pub fn parse_rule(text: &str) -> Result<Rule, RuleError> {
    Parser { text }.rule()
}

/// A word of the rule and where it stands.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Word<'a> {
    fn range(self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// The parts between `separator`s, each with its place.
    fn split(self, separator: char) -> impl Iterator<Item = Word<'a>> {
        let base = self.text.as_ptr() as usize;
        self.text
            .split(separator)
            .map(move |part| Word { text: part, at: self.at + (part.as_ptr() as usize - base) })
    }
}

/// The first word of the rule that is about no site.
const GUEST: &str = "guest";
const ALLOWANCE: &str = "`allow`, as in `guest: allow`";

struct Parser<'a> {
    text: &'a str,
}

impl<'a> Parser<'a> {
    fn rule(&self) -> Result<Rule, RuleError> {
        let Some(colon) = self.text.find(':') else {
            return Err(self
                .error(self.text.len()..self.text.len(), "`:` and an action, as in `read page=1: reflect`"));
        };
        let (filter, action) = self.text.split_at(colon);
        let action = Word { text: action.get(1..).unwrap_or(""), at: colon + 1 };
        let is_guest = words(Word { text: filter, at: 0 }).next().is_some_and(|word| word.text == GUEST);
        let mut rule = Rule {
            operation: None,
            requests: None,
            copies: None,
            pages: None,
            attempts: None,
            side: None,
            access: None,
            action: if is_guest { self.allowance(action)? } else { self.action(action)? },
        };
        if is_guest {
            return match words(Word { text: filter, at: 0 }).nth(1) {
                Some(extra) => {
                    Err(self.error(extra.range(), "nothing more in front of the colon after `guest`"))
                }
                None => Ok(rule),
            };
        }
        for (index, word) in words(Word { text: filter, at: 0 }).enumerate() {
            match word.text.split_once('=') {
                Some((key, value)) => {
                    let key = Word { text: key, at: word.at };
                    self.key(&mut rule, key, Word { text: value, at: word.at + key.text.len() + 1 })?;
                }
                None if index == 0 => rule.operation = Some(self.operation(word)?),
                None => {
                    return Err(
                        self.error(word.range(), "`key=value`; only the first word may be an operation")
                    );
                }
            }
        }
        Ok(rule)
    }

    fn operation(&self, word: Word<'_>) -> Result<u16, RuleError> {
        OPERATIONS.into_iter().find(|&o| fs::operation_name(o) == word.text).ok_or_else(|| {
            let names: Vec<&str> = OPERATIONS.into_iter().map(fs::operation_name).collect();
            self.error(word.range(), &format!("an operation ({}) or `key=value`", names.join(", ")))
        })
    }

    fn key(&self, rule: &mut Rule, key: Word<'_>, value: Word<'_>) -> Result<(), RuleError> {
        let fresh = match key.text {
            "request" => rule.requests.replace(self.numbers(value, 0)?).is_none(),
            "copy" => rule.copies.replace(self.numbers(value, 1)?).is_none(),
            "attempt" => rule.attempts.replace(self.numbers(value, 1)?).is_none(),
            "page" => rule.pages.replace(self.pages(value)?).is_none(),
            "side" => rule.side.replace(self.side(value)?).is_none(),
            "access" => rule.access.replace(self.access(value)?).is_none(),
            _ => {
                return Err(
                    self.error(key.range(), "one of the keys request, copy, page, attempt, side, access")
                );
            }
        };
        match fresh {
            true => Ok(()),
            false => Err(self.error(key.range(), "each key only once; give several values with commas")),
        }
    }

    fn numbers(&self, list: Word<'_>, least: u32) -> Result<Vec<u32>, RuleError> {
        list.split(',')
            .map(|word| match word.text.parse::<u32>() {
                Ok(number) if number >= least => Ok(number),
                _ => {
                    Err(self
                        .error(word.range(), &format!("a number from {least} up, or several with commas")))
                }
            })
            .collect()
    }

    fn pages(&self, list: Word<'_>) -> Result<Vec<Page>, RuleError> {
        list.split(',')
            .map(|word| match word.text {
                "last" => Ok(Page::Last),
                text => text.parse().map(Page::Index).map_err(|_| {
                    self.error(word.range(), "a page number from 0 up or `last`, or several with commas")
                }),
            })
            .collect()
    }

    fn side(&self, word: Word<'_>) -> Result<Side, RuleError> {
        match word.text {
            "granter" => Ok(Side::Granter),
            "grantee" => Ok(Side::Grantee),
            _ => Err(self.error(word.range(), "granter (the lender's memory) or grantee (the copier's own)")),
        }
    }

    fn access(&self, word: Word<'_>) -> Result<AccessKind, RuleError> {
        match word.text {
            "read" => Ok(AccessKind::Read),
            "write" => Ok(AccessKind::Write),
            _ => Err(self.error(word.range(), "read or write")),
        }
    }

    /// What may stand behind `guest:`.
    fn allowance(&self, whole: Word<'_>) -> Result<RuleAction, RuleError> {
        let mut words = words(whole);
        match (words.next(), words.next()) {
            (Some(word), None) if word.text == "allow" => Ok(RuleAction::AllowGuest),
            (Some(word), _) if word.text != "allow" => Err(self.error(word.range(), ALLOWANCE)),
            (Some(_), Some(extra)) => Err(self.error(extra.range(), "nothing more after the action")),
            _ => Err(self.error(self.text.len()..self.text.len(), ALLOWANCE)),
        }
    }

    fn action(&self, whole: Word<'_>) -> Result<RuleAction, RuleError> {
        const ACTIONS: &str = "an action: reflect, reflect*N or reflect*forever";
        let mut words = words(whole);
        let Some(word) = words.next() else {
            return Err(self.error(self.text.len()..self.text.len(), ACTIONS));
        };
        if let Some(extra) = words.next() {
            return Err(self.error(extra.range(), "nothing more after the action"));
        }
        let (name, times) = match word.text.split_once('*') {
            Some((name, times)) => (name, Some(Word { text: times, at: word.at + name.len() + 1 })),
            None => (word.text, None),
        };
        match name {
            "reflect" => Ok(RuleAction::Reflect(self.times(times)?)),
            "allow" => Err(self.error(word.range(), "`allow` only in `guest: allow`; here reflect")),
            "delay" | "poison" => Err(self.error(
                word.range(),
                &format!("reflect, reflect*N or reflect*forever; `{name}` is not available in this version"),
            )),
            _ => Err(self.error(word.range(), ACTIONS)),
        }
    }

    fn times(&self, word: Option<Word<'_>>) -> Result<Times, RuleError> {
        let Some(word) = word else { return Ok(Times::Count(1)) };
        match (word.text, word.text.parse::<u32>()) {
            ("forever", _) => Ok(Times::Forever),
            (_, Ok(count)) if count > 0 => Ok(Times::Count(count)),
            _ => Err(self.error(word.range(), "how often: a number from 1 up, or forever")),
        }
    }

    fn error(&self, place: Range<usize>, expected: &str) -> RuleError {
        RuleError { rule: self.text.to_owned(), place, expected: expected.to_owned() }
    }
}

fn words(whole: Word<'_>) -> impl Iterator<Item = Word<'_>> {
    let base = whole.text.as_ptr() as usize;
    whole
        .text
        .split_whitespace()
        .map(move |text| Word { text, at: whole.at + (text.as_ptr() as usize - base) })
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
