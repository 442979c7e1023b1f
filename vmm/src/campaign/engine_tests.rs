use std::collections::BTreeSet;
use std::path::Path;

use super::super::coverage::{Coverage, load};
use super::super::journal::{Header, SCHEMA};
use super::super::judge::Place;
use super::super::mock::{Mistake, Model};
use super::super::shrink::shrink;
use super::*;

struct Nobody;

impl Observer for Nobody {
    fn known(&self, _: u64) {}
    fn ended(&self, _: &RunRecord) {}
}

fn plan(text: &str) -> Plan {
    Plan::read("test", &format!("watchdog = 0\n{text}")).unwrap()
}

fn header(plan: &Plan, shard: Shard) -> Header {
    Header { schema: SCHEMA.into(), plan: plan.text(), build: "b".into(), shard: shard.to_string() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn campaign_in(directory: &Path, plan: &Plan, model: &Model, shard: Shard) -> io::Result<Vec<Experiment>> {
    let journal = RefCell::new(Journal::open(directory, &header(plan, shard)).unwrap());
    let shared = Shared::new(model, plan.timeout, &plan.oracles.off, Place::default());
    let failures = RefCell::default();
    let request = Request { plan, shard, jobs: 3 };
    runtime().block_on(conduct(&request, &shared, &journal, &Nobody, &failures))?;
    Ok(failures.into_inner())
}

/// Runs a campaign and gives its failures, its records and its coverage.
fn campaign(text: &str, model: &Model) -> (Vec<Experiment>, Vec<RunRecord>, Coverage) {
    let directory = tempfile::tempdir().unwrap();
    let failures = campaign_in(directory.path(), &plan(text), model, Shard::WHOLE).unwrap();
    let loaded = load(&[directory.path()]).unwrap();
    let coverage = Coverage::of(&loaded.records, &loaded.listings, &[], &[]);
    (failures, loaded.records, coverage)
}

fn wrong(records: &[RunRecord]) -> Vec<String> {
    let wrong = records.iter().filter(|record| record.violated.is_some());
    wrong.map(|record| format!("{} {} {:?}", record.id, record.verdict, record.why)).collect()
}

const SITES: usize = 8 * 2 * 2;

#[test]
fn level_1_visits_each_site_in_each_kind_and_counts_to_the_end() {
    let (failures, records, coverage) = campaign("", &Model::default());
    assert_eq!(wrong(&records), [""; 0]);
    assert!(failures.is_empty());
    // The fault-free run, five kinds at each site, and the one behind the last.
    assert_eq!(records.len(), 1 + 5 * SITES + 1);
    assert_eq!((coverage.sites_known, coverage.sites_visited), (SITES as u64, SITES as u64));
    assert_eq!(coverage.empty_cells(), [""; 0]);
    let count = |verdict: &str| records.iter().filter(|record| record.verdict == verdict).count();
    assert_eq!(count("REJECTED"), SITES, "each fault that lasts ends in the error specified");
    assert_eq!(count("RETRIED"), 3 * SITES);
    assert_eq!(count("PASS"), SITES + 2, "late pages, the fault-free run, and the one behind the last site");
}

#[test]
fn level_2_visits_each_pair_inside_the_repeat() {
    let (_, records, coverage) = campaign("levels = [2]\nworkloads = ['read', 'slink']", &Model::default());
    assert_eq!(wrong(&records), [""; 0]);
    // Each of four sites, and all four again in the repeat.
    assert_eq!((coverage.pairs_known, coverage.pairs_visited), (32, 32));
    assert_eq!(records.len(), 2 + 8 + 32);
    let text = "levels = [2]\nworkloads = ['read']\n[bounds]\nfirst = 3\nsecond = 2";
    let (_, _, bounded) = campaign(text, &Model::default());
    assert_eq!((bounded.pairs_known, bounded.pairs_visited), (6, 6));
}

#[test]
fn level_random_is_the_same_again() {
    let text = "levels = ['random']\nworkloads = ['read', 'write']\nruns = 50\n[random]\nforever = true";
    let (_, records, coverage) = campaign(text, &Model::default());
    assert_eq!(wrong(&records), [""; 0]);
    assert_eq!(records.len(), 50);
    assert!(coverage.faults > 20);
    let by_id = |mut records: Vec<RunRecord>| {
        records.sort_by(|one, other| one.id.cmp(&other.id));
        records
    };
    assert_eq!(by_id(campaign(text, &Model::default()).1), by_id(records));
}

#[test]
fn mistakes_are_found_by_their_oracles() {
    for (mistake, text, oracle, verdict) in [
        (Mistake::Leak, "kinds = ['once']", "O5", "LEAK"),
        (Mistake::NoBound, "kinds = ['forever']", "O6", "WEDGED"),
        (Mistake::Blame, "kinds = ['once']", "O8", "FAILED"),
        (Mistake::Bytes, "kinds = ['once']", "O1", "CORRUPT"),
        (Mistake::SecondFault, "levels = [2]", "O2", "SHORT"),
    ] {
        let (failures, records, _) = campaign(text, &Model::with(mistake));
        let bad: Vec<_> = records.iter().filter(|record| record.violated.is_some()).collect();
        assert!(!bad.is_empty() && bad.len() == failures.len(), "{mistake:?}");
        for record in bad {
            assert_eq!(
                (record.violated.as_deref(), record.verdict.as_str()),
                (Some(oracle), verdict),
                "{record:?}"
            );
        }
    }
}

#[test]
fn partial_counts_get_out_where_only_efault_is_looked_for() {
    let (failures, records, _) = campaign("policies = ['retry=efault']\nkinds = ['once']", &Model::default());
    let short = records.iter().filter(|record| record.verdict == "SHORT").count();
    // Each fault in the second page, on either side.
    assert_eq!((short, failures.len()), (8 * 2, 8 * 2), "{:?}", wrong(&records));
}

#[test]
fn parts_are_the_whole() {
    let plan = plan("levels = [1, 2]\nworkloads = ['read', 'stat']\nkinds = ['once', 'nth']");
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("whole");
    campaign_in(&whole, &plan, &Model::default(), Shard::WHOLE).unwrap();
    let parts: Vec<_> = (1..=3).map(|part| directory.path().join(part.to_string())).collect();
    for (part, path) in (1..).zip(&parts) {
        campaign_in(path, &plan, &Model::default(), Shard { part, of: 3 }).unwrap();
    }
    let ids = |records: &[RunRecord]| records.iter().map(|record| record.id.clone()).collect::<BTreeSet<_>>();
    let (whole, merged) = (load(&[whole]).unwrap(), load(&parts).unwrap());
    assert_eq!(ids(&whole.records), ids(&merged.records));
    assert_eq!(merged.records.len(), whole.records.len());
    let of =
        |loaded: &super::super::coverage::Loaded| Coverage::of(&loaded.records, &loaded.listings, &[], &[]);
    assert_eq!(of(&whole), of(&merged));
}

#[test]
fn a_campaign_goes_on_where_it_failed() {
    let plan = plan("levels = [1, 2]\nworkloads = ['read']\nkinds = ['once']");
    let directory = tempfile::tempdir().unwrap();
    let model = Model { fails_after: Some(7), ..Model::default() };
    let why = campaign_in(directory.path(), &plan, &model, Shard::WHOLE).unwrap_err();
    assert_eq!(why.to_string(), "the host failed");
    let before = load(&[directory.path()]).unwrap().records;
    assert!(!before.is_empty() && before.len() < 7);
    let model = Model::default();
    campaign_in(directory.path(), &plan, &model, Shard::WHOLE).unwrap();
    let after = load(&[directory.path()]).unwrap().records;
    assert_eq!(after.len(), 1 + 4 + 4 + 16);
    assert_eq!(after[..before.len()], before);
    let ids: BTreeSet<_> = after.iter().map(|record| &record.id).collect();
    assert_eq!(ids.len(), after.len());
    // Once more, nothing is left but looking at the sites.
    let model = Model::default();
    campaign_in(directory.path(), &plan, &model, Shard::WHOLE).unwrap();
    assert_eq!(model.runs.get(), 2 + 4);
    assert_eq!(load(&[directory.path()]).unwrap().records.len(), after.len());
}

#[test]
fn a_failure_is_shrunk_to_one_rule() {
    let model = Model::default();
    let plan = plan("policies = ['retry=efault']");
    let shared = Shared::new(&model, plan.timeout, &[], Place::default());
    let mut experiment = {
        let workload = super::super::workload::named("requests").unwrap();
        let argument = Argument { clients: 3, ..Argument::of(workload, 0) };
        Experiment::fault_free(Level::Random, workload, argument, "retry=efault")
    };
    experiment.kind = Kind::Mixed;
    experiment.rules = [
        "stat page=0 : delay=1ms",
        "write request=2 page=0,1 side=granter : reflect*3",
        "slink side=grantee page=1 attempt=2 : reflect",
        "read page=0 : delay=2ms",
    ]
    .map(String::from)
    .to_vec();
    let shrunk = runtime().block_on(async {
        let mut bench = Bench::new(&shared);
        let judged = bench.run(&experiment).await.unwrap().judged;
        assert_eq!(judged.verdict.word(), "SHORT");
        shrink(&mut bench, &experiment, &judged, &plan.shrink).await.unwrap()
    });
    assert_eq!(shrunk.experiment.workload.name, "write");
    assert_eq!(shrunk.experiment.rules, ["write page=1 side=granter : reflect"]);
    assert_eq!(shrunk.experiment.argument.clients, 1);
    assert_eq!((shrunk.failed, shrunk.replays, shrunk.without_faults), (5, 5, false));
}

#[test]
fn a_failure_that_needs_no_fault_is_told_from_others() {
    let model = Model::with(Mistake::Always);
    let (failures, ..) = campaign("workloads = ['read']\nkinds = ['once']", &model);
    let plan = plan("");
    let shared = Shared::new(&model, plan.timeout, &[], Place::default());
    let shrunk = runtime().block_on(async {
        let mut bench = Bench::new(&shared);
        let judged = bench.run(&failures[1]).await.unwrap().judged;
        shrink(&mut bench, &failures[1], &judged, &plan.shrink).await.unwrap()
    });
    assert!(shrunk.without_faults && shrunk.experiment.rules.is_empty());
}
