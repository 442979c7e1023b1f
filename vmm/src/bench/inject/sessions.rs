//! Runs of the real guest: the campaigns' program, in sessions.
//!
//! The one thing to hold in mind: variants take turns, in an order that turns too, so that whatever else the host does falls on all of
//! them alike; and the first variant is there twice, so that a difference can be told from noise.

use std::sync::Arc;
use std::time::{Duration, Instant};

use refault_abi::doorbell::event;
use tokio::task::JoinSet;

use crate::bench::document::Figure;
use crate::cli::report::describe;
use crate::guest_image;
use crate::inject::{Rule, parse_rule};
use crate::snapshot::{Ran, Run, Session};
use crate::suite::{DiskKind, disk};
use crate::vm::config::Disk;
use crate::vm::{Config, End, Vm};

use super::Amount;

/// All eight requests once; see `sys_exercise`.
const REQUESTS: u64 = 0;
/// Memory of a machine.
const MEMORY: u64 = 32 << 20;
/// Longest time of one run.
const LIMIT: Duration = Duration::from_secs(60);
/// Runs of each session in a batch.
const BATCH: usize = 8;

/// A rule for a site that no run reaches: the guest counts down to it by itself, and nothing is ever armed.
const NEVER: &str = "nth=1000000000: reflect";

/// A way to run the same work.
#[derive(Debug, Clone, Copy)]
struct Variant {
    name: &'static str,
    rules: &'static [&'static str],
    log_sites: bool,
    /// Whether faults must happen in it.
    faults: bool,
}

/// The first is what the others are compared with; the second is the same.
const VARIANTS: [Variant; 6] = [
    Variant { name: "no rules", rules: &[], log_sites: false, faults: false },
    Variant { name: "no rules, again", rules: &[], log_sites: false, faults: false },
    Variant { name: "a site that never comes", rules: &[NEVER], log_sites: false, faults: false },
    Variant {
        name: "a rule that matches nothing",
        rules: &["stat request=4000000: reflect"],
        log_sites: false,
        faults: false,
    },
    Variant { name: "sites named", rules: &[], log_sites: true, faults: false },
    Variant {
        name: "every page of every request once",
        rules: &[": reflect"],
        log_sites: false,
        faults: true,
    },
];

/// Runs, each of whose rules hits one page: what most of a campaign consists of.
const SINGLE: [&str; 4] = [
    "read request=1 page=0 side=granter: reflect",
    "write page=1 side=granter: reflect",
    "getdents page=0: reflect",
    "stat page=0 side=granter: reflect*2",
];

/// What a variant's runs gave.
#[derive(Debug, Default, Clone)]
struct Series {
    took: Vec<u64>,
    per_mille: Vec<u64>,
    faults: Vec<u64>,
    faults_per_second: Vec<u64>,
}

/// The figures.
///
/// # Errors
/// A session could not be booted, or a run did not end as it must.
pub async fn measure(amount: Amount) -> anyhow::Result<Vec<Figure>> {
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("inject.img");
    std::fs::write(&image, disk::image(DiskKind::Standard)?)?;
    let boot = || session(&image);
    let mut figures = in_turn(boot().await?, amount.rounds).await?;
    figures.extend(batches(boot, amount.batches).await?);
    figures.extend(alone(&image, amount.batches).await?);
    Ok(figures)
}

/// Machines that are no sessions, one without an injector and one with an injector that arms nothing, in turn: what there being an
/// injector costs.
async fn alone(image: &std::path::Path, count: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut without, mut with, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let plain = machine(image, &[]).await?;
        // Sites are not wanted by it, so the guest does exactly the same.
        let armed = machine(image, &["guest: allow"]).await?;
        without.push(plain);
        with.push(armed);
        beside.push(per_mille(armed, plain));
    }
    let base = Figure::of(String::new(), "us", without.clone(), None).map(|figure| figure.p50);
    let name = |what: &str| format!("inject/machine/{what}");
    let figures = [
        Figure::of(name("no injector/run"), "us", without, None),
        Figure::of(name("an injector, nothing armed/run"), "us", with, base),
        Figure::of(name("an injector, nothing armed/beside no injector"), "per mille", beside, Some(1000)),
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// Microseconds from the ready mark to the end of a machine that is no session.
async fn machine(image: &std::path::Path, texts: &[&str]) -> anyhow::Result<u64> {
    let disks = vec![Disk { overlay: true, ..Disk::new(image) }];
    let config = Config { rules: rules(texts)?, disks, timeout: Some(LIMIT), ..guest() };
    let outcome = Vm::start(config)?.run().await;
    anyhow::ensure!(outcome.end == End::Exited(0), "a machine: {}", describe(&outcome.end).2);
    let ready = outcome.events.iter().find(|event| event.code == event::READY);
    let ready = ready.ok_or_else(|| anyhow::anyhow!("a machine was never ready"))?;
    Ok(outcome.stats.times.end_us.saturating_sub(us(ready.at)))
}

/// The campaigns' program.
fn guest() -> Config {
    Config {
        image: Some(Arc::from(guest_image::BOOT_IMAGE)),
        command_line: "retry=hardened".to_owned(),
        program: vec!["sys_exercise".into()],
        memory: MEMORY,
        ..Config::new(guest_image::KERNEL)
    }
}

async fn session(image: &std::path::Path) -> anyhow::Result<Session> {
    Ok(Session::boot(Config { disks: vec![Disk::new(image)], ..guest() }).await?)
}

fn rules(texts: &[&str]) -> anyhow::Result<Vec<Rule>> {
    Ok(texts.iter().map(|text| parse_rule(text)).collect::<Result<_, _>>()?)
}

/// Every variant once in each round.
async fn in_turn(mut session: Session, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let mut all: [Series; VARIANTS.len()] = Default::default();
    let mut restores = Vec::new();
    // The first run of a session has nothing to put back, and finds nothing warm.
    one(&mut session, &VARIANTS[0]).await?;
    for round in 0..rounds {
        let mut round_took = [0; VARIANTS.len()];
        for turn in 0..VARIANTS.len() {
            let index = (turn + round) % VARIANTS.len();
            let (Some(variant), Some(series)) = (VARIANTS.get(index), all.get_mut(index)) else { continue };
            let ran = one(&mut session, variant).await?;
            restores.push(ns(ran.restore));
            if let Some(took) = round_took.get_mut(index) {
                *took = us(ran.took);
            }
            series.took.push(us(ran.took));
            let faults = ran.counters.all_reflected();
            series.faults.push(faults);
            series.faults_per_second.push(per_second(faults, ran.took.saturating_add(ran.restore)));
        }
        let base = round_took[0];
        for (series, took) in all.iter_mut().zip(round_took) {
            series.per_mille.push(per_mille(took, base));
        }
    }
    let base = Figure::of(String::new(), "us", all[0].took.clone(), None).map(|figure| figure.p50);
    let mut figures = vec![Figure::of("inject/session/restore".into(), "ns", restores, None)];
    for (index, (variant, series)) in VARIANTS.iter().zip(all).enumerate() {
        let name = |what: &str| format!("inject/session/{}/{what}", variant.name);
        figures.push(Figure::of(name("run"), "us", series.took, base.filter(|_| index > 0)));
        if index > 0 {
            figures.push(Figure::of(name("beside no rules"), "per mille", series.per_mille, Some(1000)));
        }
        if variant.faults {
            figures.push(Figure::of(name("faults"), "faults", series.faults, None));
            figures.push(Figure::of(name("faults per second"), "faults/s", series.faults_per_second, None));
        }
    }
    Ok(figures.into_iter().flatten().collect())
}

/// As many sessions as processors, each with its runs, all at once: what a campaign gets out of this host.
async fn batches<F: Future<Output = anyhow::Result<Session>>>(
    boot: impl Fn() -> F,
    batches: usize,
) -> anyhow::Result<Vec<Figure>> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sessions = Vec::new();
    for _ in 0..jobs {
        let mut session = boot().await?;
        one(&mut session, &VARIANTS[0]).await?;
        sessions.push(session);
    }
    let mut rates = Vec::new();
    for _ in 0..batches {
        let start = Instant::now();
        let mut working = JoinSet::new();
        for mut session in sessions.drain(..) {
            working.spawn(async move {
                for rule in SINGLE.iter().cycle().take(BATCH) {
                    let run = Run { rules: rules(&[rule])?, ..self::run() };
                    let ran = session.run(run).await?;
                    passed(&ran, rule)?;
                    anyhow::ensure!(ran.counters.trapped > 0, "{rule}: no page was touched");
                }
                anyhow::Ok(session)
            });
        }
        while let Some(session) = working.join_next().await {
            sessions.push(session??);
        }
        let runs = BATCH.saturating_mul(jobs) as u64;
        rates.push(per_second(runs.saturating_mul(1000), start.elapsed()));
    }
    let name = format!("inject/campaign/{jobs} sessions at once");
    Ok(Figure::of(name, "runs per 1000 s", rates, None).into_iter().collect())
}

fn run() -> Run {
    Run { argument: REQUESTS, timeout: Some(LIMIT), ..Run::default() }
}

async fn one(session: &mut Session, variant: &Variant) -> anyhow::Result<Ran> {
    let run = Run { rules: rules(variant.rules)?, log_sites: variant.log_sites, ..run() };
    let ran = session.run(run).await?;
    passed(&ran, variant.name)?;
    let (armed, reflected) = (ran.counters.armed, ran.counters.all_reflected());
    anyhow::ensure!(
        variant.faults == (reflected > 0) && (variant.faults || armed == 0),
        "{}: {armed} pages were taken away and {reflected} faults reflected",
        variant.name
    );
    Ok(ran)
}

fn passed(ran: &Ran, what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        ran.end == End::Exited(0) && ran.counters.conserved(),
        "{what}: {}; its reports: {:?}",
        describe(&ran.end).2,
        ran.reports
    );
    Ok(())
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// So many in this time, for a second.
fn per_second(count: u64, time: Duration) -> u64 {
    let rate = u128::from(count).saturating_mul(1_000_000_000).checked_div(time.as_nanos());
    rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

/// A time as thousandths of another, rounded.
fn per_mille(time: u64, base: u64) -> u64 {
    let (time, base) = (u128::from(time), u128::from(base));
    let rounded = (time * 1000 + base / 2).checked_div(base);
    rounded.map_or(0, |share| u64::try_from(share).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares() {
        assert_eq!(per_second(8, Duration::from_millis(500)), 16);
        assert_eq!(per_second(1, Duration::from_secs(3)), 0);
        assert_eq!(per_second(1000, Duration::from_secs(3)), 333);
        assert_eq!(per_second(1, Duration::ZERO), 0);
        assert_eq!(per_second(u64::MAX, Duration::from_nanos(1)), u64::MAX);
        assert_eq!(
            (per_mille(1500, 1000), per_mille(999_600, 1_000_000), per_mille(1, 3)),
            (1500, 1000, 333)
        );
        assert_eq!((per_mille(5, 0), per_mille(u64::MAX, 1)), (0, u64::MAX));
        assert_eq!(
            (ns(Duration::from_micros(3)), us(Duration::from_millis(3)), us(Duration::MAX)),
            (3000, 3000, u64::MAX)
        );
    }

    #[test]
    fn the_rules_can_be_read_and_the_control_is_the_same() {
        for texts in VARIANTS.iter().map(|variant| variant.rules).chain([&SINGLE[..]]) {
            rules(texts).unwrap();
        }
        let [base, control, ..] = VARIANTS;
        assert_eq!(
            (base.rules, base.log_sites, base.faults),
            (control.rules, control.log_sites, control.faults)
        );
    }
}
