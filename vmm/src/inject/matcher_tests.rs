//! Decisions over sequences of sites.

use super::*;
use crate::inject::parse_rule;

fn matcher(rules: &[&str]) -> Matcher {
    Matcher::new(rules.iter().map(|r| parse_rule(r).unwrap()).collect())
}

fn site(operation: u16, attempt: u16, request: u32, copy: u64, page: u32) -> Site {
    Site { tag: Tag::new(operation, attempt, request).0, copy, page, pages: 17, ..Default::default() }
}

/// Pages taken away while one read of 17 pages is attempted `attempts` times.
fn taken(matcher: &mut Matcher, attempts: u16) -> Vec<(u16, u32)> {
    let mut taken = Vec::new();
    for attempt in 1..=attempts {
        for page in 0..17 {
            let name = matcher.name(&site(fs::READ, attempt, 5, u64::from(attempt), page));
            if matcher.decide(&name).is_some() {
                taken.push((attempt, page));
            }
        }
    }
    taken
}

#[test]
fn each_page_once_whatever_the_attempt() {
    let mut m = matcher(&["read page=1,7,last side=granter: reflect"]);
    assert_eq!(taken(&mut m, 3), [(1, 1), (1, 7), (1, 16)]);
}

#[test]
fn counts_are_per_page() {
    let mut m = matcher(&["read page=1,7: reflect*2"]);
    assert_eq!(taken(&mut m, 3), [(1, 1), (1, 7), (2, 1), (2, 7)]);
}

#[test]
fn forever_means_every_attempt_and_attempt_restricts() {
    assert_eq!(taken(&mut matcher(&["page=0: reflect*forever"]), 3), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(taken(&mut matcher(&["page=0 attempt=2: reflect"]), 3), [(2, 0)]);
}

#[test]
fn another_request_starts_anew_and_other_operations_do_not_match() {
    let mut m = matcher(&["read page=1: reflect"]);
    for (request, operation, expected) in [(1, fs::READ, true), (2, fs::READ, true), (3, fs::WRITE, false)] {
        let name = m.name(&site(operation, 1, request, 1, 1));
        assert_eq!(m.decide(&name).is_some(), expected);
    }
}

#[test]
fn copies_of_one_attempt_are_numbered_from_one() {
    let mut m = matcher(&["copy=2: reflect"]);
    let copies: Vec<u32> =
        [40, 40, 41, 44].into_iter().map(|c| m.name(&site(fs::READ, 1, 9, c, 0)).copy).collect();
    assert_eq!(copies, [1, 1, 2, 3]);
    assert_eq!(m.name(&site(fs::READ, 2, 9, 50, 0)).copy, 1);
}

#[test]
fn sides_and_accesses_are_told_apart() {
    let mut m = matcher(&["side=grantee access=write: reflect"]);
    let mut one = site(fs::READ, 1, 1, 1, 0);
    let name = m.name(&one);
    assert!(m.decide(&name).is_none());
    (one.side, one.access) = (1, 1);
    let name = m.name(&one);
    assert!(m.decide(&name).is_some());
}

#[test]
fn a_range_of_no_pages_has_no_last_page() {
    let mut m = matcher(&["page=last: reflect"]);
    let mut odd = site(fs::READ, 1, 1, 1, u32::MAX);
    odd.pages = 0;
    let name = m.name(&odd);
    assert!(m.decide(&name).is_none());
}

#[test]
fn a_sites_name_is_a_rule_that_wants_it_alone() {
    let name = SiteName {
        operation: fs::READ,
        request: 3,
        attempt: 2,
        copy: 1,
        page: 4,
        pages: 5,
        side: Side::Grantee,
        access: AccessKind::Read,
    };
    let rule = crate::inject::parse_rule(&format!("{name}: reflect")).unwrap();
    assert!(matches(&rule, &name));
    assert!(!matches(&rule, &SiteName { attempt: 1, ..name }));
    assert!(!matches(&rule, &SiteName { side: Side::Granter, ..name }));
}

#[test]
fn requests_can_be_numbered_as_they_are_seen() {
    let site = |request| Site { tag: Tag::new(fs::READ, 1, request).0, ..Default::default() };
    let mut seen = Matcher::numbered(Vec::new(), Numbering::Seen);
    assert_eq!([900, 17, 900, 18].map(|request| seen.name(&site(request)).request), [1, 2, 1, 3]);
    let mut lenders = Matcher::new(Vec::new());
    assert_eq!(lenders.name(&site(900)).request, 900);
}
