//! `refault report`, as a user has it: shards in, one file out, looked at in a browser.
//!
//! With `REFAULT_PICTURES=DIR` the pictures are kept there.

#[path = "report/browser.rs"]
mod browser;
mod common;
#[path = "report/fixture.rs"]
mod fixture;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use browser::{BROWSER, MAKERS, Shown, show};
use common::command::refault;
use common::{Need, Suite};
use serde_json::Value;
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut suite = Suite::new("report");
    suite.host("shards_become_one_page_and_one_document", shards);
    suite.host("what_cannot_be_read_is_named", bad_input);
    suite.test("a_browser_shows_the_page_and_asks_for_nothing", &[Need::Tool(BROWSER)], shown);
    suite.test("the_browser_test_would_notice_a_request", &[Need::Tool(BROWSER)], control);
    suite.run()
}

/// Two directories with a campaign in them, and what the command made of it.
struct Made {
    _place: TempDir,
    page: PathBuf,
    document: Value,
}

fn made() -> Made {
    let place = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| place.path().join(name));
    [&a, &b].into_iter().for_each(|directory| std::fs::create_dir(directory).unwrap());
    fixture::write([&a, &b]);
    let json = place.path().join("report.json");
    let said = refault([OsStr::new("report"), a.as_ref(), b.as_ref(), "--json".as_ref(), json.as_ref()]);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let document = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    Made { page: a.join("report.html"), document, _place: place }
}

fn shards() {
    let made = made();
    let records = fixture::records();
    let document = &made.document;
    assert_eq!(document["schema"], "refault.report/1");
    assert_eq!(document["runs"], records.len());
    let short = records.iter().filter(|run| run.verdict == "SHORT").count();
    assert!(short > 10);
    assert_eq!(document["failures"].as_array().unwrap().len(), short);
    let given: u64 = records.iter().map(|run| run.timeline.len() as u64).sum();
    assert_eq!(document["given"], given);
    // Every fault of the fixture was decided, so the sum over mechanisms is that of all faults.
    let all = document["latency"].as_array().unwrap().iter().filter(|latency| latency["owner"] == "all");
    let decided = all
        .filter(|latency| latency["part"] == "exit-to-decision")
        .map(|latency| latency["ns"]["n"].as_u64().unwrap());
    assert_eq!(decided.sum::<u64>(), given);
    let states = |policy: usize, state: &str| {
        let cells = document["coverage"][policy]["cells"].as_array().unwrap();
        cells.iter().filter(|cell| cell["state"] == state).count()
    };
    // Seven or eight kinds of cell for each request, see the fixture; "mixed" is a kind of the random runs only.
    assert!(states(0, "visited") > 40 && states(0, "missed") == 10 && states(0, "gap") == 16);
    let page = std::fs::read_to_string(&made.page).unwrap();
    assert!(page.contains("refault replay") && page.contains(&format!("{short} violations")));
}

fn bad_input() {
    let place = tempfile::tempdir().unwrap();
    let report = |directory: &Path| refault([OsStr::new("report"), directory.as_ref()]);
    let said = report(place.path());
    assert_eq!(said.code, Some(179));
    assert!(said.err.contains("runs.jsonl could not be read"), "{}", said.err);
    std::fs::write(place.path().join("runs.jsonl"), "{}\n").unwrap();
    let said = report(place.path());
    assert_eq!(said.code, Some(179));
    assert!(said.err.contains("runs.jsonl:1: ") && said.err.contains("schema"), "{}", said.err);
    assert!(!place.path().join("report.html").exists());
    assert_eq!(refault([OsStr::new("report")]).code, Some(160));
}

/// Where a picture is kept.
fn picture(place: &Path, name: &str) -> PathBuf {
    std::env::var_os("REFAULT_PICTURES").map_or(place.to_owned(), PathBuf::from).join(name)
}

fn shown() {
    let made = made();
    let text = std::fs::read_to_string(&made.page).unwrap();
    assert!(MAKERS.iter().chain(&["http:", "https:", "src="]).all(|outside| !text.contains(outside)));
    let place = tempfile::tempdir().unwrap();
    for (name, dark) in [("report-light.png", false), ("report-dark.png", true)] {
        let Shown { size, colours, plain, requests } =
            show(&made.page, &picture(place.path(), name), (1280, 6000), dark);
        assert_eq!(size, (1280, 6000));
        assert!(colours > 50, "{name}: {colours} colours");
        assert!(plain < 0.97, "{name}: {plain} of the pixels have one colour");
        assert_eq!(requests, Vec::<String>::new(), "{name}");
    }
}

/// The same with a page that does ask for something.
fn control() {
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("page.html");
    std::fs::write(&page, "<!DOCTYPE html><title>x</title><img src=\"http://192.0.2.1/asked-for.png\">")
        .unwrap();
    let shown = show(&page, &place.path().join("page.png"), (640, 480), false);
    assert!(shown.requests.iter().any(|line| line.contains("asked-for.png")), "{:?}", shown.requests);
    assert!(shown.plain > 0.97 && shown.colours < 200, "{} of {} colours", shown.plain, shown.colours);
}
