//! The parts of a page that are words and tables: head, verdicts, failures, rates, foot.

use std::collections::BTreeSet;

use super::charts;
use super::text::{Escaped, count, put, several, three, time};
use crate::report::coverage::State;
use crate::report::distribution::Distribution;
use crate::report::numbers::{Document, Failure, HARMLESS, VIOLATIONS};

/// Failures that are shown; the JSON document has all of them.
const SHOWN: usize = 100;
/// Of these, failures that are seen without asking for more.
const OPEN: usize = 4;

/// Title, what the runs were made with, and the sums in large.
pub fn head(out: &mut String, document: &Document) {
    let violations = document.failures.len() as u64;
    let (class, mark, word) = match violations {
        0 => ("good", "✓", "no violation".to_owned()),
        n => ("bad", "✗", several(n, "violation", "violations")),
    };
    put!(out, "<header>\n<p class=\"brand\">refault</p>\n<h1>Campaign report</h1>\n");
    put!(
        out,
        "<p class=\"outcome {class}\"><span aria-hidden=\"true\">{mark}</span> {word} in {}</p>\n",
        several(document.runs, "run", "runs")
    );
    put!(
        out,
        "<nav aria-label=\"Sections\"><a href=\"#verdicts\">Verdicts</a><a href=\"#failures\">Failures</a>\
         <a href=\"#coverage\">Coverage</a><a href=\"#latency\">Latency</a><a href=\"#retry\">One retry</a>\
         <a href=\"#rates\">Rates</a></nav>\n</header>\n<main>\n"
    );
    let sum = |of: fn(&crate::report::coverage::Matrix) -> u64| document.coverage.iter().map(of).sum::<u64>();
    let cells = |state| document.coverage.iter().map(|matrix| matrix.count(state)).sum::<usize>() as u64;
    let (visited, empty) = (cells(State::Visited), cells(State::Missed) + cells(State::Gap));
    put!(out, "<dl class=\"figures\">\n");
    for (name, value, note) in [
        ("Runs", count(document.runs), several(document.made.policies.len() as u64, "policy", "policies")),
        (
            "Faults given",
            count(document.given),
            format!("from {} taken away", several(document.faults.armed, "page", "pages")),
        ),
        (
            "Operations repeated",
            count(document.repeats),
            several(document.marks, "mark stored", "marks stored"),
        ),
        (
            "Sites visited",
            count(sum(|m| m.sites_visited)),
            match sum(|m| m.pairs_aimed) {
                0 => format!("of {} aimed at", count(sum(|m| m.sites_aimed))),
                pairs => format!(
                    "of {}; {} of {} pairs",
                    count(sum(|m| m.sites_aimed)),
                    count(sum(|m| m.pairs_visited)),
                    count(pairs)
                ),
            },
        ),
        (
            "Matrix cells visited",
            count(visited),
            format!("of {}; {} empty", count(visited + empty), count(empty)),
        ),
    ] {
        put!(out, "<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>\n");
    }
    put!(out, "</dl>\n<dl class=\"made\">\n");
    let made = &document.made;
    for (name, values) in [
        ("Host", &made.hosts),
        ("Mechanism", &made.mechanisms),
        ("Guest build", &made.builds),
        ("Policy", &made.policies),
        ("Level", &made.levels),
        ("Workload", &made.workloads),
    ] {
        put!(out, "<div><dt>{name}</dt><dd>{}</dd></div>\n", listed(values));
    }
    put!(out, "<div><dt>Seed</dt><dd>{}</dd></div>\n", seeds(&made.seeds));
    let sources: BTreeSet<String> = document.sources.iter().map(|path| path.display().to_string()).collect();
    put!(out, "<div><dt>Read from</dt><dd>{}</dd></div>\n</dl>\n", listed(&sources));
    for (what, several_of) in [("host", made.hosts.len()), ("guest build", made.builds.len())] {
        if several_of > 1 {
            put!(
                out,
                "<p class=\"note warn\"><strong>More than one {what}.</strong> Times of different ones are in the same \
                 distributions below; look at one of them at a time before you compare times.</p>\n"
            );
        }
    }
    if document.repeated_lines > 0 {
        let lines = several(document.repeated_lines as u64, "line", "lines");
        put!(out, "<p class=\"note\">{lines} repeated a run word for word and were left out.</p>\n");
    }
    for file in &document.cut_off {
        put!(
            out,
            "<p class=\"note\">The last line of <code>{}</code> was cut off, as when a campaign is killed; it was left out.</p>\n",
            Escaped(file.display())
        );
    }
}

/// At most a dozen values.
fn listed(values: &BTreeSet<String>) -> String {
    const MOST: usize = 12;
    let mut out = String::new();
    for value in values.iter().take(MOST) {
        match value.is_empty() {
            true => put!(out, "<span class=\"value none\">not stated</span> "),
            false => put!(out, "<span class=\"value\">{}</span> ", Escaped(value)),
        }
    }
    if values.len() > MOST {
        put!(out, "and {} more", values.len() - MOST);
    }
    out
}

fn seeds(seeds: &BTreeSet<u64>) -> String {
    let value = |seed: &u64| format!("<span class=\"value\">{seed}</span>");
    match (seeds.first(), seeds.last()) {
        (Some(first), Some(last)) if seeds.len() > 6 => {
            format!("{} of them, {} to {}", count(seeds.len() as u64), value(first), value(last))
        }
        _ => seeds.iter().map(value).collect::<Vec<_>>().join(" "),
    }
}

/// The class, the sign and the meaning of a verdict.
fn look(verdict: &str) -> (&'static str, &'static str, &'static str) {
    match verdict {
        "PASS" => ("pass", "✓", "everything as without faults"),
        "RETRIED" => ("retried", "↻", "passed, after repeating"),
        "REJECTED" => ("rejected", "⊘", "the defined error"),
        "SKIP" => ("skip", "–", "not judged"),
        "SHORT" => ("broken", "✗", "a partial result escaped"),
        "CORRUPT" => ("broken", "✗", "a byte was wrong"),
        "LEAK" => ("broken", "✗", "something was not given back"),
        "WEDGED" => ("broken", "✗", "nothing could go on"),
        "CRASH" => ("broken", "✗", "kernel or server died"),
        "FAILED" => ("broken", "✗", "the workload's own check failed"),
        _ => ("broken", "✗", "not known to this program"),
    }
}

/// How many runs ended how, with a bar for each policy.
pub fn verdicts(out: &mut String, document: &Document) {
    put!(
        out,
        "<section id=\"verdicts\" aria-labelledby=\"verdicts-h\">\n<h2 id=\"verdicts-h\">Verdicts</h2>\n"
    );
    let found: BTreeSet<&str> =
        document.verdicts.iter().flat_map(|v| v.counts.keys().map(String::as_str)).collect();
    let known: Vec<&str> = HARMLESS.iter().chain(&VIOLATIONS).copied().collect();
    let unknown = found.iter().copied().filter(|verdict| !known.contains(verdict));
    // The main ones always, so that none of them is a figure too; the others as they occur.
    let shown =
        |verdict: &&str| found.contains(verdict) || VIOLATIONS.contains(verdict) || *verdict == "PASS";
    let columns: Vec<&str> = known.iter().copied().filter(shown).chain(unknown).collect();
    put!(
        out,
        "<div class=\"scroll\"><table class=\"verdicts\">\n<caption>Runs by policy and verdict</caption>\n<thead><tr><th scope=\"col\">Policy</th>"
    );
    for verdict in &columns {
        let (class, sign, meaning) = look(verdict);
        put!(
            out,
            "<th scope=\"col\" class=\"n\" title=\"{meaning}\"><span class=\"sign {class}\" aria-hidden=\"true\">{sign}</span> {}</th>",
            Escaped(verdict)
        );
    }
    put!(
        out,
        "<th scope=\"col\" class=\"n\">Runs</th><th scope=\"col\" class=\"share\">Shares</th></tr></thead>\n<tbody>\n"
    );
    for policy in &document.verdicts {
        put!(out, "<tr><th scope=\"row\"><code>{}</code></th>", Escaped(&policy.policy));
        for verdict in &columns {
            let runs = policy.counts.get(*verdict).copied().unwrap_or(0);
            let class = match (runs, look(verdict).0) {
                (0, _) => "n zero",
                (_, "broken") => "n broken",
                _ => "n",
            };
            put!(out, "<td class=\"{class}\">{}</td>", count(runs));
        }
        put!(
            out,
            "<td class=\"n total\">{}</td><td class=\"share\"><svg class=\"bar\" viewBox=\"0 0 200 12\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
            count(policy.runs)
        );
        let mut x = 0.0;
        for verdict in &columns {
            let runs = policy.counts.get(*verdict).copied().unwrap_or(0);
            let width = runs as f64 * 200.0 / policy.runs.max(1) as f64;
            if runs > 0 {
                put!(
                    out,
                    "<rect class=\"{}\" x=\"{x:.2}\" y=\"0\" width=\"{:.2}\" height=\"12\"/>",
                    look(verdict).0,
                    width.max(1.5)
                );
            }
            x += width;
        }
        put!(out, "</svg></td></tr>\n");
    }
    put!(out, "</tbody></table></div>\n<p class=\"key\">");
    for verdict in columns {
        let (class, sign, meaning) = look(verdict);
        put!(
            out,
            "<span><span class=\"sign {class}\" aria-hidden=\"true\">{sign}</span> <b>{}</b> {meaning}</span> ",
            Escaped(verdict)
        );
    }
    put!(out, "</p>\n</section>\n");
}

/// Runs that broke a promise: rule, reason, command.
pub fn failures(out: &mut String, document: &Document) {
    put!(
        out,
        "<section id=\"failures\" aria-labelledby=\"failures-h\">\n<h2 id=\"failures-h\">Failures</h2>\n"
    );
    if document.failures.is_empty() {
        put!(out, "<p class=\"empty\">No run broke a promise.</p>\n");
    }
    if document.failures.len() > SHOWN {
        put!(
            out,
            "<p>The first {SHOWN} of {}; the JSON document has all of them.</p>\n",
            count(document.failures.len() as u64)
        );
    }
    let shown = document.failures.get(..SHOWN).unwrap_or(&document.failures);
    let (first, rest) = shown.split_at(shown.len().min(OPEN));
    list(out, first);
    if !rest.is_empty() {
        put!(
            out,
            "<details><summary>{}</summary>\n",
            several(rest.len() as u64, "more failure", "more failures")
        );
        list(out, rest);
        put!(out, "</details>\n");
    }
    put!(out, "</section>\n");
}

fn list(out: &mut String, failures: &[Failure]) {
    put!(out, "<ol class=\"failures\">\n");
    failures.iter().for_each(|failure| one_failure(out, failure));
    put!(out, "</ol>\n");
}

fn one_failure(out: &mut String, failure: &Failure) {
    let (class, sign, meaning) = look(&failure.verdict);
    put!(
        out,
        "<li><h3><span class=\"badge {class}\" title=\"{meaning}\">{sign} {}</span> <span class=\"id\">{}</span>",
        Escaped(&failure.verdict),
        Escaped(&failure.id)
    );
    if let Some(oracle) = &failure.violated {
        put!(out, " <span class=\"oracle\">{}</span>", Escaped(oracle));
    }
    put!(
        out,
        "</h3><p class=\"context\"><code>{}</code> · workload {} · seed {}</p>",
        Escaped(&failure.policy),
        Escaped(&failure.workload),
        failure.seed
    );
    for why in &failure.why {
        put!(out, "<p class=\"why\">{}</p>", Escaped(why));
    }
    put!(out, "<pre class=\"rule\">{}</pre>", Escaped(failure.rules.join("\n")));
    put!(out, "<pre class=\"command\">{}</pre></li>\n", Escaped(&failure.replay));
}

/// Throughput, restore times, lengths of runs.
pub fn rates(out: &mut String, document: &Document) {
    put!(
        out,
        "<section id=\"rates\" aria-labelledby=\"rates-h\">\n<h2 id=\"rates-h\">Rates</h2>\n\
         <p>Per second of one machine: the time that it spent in runs and in being put back. Several machines at once do as many \
         times that as the host has processors to spare.</p>\n<div class=\"scroll\"><table>\n<caption>Throughput</caption>\n<thead><tr><th scope=\"col\">Level</th>\
         <th scope=\"col\" class=\"n\">Runs</th><th scope=\"col\" class=\"n\">Faults</th><th scope=\"col\" class=\"n\">Machine time</th>\
         <th scope=\"col\" class=\"n\">Runs / s</th><th scope=\"col\" class=\"n\">Faults / s</th></tr></thead>\n<tbody>\n"
    );
    for row in &document.throughput {
        put!(
            out,
            "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            Escaped(&row.level),
            count(row.runs),
            count(row.faults),
            time(row.machine_us.saturating_mul(1000)),
            three(row.runs_per_second),
            three(row.faults_per_second)
        );
    }
    put!(out, "</tbody></table></div>\n");
    let in_ns = |distribution: &Option<Distribution>| distribution.as_ref().map(charts::from_microseconds);
    let rows: Vec<(&str, Distribution)> = [
        ("put a machine back", in_ns(&document.restore_us)),
        ("a run, from there to its end", in_ns(&document.run_us)),
    ]
    .into_iter()
    .filter_map(|(name, distribution)| Some((name, distribution?)))
    .collect();
    let rows: Vec<(&str, &Distribution)> =
        rows.iter().map(|(name, distribution)| (*name, distribution)).collect();
    charts::table(out, "Times of runs", "What", &rows);
    put!(out, "</section>\n");
}

/// The end of the page.
pub fn foot(out: &mut String, document: &Document) {
    put!(
        out,
        "</main>\n<footer><p>Made by <code>refault report</code> {} from {}. Times are those of the host named above, under the load \
         it had. This file is complete in itself: it loads nothing and runs nothing.</p></footer>\n",
        env!("CARGO_PKG_VERSION"),
        several(document.runs, "record", "records")
    );
}
