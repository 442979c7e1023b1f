//! From the words of a rule to the rule, whoever has found the words: a line of text, or a table of a TOML file.
//!
//! Pure. The one thing to hold in mind: every word knows its place in the text it was found in, so that a complaint can be shown
//! there, whatever text that was.

use std::ops::Range;
use std::time::Duration;

use refault_abi::fs;

use super::rule::{
    AccessKind, Action, Awaited, DELAY_LIMIT, Delay, DiskAction, DiskOp, DiskRule, MemoryRule, OPERATIONS,
    Page, PageClass, Rule, Share, Side, SiteRule, Span, Times,
};

/// A word and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    pub text: &'a str,
    pub at: usize,
}

/// `key=value,value`.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub key: Word<'a>,
    pub values: Vec<Word<'a>>,
}

/// A rule that has been taken apart.
#[derive(Debug, Clone)]
pub(super) struct Wording<'a> {
    /// What stands in front of all keys: an operation, `disk`, `guest`.
    pub first: Option<Word<'a>>,
    pub items: Vec<Item<'a>>,
    pub action: Word<'a>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub place: Range<usize>,
    pub expected: String,
}

type Read<T> = Result<T, Complaint>;

impl<'a> Word<'a> {
    pub fn range(self) -> Range<usize> {
        self.at..self.at.saturating_add(self.text.len())
    }

    fn end(self) -> Range<usize> {
        let end = self.range().end;
        end..end
    }

    /// The word's part from `offset` on.
    fn from(self, offset: usize) -> Word<'a> {
        Word { text: self.text.get(offset..).unwrap_or(""), at: self.at.saturating_add(offset) }
    }

    /// What stands in front of a separator and what behind it.
    pub fn cut(self, separator: char) -> Option<(Word<'a>, Word<'a>)> {
        let (front, _) = self.text.split_once(separator)?;
        let behind = self.from(front.len() + separator.len_utf8());
        Some((Word { text: front, at: self.at }, behind))
    }

    /// The parts between `separator`s, each with its place.
    pub fn split(self, separator: char) -> impl Iterator<Item = Word<'a>> {
        let base = self.text.as_ptr() as usize;
        self.text
            .split(separator)
            .map(move |part| Word { text: part, at: self.at + (part.as_ptr() as usize - base) })
    }

    /// The parts between blanks, each with its place.
    pub fn words(self) -> impl Iterator<Item = Word<'a>> {
        let base = self.text.as_ptr() as usize;
        self.text
            .split_whitespace()
            .map(move |part| Word { text: part, at: self.at + (part.as_ptr() as usize - base) })
    }

    fn complain<T>(self, expected: &str) -> Read<T> {
        Err(Complaint { place: self.range(), expected: expected.to_owned() })
    }
}

const ONCE: &str = "each key only once; give several values with commas";
const SITE_KEYS: &str = "one of the keys request, copy, page, attempt, side, access, vcpu, nth, share (or gpa, for pages by their physical address)";
const MEMORY_KEYS: &str = "one of the keys gpa, every, share, class, access, vcpu";
const DISK_KEYS: &str = "one of the keys n, op, nth, sector, share";
const ACTIONS: &str =
    "an action: reflect, reflect*N, reflect*forever, delay=TIME, delay until=disk|site|trap, or poison";
const DISK_ACTIONS: &str = "an action of a disk: error, delay=TIME, torn=SECTORS or short=SECTORS";
const ALLOWANCE: &str = "`allow`, as in `guest: allow`";

impl Wording<'_> {
    /// The rule that is meant.
    pub fn rule(&self) -> Read<Rule> {
        match self.first.map(|word| word.text) {
            Some("guest") => self.guest(),
            Some("disk") => self.disk().map(Rule::Disk),
            _ if self.first.is_none() && self.items.iter().any(|item| item.key.text == "gpa") => {
                self.memory().map(Rule::Memory)
            }
            _ => self.site().map(Rule::Site),
        }
    }

    fn guest(&self) -> Read<Rule> {
        let mut words = self.action.words();
        match (words.next(), words.next()) {
            (Some(word), _) if word.text != "allow" => return word.complain(ALLOWANCE),
            (Some(_), Some(extra)) => return extra.complain("nothing more after the action"),
            (None, _) => return Err(Complaint { place: self.action.end(), expected: ALLOWANCE.into() }),
            _ => {}
        }
        match self.items.first() {
            Some(extra) => extra.key.complain("nothing more in front of the colon after `guest`"),
            None => Ok(Rule::Guest),
        }
    }

    fn site(&self) -> Read<SiteRule> {
        let mut rule = SiteRule::all(self.page_action()?);
        rule.operation = self.first.map(operation).transpose()?;
        for item in &self.items {
            let fresh = match item.key.text {
                "request" => rule.requests.replace(item.numbers(0)?).is_none(),
                "copy" => rule.copies.replace(item.numbers(1)?).is_none(),
                "attempt" => rule.attempts.replace(item.numbers(1)?).is_none(),
                "vcpu" => rule.vcpus.replace(item.numbers(0)?).is_none(),
                "nth" => rule.nth.replace(item.numbers(1)?).is_none(),
                "page" => rule.pages.replace(item.all(page)?).is_none(),
                "side" => rule.side.replace(item.one(side)?).is_none(),
                "access" => rule.access.replace(item.one(access)?).is_none(),
                "share" => rule.share.replace(item.one(share)?).is_none(),
                "gpa" => {
                    return item.key.complain("no `gpa` beside an operation: a physical address is nobody's");
                }
                _ => return item.key.complain(SITE_KEYS),
            };
            item.fresh(fresh)?;
        }
        Ok(rule)
    }

    fn memory(&self) -> Read<MemoryRule> {
        let mut rule = MemoryRule::all(self.page_action()?);
        let mut seen = false;
        for item in &self.items {
            let fresh = match item.key.text {
                "gpa" => {
                    rule.ranges = item.addresses()?;
                    !std::mem::replace(&mut seen, true)
                }
                "every" => rule.every.replace(item.one(|word| number(word, 1))?).is_none(),
                "share" => rule.share.replace(item.one(share)?).is_none(),
                "class" => rule.class.replace(item.one(class)?).is_none(),
                "access" => rule.access.replace(item.one(access)?).is_none(),
                "vcpu" => rule.vcpus.replace(item.numbers(0)?).is_none(),
                _ => return item.key.complain(MEMORY_KEYS),
            };
            item.fresh(fresh)?;
        }
        Ok(rule)
    }

    fn disk(&self) -> Read<DiskRule> {
        let mut rule = DiskRule::all(self.disk_action()?);
        for item in &self.items {
            let fresh = match item.key.text {
                "n" => rule.disk.replace(item.one(|word| number(word, 0))?).is_none(),
                "op" => rule.op.replace(item.one(op)?).is_none(),
                "nth" => rule.nth.replace(item.numbers(1)?).is_none(),
                "sector" => rule.sectors.replace(item.all(|word| span(word, "a sector"))?).is_none(),
                "share" => rule.share.replace(item.one(share)?).is_none(),
                _ => return item.key.complain(DISK_KEYS),
            };
            item.fresh(fresh)?;
        }
        Ok(rule)
    }

    /// The action's only word.
    fn action_word(&self, actions: &str) -> Read<Word<'_>> {
        let mut words = self.action.words();
        let Some(word) = words.next() else {
            return Err(Complaint { place: self.action.end(), expected: actions.into() });
        };
        match words.next() {
            Some(extra) => extra.complain("nothing more after the action"),
            None => Ok(word),
        }
    }

    fn page_action(&self) -> Read<Action> {
        let mut words = self.action.words();
        if let (Some(Word { text: "delay", .. }), Some(until)) = (words.next(), words.next()) {
            if let Some(extra) = words.next() {
                return extra.complain("nothing more after the action");
            }
            let Some((Word { text: "until", .. }, what)) = until.cut('=') else {
                return until.complain("until=disk, until=site or until=trap");
            };
            return awaited(what).map(|what| Action::Delay(Delay::Until(what)));
        }
        let word = self.action_word(ACTIONS)?;
        if let Some((Word { text: "delay", .. }, time)) = word.cut('=') {
            return delay(time).map(|time| Action::Delay(Delay::For(time)));
        }
        let (name, count) = match word.cut('*') {
            Some((name, count)) => (name, Some(count)),
            None => (word, None),
        };
        match (name.text, count) {
            ("reflect", count) => times(count).map(Action::Reflect),
            ("poison", None) => Ok(Action::Poison),
            ("delay", _) => {
                name.complain("how long, as in delay=2ms, or until what, as in `delay until=disk`")
            }
            ("allow", _) => word.complain("`allow` only in `guest: allow`; here reflect, delay or poison"),
            ("error" | "torn" | "short", _) => {
                word.complain("this action only in rules of a disk, as `disk op=write: error`")
            }
            _ => word.complain(ACTIONS),
        }
    }

    fn disk_action(&self) -> Read<DiskAction> {
        let word = self.action_word(DISK_ACTIONS)?;
        match word.cut('=') {
            None if word.text == "error" => Ok(DiskAction::Error),
            Some((Word { text: "delay", .. }, time)) => delay(time).map(DiskAction::Delay),
            Some((Word { text: "torn", .. }, sectors)) => number(sectors, 0).map(DiskAction::Torn),
            Some((Word { text: "short", .. }, sectors)) => number(sectors, 0).map(DiskAction::Short),
            _ => word.complain(DISK_ACTIONS),
        }
    }
}

impl<'a> Item<'a> {
    fn fresh(&self, fresh: bool) -> Read<()> {
        if fresh { Ok(()) } else { self.key.complain(ONCE) }
    }

    fn all<T>(&self, read: impl Fn(Word<'a>) -> Read<T>) -> Read<Vec<T>> {
        match self.values.is_empty() {
            true => self.key.complain("at least one value for this key"),
            false => self.values.iter().map(|word| read(*word)).collect(),
        }
    }

    fn numbers<T: TryFrom<u64>>(&self, least: u64) -> Read<Vec<T>> {
        self.all(|word| number_of(word, least, ", or several with commas"))
    }

    fn one<T>(&self, read: impl Fn(Word<'a>) -> Read<T>) -> Read<T> {
        match self.values.as_slice() {
            [value] => read(*value),
            [_, second, ..] => second.complain("one value only for this key"),
            [] => self.key.complain("a value for this key"),
        }
    }

    /// `None` for all RAM.
    fn addresses(&self) -> Read<Option<Vec<Span>>> {
        match self.values.as_slice() {
            [Word { text: "ram", .. }] => Ok(None),
            _ => self.all(|word| span(word, "`ram`, or an address")).map(Some),
        }
    }
}

fn operation(word: Word<'_>) -> Read<u16> {
    match OPERATIONS.into_iter().find(|&o| fs::operation_name(o) == word.text) {
        Some(operation) => Ok(operation),
        None => {
            let names: Vec<&str> = OPERATIONS.into_iter().map(fs::operation_name).collect();
            word.complain(&format!("an operation ({}), `disk`, `guest`, or `key=value`", names.join(", ")))
        }
    }
}

fn number<T: TryFrom<u64>>(word: Word<'_>, least: u64) -> Read<T> {
    number_of(word, least, "")
}

fn number_of<T: TryFrom<u64>>(word: Word<'_>, least: u64, more: &str) -> Read<T> {
    let number = word.text.parse::<u64>().ok().filter(|number| *number >= least);
    match number.and_then(|number| T::try_from(number).ok()) {
        Some(number) => Ok(number),
        None => word.complain(&format!("a number from {least} up{more}")),
    }
}

fn page(word: Word<'_>) -> Read<Page> {
    match (word.text, word.text.parse()) {
        ("last", _) => Ok(Page::Last),
        (_, Ok(index)) => Ok(Page::Index(index)),
        _ => word.complain("a page number from 0 up or `last`, or several with commas"),
    }
}

/// The value that `word` stands for.
fn word_of<T: Copy>(words: &[(&str, T)], word: Word<'_>, expected: &str) -> Read<T> {
    match words.iter().find(|(name, _)| *name == word.text) {
        Some((_, value)) => Ok(*value),
        None => word.complain(expected),
    }
}

fn side(word: Word<'_>) -> Read<Side> {
    word_of(Side::WORDS, word, "granter (the lender's memory) or grantee (the copier's own)")
}

fn access(word: Word<'_>) -> Read<AccessKind> {
    word_of(AccessKind::WORDS, word, "read or write")
}

fn op(word: Word<'_>) -> Read<DiskOp> {
    word_of(DiskOp::WORDS, word, "read, write or flush")
}

fn awaited(word: Word<'_>) -> Read<Awaited> {
    word_of(Awaited::WORDS, word, "what to wait for: disk, site or trap")
}

fn class(word: Word<'_>) -> Read<PageClass> {
    word_of(
        PageClass::WORDS,
        word,
        "a class of pages: kernel, pagetables, descriptors, virtqueues, granttables or messages",
    )
}

fn share(word: Word<'_>) -> Read<Share> {
    const EXPECTED: &str = "a share from 0.0001% to 100%, with at most four decimals";
    let Some(digits) = word.text.strip_suffix('%') else { return word.complain(EXPECTED) };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(decimals) || decimals.len() > 4 {
        return word.complain(EXPECTED);
    }
    let millionths = format!("{whole}{decimals:0<4}").parse::<u32>();
    match millionths {
        Ok(share @ 1..=Share::ALL) => Ok(Share(share)),
        _ => word.complain(EXPECTED),
    }
}

fn span(word: Word<'_>, what: &str) -> Read<Span> {
    let expected = format!("{what} or FIRST-LAST, hexadecimal with 0x or decimal; or several with commas");
    let value = |text: &str| match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    };
    let (first, last) = word.text.split_once('-').unwrap_or((word.text, word.text));
    match (value(first), value(last)) {
        (Some(first), Some(last)) if first <= last => Ok(Span { first, last }),
        (Some(_), Some(_)) => word.complain("the lower number first"),
        _ => word.complain(&expected),
    }
}

fn delay(word: Word<'_>) -> Read<Duration> {
    match humantime::parse_duration(word.text) {
        Ok(time) if time <= DELAY_LIMIT => Ok(time),
        _ => word.complain(&format!(
            "a time with its unit, at most {}s, as in 2ms or 50us",
            DELAY_LIMIT.as_secs()
        )),
    }
}

fn times(word: Option<Word<'_>>) -> Read<Times> {
    let Some(word) = word else { return Ok(Times::Count(1)) };
    match (word.text, word.text.parse::<u32>()) {
        ("forever", _) => Ok(Times::Forever),
        (_, Ok(count)) if count > 0 => Ok(Times::Count(count)),
        _ => word.complain("how often: a number from 1 up, or forever"),
    }
}
