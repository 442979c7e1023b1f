//! Rules that can be read, and the exact place and wording of those that cannot.

use super::*;

fn rejected(text: &str) -> RuleError {
    parse_rule(text).unwrap_err()
}

#[test]
fn the_demo_rule() {
    let rule = parse_rule("read page=1,7,last side=granter: reflect").unwrap();
    assert_eq!(rule.operation, Some(fs::READ));
    assert_eq!(rule.pages, Some(vec![Page::Index(1), Page::Index(7), Page::Last]));
    assert_eq!((rule.side, rule.access), (Some(Side::Granter), None));
    assert_eq!(rule.action, RuleAction::Reflect(Times::Count(1)));
}

#[test]
fn every_key_and_every_count() {
    let rule = parse_rule("  write request=3,9 copy=1 attempt=2 access=write:reflect*forever ").unwrap();
    assert_eq!(rule.requests, Some(vec![3, 9]));
    assert_eq!((rule.copies, rule.attempts), (Some(vec![1]), Some(vec![2])));
    assert_eq!(rule.access, Some(AccessKind::Write));
    assert_eq!(rule.action, RuleAction::Reflect(Times::Forever));
    assert_eq!(parse_rule(":reflect*12").unwrap().action, RuleAction::Reflect(Times::Count(12)));
}

#[test]
fn a_rule_prints_as_it_is_read() {
    for text in [
        "read page=1,7,last side=granter : reflect",
        ": reflect*3",
        "guest : allow",
        "stat request=5 copy=2 attempt=1,2 access=read : reflect*forever",
    ] {
        assert_eq!(parse_rule(text).unwrap().to_string(), text);
    }
}

#[test]
fn errors_name_their_place() {
    for (text, place, expected) in [
        ("read page=1", 11..11, "`:` and an action"),
        ("raed page=1: reflect", 0..4, "an operation (read, write"),
        ("read pge=1: reflect", 5..8, "one of the keys"),
        ("read page=1,x: reflect", 12..13, "a page number"),
        ("read page=: reflect", 10..10, "a page number"),
        ("read copy=0: reflect", 10..11, "a number from 1 up"),
        ("read side=both: reflect", 10..14, "granter"),
        ("read access=rw: reflect", 12..14, "read or write"),
        ("read page=1 page=2: reflect", 12..16, "each key only once"),
        ("page=1 read: reflect", 7..11, "`key=value`"),
        ("read:", 5..5, "an action"),
        ("read: explode", 6..13, "an action"),
        ("read: reflect*0", 14..15, "how often"),
        ("read: reflect now", 14..17, "nothing more"),
        ("guest: reflect", 7..14, "`allow`"),
        ("guest:", 6..6, "`allow`"),
        ("guest page=1: allow", 6..12, "nothing more"),
        ("guest: allow it", 13..15, "nothing more"),
        ("read: allow", 6..11, "`allow` only"),
        ("read request=99999999999: reflect", 13..24, "a number from 0 up"),
    ] {
        let error = rejected(text);
        assert_eq!(error.place, place, "{text}");
        assert!(error.expected.starts_with(expected), "{text}: {}", error.expected);
    }
}

#[test]
fn actions_of_later_versions_are_refused_by_name() {
    for name in ["delay", "poison"] {
        assert!(rejected(&format!("read: {name}")).expected.contains("not available"));
    }
}

#[test]
fn the_place_is_marked_under_the_rule() {
    let shown = rejected("read pge=1: reflect").to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[1], "    read pge=1: reflect");
    assert_eq!(lines[2], "         ^^^");
}

#[test]
fn marks_count_characters_not_bytes() {
    let shown = rejected("réad page=ä: reflect").to_string();
    assert_eq!(shown.lines().nth(2), Some("    ^^^^"));
}
