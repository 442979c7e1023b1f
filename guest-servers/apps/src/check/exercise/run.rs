//! From the first instruction to the last line: what is prepared, the mark, the workload, and the look afterwards.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::doorbell::event;
use refault_rt::{kernel, user};

use super::argument::Argument;
use super::crew::{all_ended, member};
use super::fsx::Fsx;
use super::gauges::Gauges;
use super::names::Names;
use super::requests::{self, Request};
use super::rest::Rest;
use super::trouble::{Step, Trouble, outcome};
use super::{crowd, pipes, touch};
use crate::check::case::Outcome;
use crate::check::suite::{Explain, Record, Suite};

/// What is there at the mark.
struct Prepared {
    requests: Vec<Box<dyn Request>>,
    quick: Rest,
    thorough: Rest,
}

fn prepare() -> Result<Prepared, String> {
    let mut requests = requests::all()?;
    // Once for practice, so that everything is warm.
    for request in &mut requests {
        request.ready(0)?;
        let practice = outcome(request.perform(&Gauges::now())).map_err(|complaint| complaint.text);
        practice.map_err(|why| alloc::format!("{}, for practice: {why}", request.name()))?;
    }
    for request in &mut requests {
        request.ready(0)?;
    }
    user::sync().explain("sync")?;
    // The first thorough look may be what makes its own tables.
    Rest::now(true)?;
    Ok(Prepared { requests, thorough: Rest::now(true)?, quick: Rest::now(false)? })
}

/// Everything. `given` takes the place of what the monitor says, and has the lines printed. The program's exit status.
pub fn run(given: Option<Argument>) -> i32 {
    let prepared = prepare();
    // Without a monitor nobody hears it.
    let _ = kernel::event(event::READY, 0);
    let (argument, mut suite) = match (given, kernel::argument()) {
        (None, Ok(word)) => (Argument(word), Suite::reporting()),
        (given, _) => (given.unwrap_or(Argument(0)), Suite::new()),
    };
    match prepared {
        Err(why) => suite.check("prepare", |_| Err(why)),
        Ok(mut prepared) => {
            work(&mut suite, argument, given.is_none(), &mut prepared);
            let rest = if argument.thorough() { &prepared.thorough } else { &prepared.quick };
            suite.case("rest", |_| rest.compare(argument.thorough()));
        }
    }
    suite.end()
}

/// Operations of each workload that are as many as it does by itself.
const FSX: u16 = 40;
const PIPES: u16 = 12;
const NAMES: u16 = 40;
const CROWD: u16 = 20;
const MIX: u16 = 10;
const TOUCH: u16 = 4;

fn work(suite: &mut Suite, argument: Argument, told: bool, prepared: &mut Prepared) {
    let (seed, clients) = (argument.seed(), argument.clients());
    match argument.workload() {
        0 => few(suite, argument, &mut prepared.requests),
        number @ 1..=8 => {
            let index = usize::from(number) - 1;
            few(suite, argument, prepared.requests.get_mut(index..=index).unwrap_or_default());
        }
        9 => one(suite, "fsx", |since| fsx(seed, clients, argument.operations(FSX), since)),
        10 => one(suite, "pipes", |since| pipes::run(seed, clients, argument.operations(PIPES), since)),
        11 => one(suite, "names", |since| names(seed, clients, argument.operations(NAMES), since)),
        12 => one(suite, "crowd", |since| crowd::run(seed, clients, argument.operations(CROWD), told, since)),
        13 => {
            let operations = argument.operations(MIX);
            few(suite, Argument(1 << 16), &mut prepared.requests);
            one(suite, "fsx", |since| fsx(seed, clients, operations, since));
            one(suite, "names", |since| names(seed, clients, operations, since));
            one(suite, "pipes", |since| pipes::run(seed, clients, operations, since));
            one(suite, "crowd", |since| crowd::run(seed, clients.max(2), operations, told, since));
        }
        14 => {
            let since = Gauges::now();
            let step = touch::run(seed, argument.operations(TOUCH), &since);
            suite.report("touch", &since.record_with_touches(), &outcome(step));
        }
        number => suite.check("workload", |_| Err(alloc::format!("there is no workload {number}"))),
    }
}

/// A workload that is one case.
fn one(suite: &mut Suite, name: &str, body: impl FnOnce(&Gauges) -> Step) {
    let since = Gauges::now();
    let step = body(&since);
    suite.report(name, &since.record(), &outcome(step));
}

/// Does the same in one process or in several.
fn each(clients: u8, body: impl Fn(u32) -> Step) -> Step {
    if clients <= 1 {
        return body(1);
    }
    let mut children = Vec::new();
    for client in 1..=u32::from(clients) {
        children.push(member(|| body(client))?);
    }
    all_ended(&children)
}

/// Workload 9, each client on a file of its own.
fn fsx(seed: u32, clients: u8, operations: u16, since: &Gauges) -> Step {
    each(clients, |client| {
        let mut file = Fsx::new(&alloc::format!("{}/fsx{client}", requests::DIRECTORY), seed, client, since)?;
        (0..operations).try_for_each(|_| file.step(since))?;
        file.compare(since)?;
        file.end(since)
    })
}

/// Workload 11, each client in a directory of its own.
fn names(seed: u32, clients: u8, operations: u16, since: &Gauges) -> Step {
    each(clients, |client| {
        let mut names =
            Names::new(&alloc::format!("{}/names{client}", requests::DIRECTORY), seed, client, since)?;
        (0..operations).try_for_each(|_| names.step(since))?;
        names.end(since)
    })
}

/// Some of the eight requests, round after round. A case for each of them, of all rounds: the first thing that was wrong, else
/// whether any was rejected.
fn few(suite: &mut Suite, argument: Argument, requests: &mut [Box<dyn Request>]) {
    let mut cases: Vec<(Record, Outcome)> = requests.iter().map(|_| (Record::default(), Ok(None))).collect();
    for round in 0..u32::from(argument.operations(1)) {
        for (request, (record, so_far)) in requests.iter_mut().zip(&mut cases) {
            let since = Gauges::now();
            let step = again(&mut **request, round, &since);
            let here = since.record();
            record.faults = record.faults.saturating_add(here.faults);
            record.repeats = record.repeats.saturating_add(here.repeats);
            let outcome = outcome(step);
            if so_far.is_ok() && !matches!(outcome, Ok(None)) {
                *so_far = outcome;
            }
        }
    }
    for (request, (record, outcome)) in requests.iter().zip(&cases) {
        suite.report(request.name(), record, outcome);
    }
}

/// One round of a request; the first has been made ready before the mark.
fn again(request: &mut dyn Request, round: u32, since: &Gauges) -> Step {
    if round > 0 {
        request.ready(round).map_err(Trouble::from)?;
    }
    request.perform(since)
}
