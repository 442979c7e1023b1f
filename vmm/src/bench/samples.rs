//! What the guest counted of an operation, put together with what the monitor counted.
//!
//! `sys_costs` prints a line `@cost {json}` for every sample, and the monitor has a sample for every measurement, both in
//! order: the k-th of one belongs to the k-th of the other. The one thing to hold in mind: a sample into which something
//! else fell (a heartbeat) is dropped on both sides, and sides of different lengths are an error, not a guess.

use std::collections::BTreeMap;

use refault_abi::doorbell::Measured;
use serde::Deserialize;

use crate::vcpu::measure::Cost;

/// What the guest said of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Line {
    id: u32,
    disturbed: bool,
    messages: u64,
    copies: u64,
    copy_bytes: u64,
    faults: u64,
    repeats: u64,
}

/// Everything about one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Instructions retired in ring 0, whoever was running.
    pub instructions: u64,
    /// System-call traps of all processes.
    pub kernel_entries: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Copies between processes.
    pub copies: u64,
    /// Bytes that they moved.
    pub copy_bytes: u64,
    /// Copies that met an absent page.
    pub faults: u64,
    /// Operations that VFS repeated.
    pub repeats: u64,
}

/// An operation's samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Which.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// Undisturbed samples, in order; at least one.
    pub samples: Vec<Sample>,
}

impl Operation {
    /// The sample with the fewest instructions.
    pub fn least(&self) -> Option<&Sample> {
        self.samples.iter().min_by_key(|sample| sample.instructions)
    }
}

/// Puts a console's lines and the monitor's counts together.
///
/// # Errors
/// They do not belong together, or a line cannot be read; says which.
pub fn join(console: &str, costs: &[Cost]) -> Result<Vec<Operation>, String> {
    let mut lines: BTreeMap<u32, Vec<Line>> = BTreeMap::new();
    for text in console.lines().filter_map(|line| line.trim_end().strip_prefix("@cost ")) {
        let line: Line = serde_json::from_str(text).map_err(|why| format!("{text}: {why}"))?;
        lines.entry(line.id).or_default().push(line);
    }
    let mut operations = Vec::new();
    for (id, lines) in lines {
        let known = Measured::ALL.iter().find(|(what, _)| *what as u32 == id);
        let (_, name) = known.ok_or_else(|| format!("no operation has the number {id}"))?;
        let counted = costs.iter().find(|cost| cost.id == id).map_or(&[][..], |cost| &cost.samples);
        if counted.len() != lines.len() {
            return Err(format!("{name}: {} samples counted, {} reported", counted.len(), lines.len()));
        }
        let pairs = counted.iter().zip(&lines).filter(|(_, line)| !line.disturbed);
        let samples: Vec<_> = pairs
            .map(|(counted, line)| Sample {
                instructions: counted.instructions,
                kernel_entries: counted.kernel_entries,
                messages: line.messages,
                copies: line.copies,
                copy_bytes: line.copy_bytes,
                faults: line.faults,
                repeats: line.repeats,
            })
            .collect();
        if samples.is_empty() {
            return Err(format!("{name}: every sample was disturbed"));
        }
        operations.push(Operation { id, name, samples });
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use crate::vcpu::measure;

    use super::*;

    fn cost(what: Measured, instructions: &[u64]) -> Cost {
        let sample =
            |&instructions: &u64| measure::Sample { kernel_entries: 2, instructions, string_iterations: 0 };
        let samples = instructions.iter().map(sample).collect();
        Cost {
            operation: "",
            id: what as u32,
            kernel_entries: 2,
            instructions: 0,
            string_iterations: 0,
            samples,
        }
    }

    fn line(what: Measured, disturbed: bool, messages: u64) -> String {
        format!(
            "@cost {{\"id\":{},\"disturbed\":{disturbed},\"traps\":3,\"messages\":{messages},\"copies\":1,\
             \"copy_bytes\":4096,\"faults\":0,\"repeats\":0}}\r\n",
            what as u32
        )
    }

    #[test]
    fn samples_in_order_without_the_disturbed() {
        let console = ["hello\n", &line(Measured::Read, false, 4), &line(Measured::Read, true, 9)].concat()
            + &line(Measured::Read, false, 5);
        let operations = join(&console, &[cost(Measured::Read, &[100, 900, 90])]).unwrap();
        let [read] = operations.as_slice() else { panic!("{operations:?}") };
        assert_eq!(read.name, "read of 4096 cached bytes");
        let pairs: Vec<_> = read.samples.iter().map(|s| (s.instructions, s.messages)).collect();
        assert_eq!(pairs, [(100, 4), (90, 5)]);
        assert_eq!(read.least().unwrap().messages, 5);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let read = line(Measured::Read, false, 4);
        assert!(join(&read, &[cost(Measured::Read, &[1, 2])]).unwrap_err().contains("2 samples counted"));
        assert!(join(&read, &[]).is_err());
        assert!(join(&line(Measured::Read, true, 4), &[cost(Measured::Read, &[1])]).is_err());
        assert!(join("@cost {\"id\":1}", &[]).is_err());
        let unknown = read.replace("\"id\":4", "\"id\":400");
        assert!(join(&unknown, &[]).unwrap_err().contains("400"));
        assert_eq!(join("@costs\n@case {}\n", &[]), Ok(Vec::new()));
    }
}
