//! `refault test --bugs`: the mutation score.

use std::collections::BTreeMap;
use std::path::Path;

use refault_abi::bugs::Bug;

use crate::exit_code::ExitCode;
use crate::suite::Test;
use crate::suite::mutation::{self, Score};
use crate::suite::progress::Progress;
use crate::suite::runner::{self, Ran, Request};

use super::{Failure, output};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Every test on every bug, not only those aimed at it.
    pub all: bool,
    /// Where to write the table.
    pub markdown: Option<&'a Path>,
}

/// Runs the tests without a bug and with each, and says the exit code.
pub async fn run(tests: &[Test], request: &Request, wanted: Wanted<'_>) -> Result<u8, Failure> {
    if !Bug::COMPILED_IN {
        let why = anyhow::anyhow!(
            "no seeded bugs are compiled in; build with REFAULT_BUGS=all, as tests/mutation.sh does"
        );
        return Err(Failure::new(ExitCode::Usage, why));
    }
    let bugs: Vec<_> = Bug::ALL.iter().filter(|(_, name)| Bug::named(name).is_some()).collect();
    let tried: Vec<Vec<Test>> =
        bugs.iter().map(|(bug, _)| mutation::tried(*bug, tests, wanted.all)).collect();
    let needed = |test: &&Test| tried.iter().flatten().any(|tried| tried.name == test.name);
    let plain = play(tests.iter().filter(needed).cloned().collect(), request).await?;
    let without: BTreeMap<String, &Ran> = plain.iter().map(|ran| (ran.test.name.clone(), ran)).collect();
    let passing = |test: &&Test| without.get(&test.name).is_some_and(|ran| ran.judged.passed);
    let mut mutants = Vec::new();
    for ((_, name), tried) in bugs.iter().zip(&tried) {
        for test in tried.iter().filter(passing) {
            let took = without.get(&test.name).map_or(0, |ran| ran.took.as_millis());
            mutants.push(mutation::mutant(test, name, took));
        }
    }
    let with = play(mutants, request).await?;
    let with: Vec<&Ran> = with.iter().collect();
    let scores: Vec<Score> = bugs.iter().map(|(_, name)| Score::of(name, &without, &with)).collect();
    let left_out: Vec<String> =
        plain.iter().filter(|ran| !ran.judged.passed).map(|ran| ran.test.name.clone()).collect();
    let text = mutation::markdown(&scores, &left_out, wanted.all);
    output::result(format_args!("{text}"))?;
    if let Some(file) = wanted.markdown {
        std::fs::write(file, &text).map_err(|why| {
            let why = anyhow::anyhow!("the table {} could not be written: {why}", file.display());
            Failure::new(ExitCode::Output, why)
        })?;
    }
    let uncaught: Vec<&str> = scores.iter().filter(|s| s.caught.is_empty()).map(|s| s.bug).collect();
    if uncaught.is_empty() {
        return Ok(0);
    }
    output::remark(format_args!("refault: nobody catches {}\n", uncaught.join(", ")));
    Ok(ExitCode::Tests as u8)
}

async fn play(tests: Vec<Test>, request: &Request) -> Result<Vec<Ran>, Failure> {
    let mut progress = Progress::new(tests.len());
    let all = runner::run(tests, request, |ran| progress.done(ran)).await;
    progress.finish();
    all.map_err(|why| Failure::new(ExitCode::Host, why))
}
