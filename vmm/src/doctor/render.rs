//! The report as a table for people. Pure.

use std::fmt::Write as _;

use super::finding::State;
use super::uses::Verdict;
use super::{NOT_TRIED, Report};

/// The table, what will be used, and what to do.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let width = report.probes.iter().map(|p| p.name.len()).max().unwrap_or(0);
    let (untried, tried): (Vec<_>, Vec<_>) = report.probes.iter().partition(|p| p.detail == NOT_TRIED);
    for probe in tried {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:width$}  {:7}  {}", probe.name, word(probe.state), probe.detail);
    }
    if !untried.is_empty() {
        let names: Vec<_> = untried.iter().map(|p| p.name).collect();
        let _ = writeln!(out, "\n{NOT_TRIED}, which these need: {}", names.join(", "));
    }
    let uses = &report.uses;
    let _ = writeln!(
        out,
        "\nwill be used: mechanism {}, block engine {}, trap instruction {}; for writes alone {}",
        uses.mechanism.name(),
        uses.engine.name(),
        uses.trap_instruction.name(),
        uses.writes.name()
    );
    let _ = writeln!(out, "{}", conclusion(report.verdict()));
    let advised: Vec<_> = report.probes.iter().filter_map(|p| Some((p.name, p.advice.as_ref()?))).collect();
    if !advised.is_empty() {
        let _ = writeln!(out, "\nwhat to do:");
    }
    for (name, advice) in advised {
        let _ = writeln!(out, "  {name}: {advice}");
    }
    out
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Limited => "limited",
        State::Missing => "missing",
    }
}

fn conclusion(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ready => "guests run here, and faults can be injected",
        Verdict::NoInjection => "guests run here, but no faults can be injected",
        Verdict::NoGuest => "no guest can run here",
    }
}
