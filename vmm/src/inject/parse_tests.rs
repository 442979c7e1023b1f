//! Rules that can be read, and the exact place and wording of those that cannot.

use std::time::Duration;

use refault_abi::fs;

use super::*;
use crate::inject::rule::{
    AccessKind, Action, Awaited, Delay, DiskAction, MemoryRule, Page, Share, Side, SiteRule, Span, Times,
};

fn site(text: &str) -> SiteRule {
    match parse_rule(text).unwrap() {
        Rule::Site(rule) => rule,
        other => panic!("{other:?}"),
    }
}

fn memory(text: &str) -> MemoryRule {
    match parse_rule(text).unwrap() {
        Rule::Memory(rule) => rule,
        other => panic!("{other:?}"),
    }
}

fn rejected(text: &str) -> RuleError {
    parse_rule(text).unwrap_err()
}

#[test]
fn the_demo_rule() {
    let rule = site("read page=1,7,last side=granter: reflect");
    assert_eq!(rule.operation, Some(fs::READ));
    assert_eq!(rule.pages, Some(vec![Page::Index(1), Page::Index(7), Page::Last]));
    assert_eq!((rule.side, rule.access), (Some(Side::Granter), None));
    assert_eq!(rule.action, Action::Reflect(Times::Count(1)));
}

#[test]
fn every_key_and_every_count() {
    let rule = site("  write request=3,9 copy=1 attempt=2 access=write:reflect*forever ");
    assert_eq!(rule.requests, Some(vec![3, 9]));
    assert_eq!((rule.copies, rule.attempts), (Some(vec![1]), Some(vec![2])));
    assert_eq!(rule.access, Some(AccessKind::Write));
    assert_eq!(rule.action, Action::Reflect(Times::Forever));
    assert_eq!(site(":reflect*12").action, Action::Reflect(Times::Count(12)));
}

#[test]
fn a_rule_prints_as_it_is_read() {
    for text in [
        "read page=1,7,last side=granter : reflect",
        ": reflect*3",
        "guest : allow",
        "stat request=5 copy=2 attempt=1,2 access=read : reflect*forever",
        "read vcpu=0,1 nth=17,18446744073709551615 share=0.0001% : delay=2ms",
        ": delay=1500us",
        ": delay=0s",
        ": delay until=site",
        ": poison",
        "gpa=ram every=3 share=12.5% class=pagetables access=write vcpu=1 : delay until=trap",
        "gpa=0x1000000-0x1ffffff,0x5000 : reflect*7",
        "disk : error",
        "disk n=0 op=write nth=3 sector=5-9,11 share=100% : torn=4",
        "disk op=flush : delay=20ms",
        "disk op=read : short=0",
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
        ("guest page=1: allow", 6..10, "nothing more"),
        ("guest: allow it", 13..15, "nothing more"),
        ("read: allow", 6..11, "`allow` only"),
        ("read request=99999999999: reflect", 13..24, "a number from 0 up"),
        ("read vcpu=x: reflect", 10..11, "a number from 0 up"),
        ("nth=0: reflect", 4..5, "a number from 1 up"),
        ("read share=30: reflect", 11..13, "a share from"),
        ("read share=0%: reflect", 11..13, "a share from"),
        ("read share=100.1%: reflect", 11..17, "a share from"),
        ("read side=granter,grantee: reflect", 18..25, "one value only"),
        ("read gpa=ram: reflect", 5..8, "no `gpa` beside"),
        ("gpa=0x2000-0x1000: reflect", 4..17, "the lower number first"),
        ("gpa=0x1000-: reflect", 4..11, "`ram`, or an address"),
        ("gpa=1 page=1: reflect", 6..10, "one of the keys gpa"),
        ("gpa=1 class=stacks: reflect", 12..18, "a class of pages"),
        ("gpa=1 gpa=2: reflect", 6..9, "each key only once"),
        ("read: delay", 6..11, "how long"),
        ("read: delay=2", 12..13, "a time with its unit"),
        ("read: delay=11s", 12..15, "a time with its unit, at most 10s"),
        ("read: delay until=noon", 18..22, "what to wait for"),
        ("read: delay for=noon", 12..20, "until=disk"),
        ("read: delay until=disk now", 23..26, "nothing more"),
        ("read: poison*2", 6..14, "an action"),
        ("read: torn=1", 6..12, "an action"),
        ("read: error", 6..11, "this action only in rules of a disk"),
        ("disk: reflect", 6..13, "an action of a disk"),
        ("disk page=1: error", 5..9, "one of the keys n"),
        ("disk op=trim: error", 8..12, "read, write or flush"),
    ] {
        let error = rejected(text);
        assert_eq!(error.place, place, "{text}");
        assert!(error.expected.starts_with(expected), "{text}: {}", error.expected);
    }
}

#[test]
fn actions_of_every_kind() {
    assert_eq!(site("read: delay=2ms").action, Action::Delay(Delay::For(Duration::from_millis(2))));
    assert_eq!(site("read: delay  until=disk ").action, Action::Delay(Delay::Until(Awaited::Disk)));
    assert_eq!(site("read vcpu=1 nth=9: poison").action, Action::Poison);
    let Rule::Disk(rule) = parse_rule("disk n=1 op=write sector=0x10-0x1f share=0.25%: short=3").unwrap()
    else {
        panic!("of a disk")
    };
    assert_eq!((rule.disk, rule.action), (Some(1), DiskAction::Short(3)));
    assert_eq!((rule.sectors, rule.share), (Some(vec![Span { first: 16, last: 31 }]), Some(Share(2500))));
}

#[test]
fn physical_addresses() {
    let rule = memory("gpa=0x1000-0x1fff,8192 every=2 share=30%: reflect*forever");
    assert_eq!(
        rule.ranges,
        Some(vec![Span { first: 0x1000, last: 0x1fff }, Span { first: 8192, last: 8192 }])
    );
    assert_eq!((rule.every, rule.share), (Some(2), Some(Share(300_000))));
    assert_eq!(memory("access=write gpa=ram: delay=0s").ranges, None);
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_odd(text in "\\PC{0,60}") {
        if let Err(error) = parse_rule(&text) {
            proptest::prop_assert!(text.get(error.place.clone()).is_some(), "{:?}", error.place);
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn what_can_be_read_prints_as_it_reads(
        front in "(read |disk |gpa=ram |)", keys in "((page|nth|n|op|share|every|class|gpa|vcpu)=(1|2,last|50%|0x1-0x2|read|kernel) ){0,3}",
        action in "(reflect|reflect\\*2|delay=3ms|delay until=site|poison|error|torn=2)",
    ) {
        if let Ok(rule) = parse_rule(&format!("{front}{keys}: {action}")) {
            proptest::prop_assert_eq!(parse_rule(&rule.to_string()), Ok(rule));
        }
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
