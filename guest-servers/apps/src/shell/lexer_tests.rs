use alloc::string::ToString;
use alloc::vec;

use super::*;

fn text(text: &str) -> Token {
    Token::Word(vec![Part::Text(text.to_string())])
}

#[test]
fn words_and_operators() {
    assert_eq!(
        tokens("ls -l|cat >out;a&&b||c & # rest | x"),
        Ok(vec![
            text("ls"),
            text("-l"),
            Token::Pipe,
            text("cat"),
            Token::Great(1),
            text("out"),
            Token::Then,
            text("a"),
            Token::And,
            text("b"),
            Token::Or,
            text("c"),
            Token::Background,
        ])
    );
    assert_eq!(tokens(" \t"), Ok(vec![]));
    assert_eq!(tokens("a#b"), Ok(vec![text("a#b")]));
}

#[test]
fn quoting() {
    assert_eq!(tokens(r#"'a b;|' "c 'd'" e\ f "" g"h"'i'"#), {
        Ok(vec![text("a b;|"), text("c 'd'"), text("e f"), text(""), text("ghi")])
    });
    assert_eq!(tokens(r#""a\"b\\c\n""#), Ok(vec![text(r#"a"b\c\n"#)]));
    assert_eq!(tokens("'abc"), Err(Wrong::Quote('\'')));
    assert_eq!(tokens("\"abc\\"), Err(Wrong::Backslash));
    assert_eq!(tokens("abc\\"), Err(Wrong::Backslash));
}

#[test]
fn status_is_a_part() {
    let status = |before: &str| Token::Word(vec![Part::Text(before.to_string()), Part::Status]);
    assert_eq!(tokens("s=$?"), Ok(vec![status("s=")]));
    assert_eq!(tokens("\"$?\""), Ok(vec![Token::Word(vec![Part::Status])]));
    assert_eq!(tokens("'$?' $x"), Ok(vec![text("$?"), text("$x")]));
}

#[test]
fn descriptors_before_angles() {
    assert_eq!(
        tokens("a 2>e 0<i 1>>o 2>&1 12>x '2'>y 3 >z"),
        Ok(vec![
            text("a"),
            Token::Great(2),
            text("e"),
            Token::Less(0),
            text("i"),
            Token::Append(1),
            text("o"),
            Token::Duplicate(2, 1),
            text("12"),
            Token::Great(1),
            text("x"),
            text("2"),
            Token::Great(1),
            text("y"),
            text("3"),
            Token::Great(1),
            text("z"),
        ])
    );
    assert_eq!(tokens("a >&x"), Err(Wrong::Duplicate));
}
