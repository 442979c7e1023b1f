//! Figures of a run, for people (`--stats`) and for programs (`--json`).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use refault_abi::doorbell::WEDGED_STATUS;
use serde::Serialize;
use serde_json::json;

use crate::doctor::host::Host;
use crate::exit_code::{self, ExitCode};
use crate::vm::outcome::Stats;
use crate::vm::{End, Outcome};

use super::Failure;

/// Schema of a single run's document.
pub const RUN_SCHEMA: &str = "refault.run/1";

/// What the run was, for its document.
#[derive(Debug, Serialize)]
pub struct Request {
    /// The complete kernel command line.
    pub command_line: String,
    /// Injection rules, as understood.
    pub rules: Vec<String>,
    /// The seed given.
    pub seed: Option<u64>,
    /// Processors.
    pub cpus: u8,
    /// RAM in bytes.
    pub memory: u64,
}

/// The document of one run.
pub fn document(request: &Request, outcome: &Outcome) -> serde_json::Value {
    let (kind, status, detail) = describe(&outcome.end);
    let events: Vec<_> = outcome
        .events
        .iter()
        .map(|e| json!({"code": e.code, "value": e.value, "at_us": e.at.as_micros() as u64}))
        .collect();
    json!({
        "schema": RUN_SCHEMA,
        "host": Host::here(),
        "request": request,
        "end": {"kind": kind, "status": status, "detail": detail},
        "exit_code": exit_code::of_end(&outcome.end),
        "stats": outcome.stats,
        "reports": outcome.reports,
        "events": events,
        "faults": outcome.faults,
    })
}

/// The end in a word, the guest's status, and a sentence.
pub fn describe(end: &End) -> (&'static str, Option<u32>, String) {
    match end {
        End::Exited(status) => ("exited", Some(*status), format!("the guest ended with status {status}")),
        End::Panicked(status) => {
            ("panicked", *status, "the guest kernel panicked; the reason is on its console".into())
        }
        End::Wedged(edges) => (
            "wedged",
            Some(WEDGED_STATUS),
            edges.iter().fold("nothing in the guest can go on; who waits for whom:".into(), |text, edge| {
                text + "\n    " + edge
            }),
        ),
        End::TimedOut(time) => (
            "timeout",
            None,
            format!(
                "the guest had not ended after {}; allow more with --timeout",
                humantime::format_duration(*time)
            ),
        ),
        End::Crashed(ending) => ("crashed", None, ending.to_string()),
        End::Failed(ending) => ("failed", None, ending.to_string()),
    }
}

/// Writes a document to `file`, or to standard output for `-`.
pub fn write_json(file: &Path, document: &impl Serialize) -> Result<(), Failure> {
    let write = |mut to: Box<dyn Write>| -> io::Result<()> {
        serde_json::to_writer_pretty(&mut to, document)?;
        writeln!(to)?;
        to.flush()
    };
    let done = match file == Path::new("-") {
        true => write(Box::new(io::stdout().lock())),
        false => File::create(file).and_then(|f| write(Box::new(io::BufWriter::new(f)))),
    };
    done.map_err(|e| {
        Failure::new(
            ExitCode::Output,
            anyhow::anyhow!("the report {} could not be written: {e}", file.display()),
        )
    })
}

/// The figures as text, one line each.
pub fn stats_text(stats: &Stats) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.push(format!("{name:<34}{value:>14}"));
    let times = &stats.times;
    for (name, value) in [
        ("first guest instruction", times.first_instruction_us),
        ("first ring-3 instruction", times.first_ring3_us),
        ("program starts", times.program_start_us),
        ("first console line", times.first_line_us),
        ("first line of the program", times.first_program_line_us),
        ("end", Some(times.end_us)),
    ] {
        line(name, value.map_or("not seen".into(), |us| format!("{:.1} ms", us as f64 / 1000.0)));
    }
    line("exits", stats.exits_total.to_string());
    for (kind, count) in stats.exits.iter().filter(|(_, count)| **count != 0) {
        line(&format!("  {kind}"), count.to_string());
    }
    if let Some(faults) = &stats.faults {
        for (name, value) in [
            ("fault sites announced", faults.sites),
            ("pages taken away", faults.armed),
            ("  touched", faults.trapped),
            ("    reflected to the guest", faults.reflected),
            ("    resolved by the host", faults.resolved),
            ("  never touched", faults.never_touched),
            ("  touched again, reflected", faults.reflected_again),
            ("  touched again, resolved", faults.resolved_again),
            ("pages asked back", faults.asked_back),
        ] {
            line(name, value.to_string());
        }
        for (name, value) in [
            ("wishes of the guest's own", faults.guest_asked),
            ("  refused", faults.guest_refused),
            ("sites refused", faults.sites_refused),
        ] {
            if value != 0 {
                line(name, value.to_string());
            }
        }
        line("sums come out", if faults.conserved() { "yes".into() } else { "NO".into() });
    }
    for cost in &stats.costs {
        line(&format!("{}, ring-0 instructions", cost.operation), cost.instructions.to_string());
    }
    for (index, disk) in stats.disks.iter().enumerate() {
        line(&format!("disk {index} ({})", disk.engine), String::new());
        for (name, value) in [
            ("reads", disk.reads),
            ("writes", disk.writes),
            ("bytes read", disk.bytes_read),
            ("bytes written", disk.bytes_written),
            ("errors", disk.errors),
            ("injected faults", disk.faults),
        ] {
            line(&format!("  {name}"), value.to_string());
        }
    }
    for (name, value) in &stats.guest {
        line(&format!("guest {name}"), value.to_string());
    }
    line("refused device accesses", stats.refused_accesses.to_string());
    lines.join("\n") + "\n"
}
