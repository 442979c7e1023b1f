//! O10: the history of several clients can be put in an order.
//!
//! Each slot is a register; every write puts a value into it that no other write does, and 0 is there at first. Such a history is
//! linearizable exactly if (Gibbons and Korach, 1997) no read is of a value that nobody wrote or that was written later, and the
//! *zones* of values go together. The operations of one value, its write and all reads of it, have to stand next to one another in
//! any order; between the first return among them and the last call that place is forced: a forward zone, if the return is first; else
//! they overlap all, and could stand at any one point of their backward zone. No two forward zones may overlap, and no backward zone
//! may lie within a forward one. Sorting is all it takes.
//!
//! A write that failed may have happened at any time after its call, or never: it counts if somebody read its value. A read that
//! failed says nothing. It needs clocks of all clients that agree: the time stamp counter of one machine.

use std::collections::{BTreeMap, HashMap};

use crate::suite::verdict::Verdict;

use super::told::{Op, OpKind};
use super::{Evidence, Finding, Oracle};

/// Looks at the history.
pub fn check(evidence: &Evidence<'_>) -> Vec<Finding> {
    let wrong = unordered(&evidence.told.ops);
    wrong.into_iter().map(|why| Finding::new(Oracle::Order, Verdict::Corrupt, why)).collect()
}

/// The operations of one value.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    value: u64,
    written: Option<Op>,
    first_return: u64,
    last_call: u64,
    reads: u32,
    earliest_read_return: u64,
}

impl Cluster {
    fn of(value: u64) -> Self {
        Self {
            value,
            written: None,
            first_return: u64::MAX,
            last_call: 0,
            reads: 0,
            earliest_read_return: u64::MAX,
        }
    }

    fn is_forward(&self) -> bool {
        self.first_return < self.last_call
    }
}

/// Why a history cannot be put in an order, a sentence for each slot that cannot; empty if it can.
pub fn unordered(ops: &[Op]) -> Vec<String> {
    let mut slots: BTreeMap<u32, Vec<Op>> = BTreeMap::new();
    for op in ops {
        slots.entry(op.slot).or_default().push(*op);
    }
    slots
        .into_iter()
        .filter_map(|(slot, ops)| register(&ops).err().map(|why| format!("slot {slot}: {why}")))
        .collect()
}

fn register(ops: &[Op]) -> Result<(), String> {
    let mut clusters: HashMap<u64, Cluster> = HashMap::new();
    // What is there at first was written before everything.
    let first = Op { client: 0, kind: OpKind::Write, slot: 0, value: 0, call: 0, returned: 0, ok: true };
    clusters.insert(0, Cluster { written: Some(first), first_return: 0, ..Cluster::of(0) });
    for op in ops {
        if op.ok && op.returned < op.call {
            return Err(format!("client {} returned before it was called: {op:?}", op.client));
        }
        if !op.ok && op.kind == OpKind::Read {
            continue;
        }
        let cluster = clusters.entry(op.value).or_insert(Cluster::of(op.value));
        cluster.last_call = cluster.last_call.max(op.call);
        if op.ok {
            cluster.first_return = cluster.first_return.min(op.returned);
        }
        match op.kind {
            OpKind::Write if cluster.written.replace(*op).is_some() => {
                return Err(format!("{} was written twice, so the history says nothing", op.value));
            }
            OpKind::Write => {}
            OpKind::Read => {
                cluster.reads = cluster.reads.saturating_add(1);
                cluster.earliest_read_return = cluster.earliest_read_return.min(op.returned);
            }
        }
    }
    let mut forward = Vec::new();
    let mut backward = Vec::new();
    for cluster in clusters.into_values() {
        let value = cluster.value;
        let Some(written) = cluster.written else {
            return Err(format!("{value} was read, and nobody wrote it"));
        };
        if cluster.earliest_read_return < written.call {
            return Err(format!("{value} was read before it was written"));
        }
        if !written.ok && cluster.reads == 0 {
            continue;
        }
        if cluster.is_forward() { forward.push(cluster) } else { backward.push(cluster) }
    }
    forward.sort_by_key(|cluster| cluster.first_return);
    for pair in forward.windows(2) {
        if let [one, other] = pair
            && other.first_return < one.last_call
        {
            return Err(format!(
                "{} was still there at {} after {} had come at {}",
                one.value, one.last_call, other.value, other.first_return
            ));
        }
    }
    for inner in backward {
        // The only forward zone that can hold it is the last one that begins before it.
        let before = forward.partition_point(|zone| zone.first_return < inner.last_call);
        let outer = before.checked_sub(1).and_then(|at| forward.get(at));
        if let Some(outer) = outer.filter(|outer| inner.first_return < outer.last_call) {
            return Err(format!(
                "{} came and went while {} was there, from {} to {}",
                inner.value, outer.value, outer.first_return, outer.last_call
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
