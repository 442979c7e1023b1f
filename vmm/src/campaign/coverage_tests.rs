use super::*;
use crate::campaign::record::Sums;

const FIRST: &str = "read request=1 copy=1 page=0 attempt=1 side=granter access=write";
const SECOND: &str = "read request=1 copy=1 page=0 attempt=2 side=granter access=write";
const OTHER: &str = "read request=1 copy=1 page=0 attempt=1 side=grantee access=read";

fn run(id: &str, kind: &str, aimed: &[&str], trapped: u64) -> RunRecord {
    RunRecord {
        id: id.into(),
        workload: "read".into(),
        words: "w".into(),
        level: if aimed.len() == 2 { "2".into() } else { "1".into() },
        kind: kind.into(),
        aimed: aimed.iter().map(|site| (*site).to_owned()).collect(),
        faults: Sums { trapped, ..Sums::default() },
        ..RunRecord::default()
    }
}

fn listing(first: Option<&str>, sites: &[&str]) -> Listing {
    Listing {
        words: "w".into(),
        workload: "read".into(),
        argument: 1,
        first: first.map(Into::into),
        sites: sites.iter().map(|site| (*site).to_owned()).collect(),
    }
}

#[test]
fn only_what_happened_is_visited() {
    let listings = [listing(None, &[FIRST, OTHER]), listing(Some(FIRST), &[SECOND])];
    let records =
        [run("a", "once", &[FIRST], 1), run("b", "once", &[OTHER], 0), run("c", "pair", &[FIRST, SECOND], 1)];
    let coverage = Coverage::of(&records, &listings, &["once".into(), "delay".into()], &["w".into()]);
    assert_eq!((coverage.sites_known, coverage.sites_visited), (2, 1));
    assert_eq!((coverage.pairs_known, coverage.pairs_visited), (1, 0));
    assert_eq!(coverage.faults, 2);
    assert_eq!(coverage.unvisited, [format!("read: {OTHER}")]);
    assert_eq!(coverage.matrix.len(), 4);
    let empty = coverage.empty_cells();
    assert_eq!(empty.len(), 3, "{empty:?}");
    assert!(empty.contains(&"read side=grantee access=read, once under w".to_owned()));
    let more = [records.as_slice(), &[run("d", "pair", &[FIRST, SECOND], 2)]].concat();
    assert_eq!(Coverage::of(&more, &listings, &[], &[]).pairs_visited, 1);
}

#[test]
fn a_floor_is_kept_or_named() {
    let floor = Floor { sites: 1.0, pairs: 0.0, matrix: true, faults: 3 };
    let listings = [listing(None, &[FIRST])];
    let full = Coverage::of(&[run("a", "once", &[FIRST], 3)], &listings, &[], &[]);
    assert_eq!(full.below(&floor), [""; 0]);
    let empty = Coverage::of(&[run("a", "once", &[FIRST], 0)], &listings, &[], &[]);
    assert_eq!(empty.below(&floor).len(), 3);
    // Nothing known is not everything visited.
    assert_eq!(Coverage::default().below(&floor).len(), 3);
    let page = markdown(&full, &[run("a", "once", &[FIRST], 3)], "refault coverage a");
    for text in ["| read | granter | write | 3 |", "`refault coverage a`", "| 1 | 0 | 1 "] {
        assert!(page.contains(text), "no {text:?} in {page}");
    }
    assert!(markdown(&empty, &[], "").contains("**none**"));
}

#[test]
fn eight_requests_have_two_sides_each() {
    let rows: Vec<Row> = all_rows().collect();
    assert_eq!(rows.len(), 16);
    assert_eq!(row(FIRST).as_ref(), rows.first());
    let mut listing = listing(None, &[FIRST]);
    listing.workload = "requests".into();
    let coverage = Coverage::of(&[run("a", "once", &[FIRST], 1)], &[listing], &[], &[]);
    assert_eq!(coverage.empty_cells().len(), 15);
}
