//! Decisions over sequences of sites.

use super::*;
use crate::inject::parse_rule;

fn seeded(rules: &[&str], seed: u64) -> Matcher {
    let rules: Vec<Rule> = rules.iter().map(|r| parse_rule(r).unwrap()).collect();
    Matcher::new(&rules, Numbering::Lender, seed)
}

fn matcher(rules: &[&str]) -> Matcher {
    seeded(rules, 0)
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
            if matcher.decide(&name, 0).is_some() {
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
        assert_eq!(m.decide(&name, 0).is_some(), expected);
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
    assert!(m.decide(&name, 0).is_none());
    (one.side, one.access) = (1, 1);
    let name = m.name(&one);
    assert!(m.decide(&name, 0).is_some());
}

#[test]
fn a_range_of_no_pages_has_no_last_page() {
    let mut m = matcher(&["page=last: reflect"]);
    let mut odd = site(fs::READ, 1, 1, 1, u32::MAX);
    odd.pages = 0;
    let name = m.name(&odd);
    assert!(m.decide(&name, 0).is_none());
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
    let Rule::Site(rule) = parse_rule(&format!("{name}: reflect")).unwrap() else { panic!("of a site") };
    assert!(matches(&rule, &name));
    assert!(!matches(&rule, &SiteName { attempt: 1, ..name }));
    assert!(!matches(&rule, &SiteName { side: Side::Granter, ..name }));
}

#[test]
fn requests_can_be_numbered_as_they_are_seen() {
    let site = |request| Site { tag: Tag::new(fs::READ, 1, request).0, ..Default::default() };
    let mut seen = Matcher::new(&[], Numbering::Seen, 0);
    assert_eq!([900, 17, 900, 18].map(|request| seen.name(&site(request)).request), [1, 2, 1, 3]);
    let mut lenders = Matcher::new(&[], Numbering::Lender, 0);
    assert_eq!(lenders.name(&site(900)).request, 900);
}

/// Numbers of the sites that are taken away, of `count` sites that are pages 0, 1, 2, ... of a request per attempt of `pages`,
/// and how often the guest had to stop, when it counts down as it is told.
fn numbered(matcher: &mut Matcher, count: u64, pages: u64) -> (Vec<u64>, u64) {
    let (mut taken, mut stops) = (Vec::new(), 0);
    let (mut countdown, mut set) = (matcher.countdown(), matcher.countdown());
    for number in 0..count {
        if countdown == 0 {
            continue;
        }
        countdown -= 1;
        if countdown > 0 {
            continue;
        }
        stops += 1;
        let (attempt, page) = (number / pages + 1, number % pages);
        let name = matcher.name(&site(fs::READ, attempt as u16, 5, attempt, page as u32));
        matcher.pass(set);
        if matcher.decide(&name, 0).is_some() {
            taken.push(number + 1);
        }
        set = matcher.countdown();
        countdown = set;
    }
    (taken, stops)
}

#[test]
fn a_site_named_by_its_number_alone_costs_one_stop() {
    assert_eq!(numbered(&mut matcher(&["nth=40: reflect"]), 1000, 17), (vec![40], 1));
    assert_eq!(
        numbered(&mut matcher(&["nth=3: reflect", "read nth=30,5: poison"]), 1000, 17),
        (vec![3, 5, 30], 3)
    );
    assert_eq!(numbered(&mut matcher(&["nth=2000: reflect"]), 1000, 17), (vec![], 0));
    assert_eq!(numbered(&mut matcher(&["guest: allow"]), 1000, 17), (vec![], 0));
    assert_eq!(numbered(&mut matcher(&["write nth=40: reflect"]), 1000, 17), (vec![], 1));
}

#[test]
fn the_page_of_a_numbered_site_is_followed_through_the_attempts() {
    assert_eq!(numbered(&mut matcher(&["nth=3: reflect*2"]), 100, 10), (vec![3, 13], 11));
    assert_eq!(numbered(&mut matcher(&["nth=3: reflect*forever"]), 40, 10).0, [3, 13, 23, 33]);
    // Requests are numbered as they are seen, so here every site is.
    assert_eq!(numbered(&mut matcher(&["nth=3 copy=1: reflect"]), 40, 10), (vec![3], 40));
}

#[test]
fn processors_are_told_apart() {
    let mut m = matcher(&["vcpu=1: reflect"]);
    let name = m.name(&site(fs::READ, 1, 1, 1, 0));
    assert_eq!(m.decide(&name, 0), None);
    assert!(m.decide(&name, 1).is_some());
}

#[test]
fn a_share_of_the_sites_follows_the_seed() {
    let run = |seed| taken(&mut seeded(&["share=40%: reflect"], seed), 1);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!((1..17).contains(&run(1).len()));
}
