//! Rules in TOML files: the same keys as in the text, one table for each rule.
//!
//! ```toml
//! [[rule]]
//! operation = "read"        # the word in front of all keys: an operation, or "disk", or "guest"
//! page = ["last", 1]
//! side = "granter"
//! action = "reflect*2"
//!
//! [[rule]]
//! text = "gpa=ram share=1%: delay=2ms"
//! ```
//!
//! The one thing to hold in mind: what the words mean is decided in [`super::wording`], for both forms. This file finds the words,
//! with their places in the file, so that an error shows line and column.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::parse::{mark, take_apart};
use super::rule::Rule;
use super::wording::{Complaint, Item, Word, Wording};

/// A place in a file that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line itself and marks under it.
    shown: [String; 2],
    /// What was expected there.
    pub expected: String,
}

impl TomlError {
    /// An error at a place in `text`.
    pub fn new(text: &str, place: Range<usize>, expected: impl Into<String>) -> Self {
        let before = text.get(..place.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(start..).unwrap_or("").lines().next().unwrap_or("");
        let within = place.start.saturating_sub(start)..place.end.saturating_sub(start).min(line.len());
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(start..).unwrap_or("").chars().count() + 1,
            shown: [line.to_owned(), mark(line, &within)],
            expected: expected.into(),
        }
    }
}

impl fmt::Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [line, marks] = &self.shown;
        writeln!(f, "line {}, column {}:", self.line, self.column)?;
        writeln!(f, "    {line}\n    {marks}")?;
        write!(f, "expected here: {}", self.expected)
    }
}

impl std::error::Error for TomlError {}

/// Takes a file apart.
///
/// # Errors
/// It is no TOML.
pub fn parse(text: &str) -> Result<DeTable<'_>, TomlError> {
    let table = DeTable::parse(text);
    table.map(Spanned::into_inner).map_err(|why| {
        let place = why.span().unwrap_or(0..0);
        TomlError::new(text, place, format!("TOML ({})", why.message().replace('\n', ", ")))
    })
}

/// The rules of a file's `[[rule]]` tables, in order. Whatever else is in the file is not looked at.
///
/// # Errors
/// The file is no TOML, or a rule cannot be read.
pub fn rules_in(text: &str) -> Result<Vec<Rule>, TomlError> {
    match parse(text)?.get("rule") {
        Some(rules) => rules_of(text, rules),
        None => Ok(Vec::new()),
    }
}

/// The rules of the value of a key `rule`: an array of tables, or of texts.
///
/// # Errors
/// A rule cannot be read. `text` is the file, for showing the place.
pub fn rules_of(text: &str, value: &Spanned<DeValue<'_>>) -> Result<Vec<Rule>, TomlError> {
    let Some(rules) = value.get_ref().as_array() else {
        return Err(TomlError::new(text, value.span(), "rules as tables: [[rule]]"));
    };
    let read = rules.iter().map(|rule| rule_of(text, rule));
    read.collect::<Result<_, _>>()
        .map_err(|Complaint { place, expected }| TomlError::new(text, place, expected))
}

fn rule_of(text: &str, value: &Spanned<DeValue<'_>>) -> Result<Rule, Complaint> {
    let complain = |place, expected: &str| Err(Complaint { place, expected: expected.to_owned() });
    let table = match value.get_ref() {
        DeValue::String(_) => return take_apart(word(text, value)?)?.rule(),
        DeValue::Table(table) => table,
        _ => return complain(value.span(), "a table of a rule's keys, or its text"),
    };
    if let Some(whole) = table.get("text") {
        return match table.keys().find(|key| key.get_ref() != "text") {
            Some(key) => complain(key.span(), "nothing beside `text`, which is the whole rule"),
            None => take_apart(word(text, whole)?)?.rule(),
        };
    }
    let Some(action) = table.get("action") else {
        return complain(value.span(), "`action`, as in action = \"reflect\"");
    };
    let mut wording = Wording { first: None, items: Vec::new(), action: word(text, action)? };
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "action" => {}
            "operation" => wording.first = Some(word(text, value)?),
            _ => {
                let key = Word { text: text.get(key.span()).unwrap_or(""), at: key.span().start };
                wording.items.push(Item { key, values: words(text, value)? });
            }
        }
    }
    // In the order of the file, so that the first error is the one shown.
    wording.items.sort_by_key(|item| item.key.at);
    wording.rule()
}

/// A value as a word.
fn word<'a>(text: &'a str, value: &Spanned<DeValue<'_>>) -> Result<Word<'a>, Complaint> {
    let span = value.span();
    let expected =
        || Complaint { place: span.clone(), expected: "a text in plain quotes, or a number".into() };
    let source = text.get(span.clone()).ok_or_else(expected)?;
    match value.get_ref() {
        DeValue::Integer(_) => Ok(Word { text: source, at: span.start }),
        DeValue::String(content) => {
            let inner = source.get(1..source.len().saturating_sub(1)).unwrap_or("");
            // With escapes, or in several lines, its places would not be those in the file.
            (inner == content.as_ref())
                .then_some(Word { text: inner, at: span.start + 1 })
                .ok_or_else(expected)
        }
        _ => Err(expected()),
    }
}

/// A value or a list of values as words; a text may hold several with commas.
fn words<'a>(text: &'a str, value: &Spanned<DeValue<'_>>) -> Result<Vec<Word<'a>>, Complaint> {
    let all = match value.get_ref().as_array() {
        Some(list) => list.iter().map(|value| word(text, value)).collect::<Result<Vec<_>, _>>()?,
        None => vec![word(text, value)?],
    };
    Ok(all.into_iter().flat_map(|word| word.split(',')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::parse_rule;

    #[test]
    fn both_forms_give_the_same_rules() {
        let file = r#"
name = "something else"
[[rule]]
operation = "read"
page = ["last", 1]
side = "granter"
action = "reflect*2"
[[rule]]
gpa = "0x1000-0x1fff,0x5000"
every = 3
share = "30%"
action = 'delay until=site'
[[rule]]
text = "disk n=0 op=write nth=3: torn=4"
[[rule]]
operation = "guest"
action = "allow"
"#;
        let texts = [
            "read page=last,1 side=granter: reflect*2",
            "gpa=0x1000-0x1fff,0x5000 every=3 share=30%: delay until=site",
            "disk n=0 op=write nth=3: torn=4",
            "guest: allow",
        ];
        let expected: Vec<Rule> = texts.iter().map(|text| parse_rule(text).unwrap()).collect();
        assert_eq!(rules_in(file).unwrap(), expected);
        assert_eq!(rules_in("rule = [\"read: reflect\"]").unwrap(), [parse_rule("read: reflect").unwrap()]);
        assert!(rules_in("a = 1").unwrap().is_empty());
    }

    #[test]
    fn errors_have_a_line_and_a_column() {
        for (file, line, column, expected) in [
            ("[[rule]]\noperation = \"raed\"\naction = \"reflect\"", 2, 14, "an operation"),
            ("[[rule]]\npge = 1\naction = \"reflect\"", 2, 1, "one of the keys"),
            ("[[rule]]\npage = [1, \"x\"]\naction = \"reflect\"", 2, 13, "a page number"),
            ("[[rule]]\npage = []\naction = \"reflect\"", 2, 1, "at least one value"),
            ("[[rule]]\n# ä\naction = \"reflect*0\"", 3, 19, "how often"),
            ("[[rule]]\npage = 1", 1, 1, "`action`"),
            ("[[rule]]\ntext = \"read: explode\"", 2, 15, "an action"),
            ("[[rule]]\ntext = \"read: reflect\"\npage = 1", 3, 1, "nothing beside"),
            ("[[rule]]\naction = \"re\\u0066lect\"", 2, 10, "a text in plain quotes"),
            ("rule = 3", 1, 8, "rules as tables"),
            ("a = [1,", 1, 8, "TOML"),
        ] {
            let error = rules_in(file).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{file}: {error}");
            assert!(error.expected.starts_with(expected), "{file}: {}", error.expected);
        }
        let shown = rules_in("[[rule]]\npage = [1, \"x\"]\naction = \"reflect\"").unwrap_err().to_string();
        assert!(
            shown.starts_with("line 2, column 13:\n    page = [1, \"x\"]\n                ^\n"),
            "{shown}"
        );
    }
}
