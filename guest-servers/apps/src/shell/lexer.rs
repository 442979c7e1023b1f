//! A line's words and operators.

use alloc::string::String;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::Chars;

/// A piece of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// `$?`, whatever it is when the command runs.
    Status,
}

/// A word: its parts, one behind the other.
pub type Word = Vec<Part>;

/// What a line consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word.
    Word(Word),
    /// `|`
    Pipe,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `&`
    Background,
    /// `;`, or a line's end.
    Then,
    /// `N<`, for descriptor N (0 when it is not said).
    Less(i32),
    /// `N>` (1).
    Great(i32),
    /// `N>>` (1).
    Append(i32),
    /// `N>&M`: descriptor N (1) becomes what M is.
    Duplicate(i32, i32),
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A quotation mark without its partner.
    Quote(char),
    /// A backslash at the end.
    Backslash,
    /// `>&` without a descriptor's number.
    Duplicate,
}

/// Splits a line.
pub fn tokens(line: &str) -> Result<Vec<Token>, Wrong> {
    let mut tokens = Vec::new();
    let mut left = line.chars().peekable();
    while let Some(&next) = left.peek() {
        match next {
            '#' => while left.next_if(|c| *c != '\n').is_some() {},
            ' ' | '\t' | '\r' => drop(left.next()),
            '\n' | ';' | '|' | '&' | '<' | '>' => {
                left.next();
                tokens.push(operator(next, None, &mut left)?);
            }
            _ => {
                let (word, plain) = word(&mut left)?;
                // A number directly before an angle is a descriptor.
                let angle = left.peek().copied().filter(|c| plain && matches!(c, '<' | '>'));
                match (angle, descriptor(&word)) {
                    (Some(angle), Some(number)) => {
                        left.next();
                        tokens.push(operator(angle, Some(number), &mut left)?);
                    }
                    _ => tokens.push(Token::Word(word)),
                }
            }
        }
    }
    Ok(tokens)
}

/// The operator that begins with `first`.
fn operator(first: char, descriptor: Option<i32>, left: &mut Peekable<Chars<'_>>) -> Result<Token, Wrong> {
    let mut twice = |c: char| left.next_if_eq(&c).is_some();
    Ok(match first {
        '|' if twice('|') => Token::Or,
        '|' => Token::Pipe,
        '&' if twice('&') => Token::And,
        '&' => Token::Background,
        '<' => Token::Less(descriptor.unwrap_or(0)),
        '>' if twice('>') => Token::Append(descriptor.unwrap_or(1)),
        '>' if twice('&') => {
            let digit = left.next().and_then(|c| c.to_digit(10)).and_then(|d| i32::try_from(d).ok());
            Token::Duplicate(descriptor.unwrap_or(1), digit.ok_or(Wrong::Duplicate)?)
        }
        '>' => Token::Great(descriptor.unwrap_or(1)),
        _ => Token::Then,
    })
}

/// The number a word is, if it is a single digit.
fn descriptor(word: &Word) -> Option<i32> {
    match word.as_slice() {
        [Part::Text(text)] if text.len() == 1 => text.parse().ok(),
        _ => None,
    }
}

/// A word, and whether nothing of it was quoted.
fn word(left: &mut Peekable<Chars<'_>>) -> Result<(Word, bool), Wrong> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut plain = true;
    while let Some(c) = left.next_if(|c| !" \t\r\n;|&<>".contains(*c)) {
        match c {
            '\\' => {
                text.push(left.next().ok_or(Wrong::Backslash)?);
                plain = false;
            }
            '\'' | '"' => {
                quoted(c, left, &mut parts, &mut text)?;
                plain = false;
            }
            '$' if left.next_if_eq(&'?').is_some() => status(&mut parts, &mut text),
            _ => text.push(c),
        }
    }
    if !text.is_empty() || parts.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok((parts, plain))
}

/// What is between quotation marks.
fn quoted(
    mark: char,
    left: &mut Peekable<Chars<'_>>,
    parts: &mut Word,
    text: &mut String,
) -> Result<(), Wrong> {
    loop {
        let c = left.next().ok_or(Wrong::Quote(mark))?;
        match c {
            _ if c == mark => return Ok(()),
            '\\' if mark == '"' => match left.next().ok_or(Wrong::Backslash)? {
                escaped @ ('"' | '\\' | '$') => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            '$' if mark == '"' && left.next_if_eq(&'?').is_some() => status(parts, text),
            _ => text.push(c),
        }
    }
}

fn status(parts: &mut Word, text: &mut String) {
    if !text.is_empty() {
        parts.push(Part::Text(core::mem::take(text)));
    }
    parts.push(Part::Status);
}

#[cfg(test)]
#[path = "lexer_tests.rs"]
mod tests;
