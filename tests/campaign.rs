//! The verbs `campaign`, `replay` and `coverage` on real machines: exit codes, documents, going on after an interruption, parts.
//!
//! Plans here are tiny: one or two requests, one or two kinds of fault. That all eight hold is what `--preset level1` shows.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use common::Suite;
use common::command::{REFAULT, Said, refault};
use serde_json::Value;

/// Two requests, each site once.
const TINY: &str = "name = 'tiny'\nworkloads = ['stat', 'rdlink']\nkinds = ['once']\n[floor]\nsites = 1.0\n";
/// The policy that lets partial results out.
const ESCAPES: &str = "name = 'escapes'\nworkloads = ['read']\nkinds = ['once']\npolicies = ['retry=efault']\n\
    [shrink]\nfailures = 1\ntimes = 1\nreplays = 1\n";

fn main() -> ExitCode {
    let mut suite = Suite::new("campaign");
    suite.host("a plan that cannot be understood is shown with the line", bad_plans);
    suite.kvm("a plan is carried out, written down, and not made again", whole);
    suite.kvm("parts merged are the whole", parts);
    suite.kvm("an interruption keeps what was made, and the rest is made later", interrupted);
    suite.kvm("an escape is found, shrunk to a rule, and replayed", escapes);
    suite.kvm("coverage below the floor has a code of its own", below);
    suite.run()
}

/// Runs a plan into `out`, with more arguments.
fn campaign(directory: &Path, plan: &str, out: &str, more: &[&str]) -> Said {
    let file = directory.join("plan.toml");
    std::fs::write(&file, plan).unwrap();
    let out = directory.join(out);
    let mut all = vec!["campaign", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    all.extend(more);
    refault(all)
}

/// Lines of a directory's runs.
fn runs(directory: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.join("runs.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What every run is and came to, without what differs from time to time.
fn outcomes(runs: &[Value]) -> BTreeSet<String> {
    let keys = ["id", "rules", "argument", "verdict", "violated", "repeats", "marks"];
    runs.iter().map(|run| keys.map(|key| run[key].to_string()).join(" ")).collect()
}

fn bad_plans() {
    let directory = tempfile::tempdir().unwrap();
    for (plan, said) in [
        ("name = 'x'\nworkloads = ['raed']\n", &["line 2", "raed", "read"][..]),
        ("levels = [3]\n", &["line 1", "3"]),
        ("words = 'retry=never'\n", &["line 1", "retry=never"]),
        ("runs = 1\nrnus = 1\n", &["line 2", "rnus"]),
        ("workloads = []\n", &["workloads"]),
        ("timeout = 'soon'\n", &["line 1", "soon"]),
    ] {
        let it = campaign(directory.path(), plan, "out", &[]);
        assert_eq!(it.code, Some(160), "{plan}: {}", it.all());
        for text in said {
            assert!(it.err.contains(text), "no {text:?} in: {}", it.err);
        }
        assert!(!directory.path().join("out").exists(), "{plan}");
    }
    let it = refault(["campaign", "--preset", "nonesuch"]);
    assert_eq!(it.code, Some(160), "{}", it.all());
    assert!(it.err.contains("nonesuch") && it.err.contains("level1"), "{}", it.err);
    for shard in ["0/2", "3/2", "1"] {
        assert_eq!(refault(["campaign", "--preset", "floor", "--shard", shard]).code, Some(160), "{shard}");
    }
}

fn whole() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("summary.json");
    let made = campaign(directory.path(), TINY, "out", &["--json", json.to_str().unwrap()]);
    assert_eq!(made.code, Some(0), "{}", made.all());
    let document: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(document["schema"], "refault.campaign/1");
    for key in
        ["runs", "violations", "sites_known", "sites_visited", "pairs_known", "pairs_visited", "faults"]
    {
        assert!(document[key].is_u64(), "{key}: {document}");
    }
    assert_eq!((&document["violations"], &document["interrupted"]), (&0.into(), &false.into()));
    assert!(document["sites_known"].as_u64() >= Some(5), "{document}");
    assert_eq!(document["sites_known"], document["sites_visited"]);
    let out = directory.path().join("out");
    let first = runs(&out);
    // A run for each site, and one without faults for each workload.
    assert_eq!(Some(first.len() as u64), document["sites_known"].as_u64().map(|sites| sites + 2));
    assert!(first.iter().all(|run| run["schema"] == "refault.run-record/1"));
    assert_eq!(document["verdicts"]["RETRIED"].as_u64(), Some(first.len() as u64 - 2), "{document}");

    // Nothing is left to do; another plan has no business here.
    assert_eq!(campaign(directory.path(), TINY, "out", &[]).code, Some(0));
    assert_eq!(runs(&out), first);
    let other = campaign(directory.path(), TINY, "out", &["--seed", "2"]);
    assert_eq!(other.code, Some(169), "{}", other.all());
    assert!(other.err.contains("plan"), "{}", other.err);

    // A line of it can be made again.
    let line = directory.path().join("run.json");
    let clean = first.iter().find(|run| run["verdict"] == "PASS").unwrap();
    std::fs::write(&line, clean.to_string()).unwrap();
    let again = refault(["replay", line.to_str().unwrap()]);
    assert_eq!(again.code, Some(0), "{}", again.all());
    assert!(again.out.contains("PASS") && again.out.contains("1 of 1 runs"), "{}", again.out);
}

fn parts() {
    let directory = tempfile::tempdir().unwrap();
    for (out, shard) in [("whole", "1/1"), ("one", "1/2"), ("two", "2/2")] {
        let said = campaign(directory.path(), TINY, out, &["--shard", shard, "--jobs", "1"]);
        assert_eq!(said.code, Some(0), "{}", said.all());
    }
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let [whole, one, two] = ["whole", "one", "two"].map(|name| runs(&directory.path().join(name)));
    assert!(one.len() < whole.len() && two.len() < whole.len());
    let mut merged = outcomes(&one);
    merged.extend(outcomes(&two));
    assert_eq!(merged, outcomes(&whole));
    let merged = refault(["coverage", &path("one"), &path("two"), "--floor", "1.0"]);
    let alone = refault(["coverage", &path("whole"), "--floor", "1.0"]);
    assert_eq!((merged.code, alone.code), (Some(0), Some(0)), "{}{}", merged.all(), alone.all());
    assert_eq!(merged.out, alone.out);
    // A part is not all of it.
    let part = refault(["coverage", &path("one"), "--floor", "1.0"]);
    assert_eq!(part.code, Some(177), "{}", part.all());
    assert!(part.err.contains("below the floor"), "{}", part.err);
    let page = directory.path().join("coverage.md");
    assert_eq!(refault(["coverage", &path("whole"), "--markdown", page.to_str().unwrap()]).code, Some(0));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("| stat | granter | write |") && !page.contains("**none**"), "{page}");
    assert_eq!(refault(["coverage", &path("nowhere")]).code, Some(179));
}

fn interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let plan = directory.path().join("plan.toml");
    std::fs::write(&plan, TINY).unwrap();
    let out = directory.path().join("out");
    let mut child = Command::new(REFAULT)
        .args(["campaign", plan.to_str().unwrap(), "--jobs", "1", "--out", out.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // In the middle: some runs have been written down, and not all.
    while runs(&out).len() < 3 {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // SAFETY: the child has not been waited for, so the number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let before = runs(&out);
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(
        (&summary["interrupted"], summary["runs"].as_u64()),
        (&true.into(), Some(before.len() as u64))
    );
    let rest = campaign(directory.path(), TINY, "out", &["--jobs", "1"]);
    assert_eq!(rest.code, Some(0), "{}", rest.all());
    assert!(rest.err.contains("going on from there"), "{}", rest.err);
    let after = runs(&out);
    assert!(after.len() > before.len());
    assert_eq!(after.get(..before.len()), Some(before.as_slice()), "runs that were there were made again");
    let names: BTreeSet<String> = after.iter().map(|run| run["id"].to_string()).collect();
    assert_eq!(names.len(), after.len());
}

fn escapes() {
    let directory = tempfile::tempdir().unwrap();
    let said = campaign(directory.path(), ESCAPES, "out", &[]);
    assert_eq!(said.code, Some(176), "{}", said.all());
    let out = directory.path().join("out");
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    let failure = &summary["failures"][0];
    assert_eq!(
        (&failure["verdict"], &failure["without_faults"]),
        (&"SHORT".into(), &false.into()),
        "{failure}"
    );
    assert_eq!(failure["rule"].as_array().map(Vec::len), Some(1), "{failure}");
    let file = out.join("replay-1.toml");
    assert!(failure["replay"].as_str().unwrap().contains(file.to_str().unwrap()), "{failure}");
    // It comes to what the file expects; and, cured, no longer.
    let again = refault(["replay", file.to_str().unwrap()]);
    assert_eq!(again.code, Some(0), "{}", again.all());
    assert!(again.out.contains("SHORT") && again.out.contains("<- fault 1"), "{}", again.out);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("retry=efault", "retry=hardened")).unwrap();
    let cured = refault(["replay", file.to_str().unwrap()]);
    assert_eq!(cured.code, Some(178), "{}", cured.all());
    assert!(cured.out.contains("RETRIED"), "{}", cured.out);
}

fn below() {
    let directory = tempfile::tempdir().unwrap();
    let said = campaign(directory.path(), &format!("{TINY}faults = 1000000\n"), "out", &[]);
    assert_eq!(said.code, Some(177), "{}", said.all());
    assert!(said.err.contains("below the floor") && said.err.contains("1000000"), "{}", said.err);
}
