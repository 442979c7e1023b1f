//! The one repeated operation that a report draws, attempt by attempt.
//!
//! The one thing to hold in mind: the faults of one request are a retry, wherever they stand among those of other clients. Lines of old
//! records do not say the request; there a retry is read off the order: faults of one operation whose attempts do not fall, from the
//! first attempt on.

use serde::{Deserialize, Serialize};

use crate::campaign::record::{FaultTimes, RunRecord};

use super::latency::Part;
use super::numbers::is_violation;

/// More faults than this do not fit a drawing that anybody can read.
const FAULTS_MAX: usize = 16;

/// A repeated operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// The run.
    pub id: String,
    /// Its rules.
    pub rules: Vec<String>,
    /// Its verdict.
    pub verdict: String,
    /// The kernel's words.
    pub policy: String,
    /// The operation.
    pub operation: String,
    /// How many attempts had a fault.
    pub attempts: usize,
    /// The faults, in order.
    pub faults: Vec<FaultTimes>,
}

/// The retry with the most attempts that can be drawn: one of a run without a violation, if there is any, and the first of equals.
pub fn longest(records: &[RunRecord]) -> Option<Retry> {
    let mut best: Option<((bool, usize), &RunRecord, Vec<&FaultTimes>)> = None;
    for record in records {
        for faults in retries(&record.timeline) {
            let rank = (!is_violation(record), attempts(&faults));
            if rank.1 > 1 && best.as_ref().is_none_or(|(other, ..)| rank > *other) {
                best = Some((rank, record, faults));
            }
        }
    }
    let ((_, attempts), record, faults) = best?;
    Some(Retry {
        id: record.id.clone(),
        rules: record.rules.clone(),
        verdict: record.verdict.clone(),
        policy: record.words.clone(),
        operation: faults.first()?.owner.clone(),
        attempts,
        faults: faults.into_iter().cloned().collect(),
    })
}

/// The retries of a time line that can be drawn.
fn retries(timeline: &[FaultTimes]) -> Vec<Vec<&FaultTimes>> {
    let mut timeline: Vec<&FaultTimes> = timeline.iter().collect();
    // Stable: the faults of a request stay in order, and those of which the request is not known stay where they are.
    timeline.sort_by_key(|fault| match fault.request {
        0 => (0, ""),
        request => (request, fault.owner.as_str()),
    });
    let goes_on = |a: &&FaultTimes, b: &&FaultTimes| {
        (a.request, &a.owner) == (b.request, &b.owner)
            && a.attempt != 0
            && b.attempt >= a.attempt
            && b.exit >= a.resumed
    };
    let can_be_drawn = |faults: &&[&FaultTimes]| {
        faults.len() <= FAULTS_MAX
            && faults.first().is_some_and(|fault| fault.attempt == 1)
            && faults.iter().all(|fault| Part::ALL.iter().all(|part| part.of(fault).is_ok()))
    };
    timeline.chunk_by(goes_on).filter(can_be_drawn).map(<[_]>::to_vec).collect()
}

fn attempts(faults: &[&FaultTimes]) -> usize {
    faults.chunk_by(|a, b| a.attempt == b.attempt).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(of: &[(&str, u16)]) -> Vec<FaultTimes> {
        let fault = |(&(owner, attempt), at): (&(&str, u16), u64)| FaultTimes {
            owner: owner.into(),
            attempt,
            exit: at * 100,
            decided: at * 100 + 1,
            resumed: at * 100 + 2,
            back: at * 100 + 50,
            ..FaultTimes::default()
        };
        of.iter().zip(1..).map(fault).collect()
    }

    fn record(id: &str, verdict: &str, of: &[(&str, u16)]) -> RunRecord {
        RunRecord { id: id.into(), verdict: verdict.into(), timeline: faults(of), ..RunRecord::default() }
    }

    #[test]
    fn the_longest_of_the_innocent_is_drawn() {
        let records = [
            record("one", "PASS", &[("read", 1)]),
            record(
                "two",
                "RETRIED",
                &[("stat", 1), ("read", 1), ("read", 1), ("read", 2), ("read", 3), ("read", 1)],
            ),
            record("guilty", "SHORT", &[("read", 1), ("read", 2), ("read", 3), ("read", 4)]),
        ];
        let retry = longest(&records).unwrap();
        assert_eq!((retry.id.as_str(), retry.attempts, retry.faults.len()), ("two", 3, 4));
        assert_eq!(longest(&records[2..]).unwrap().attempts, 4);
        assert_eq!(longest(&records[..1]), None);
    }

    #[test]
    fn requests_are_told_apart_and_put_together() {
        let of = [("read", 1), ("read", 1), ("read", 2), ("read", 2), ("read", 3)];
        let mut crowd = record("crowd", "RETRIED", &of);
        for (fault, request) in crowd.timeline.iter_mut().zip([7, 9, 7, 9, 7]) {
            fault.request = request;
        }
        let retry = longest(std::slice::from_ref(&crowd)).unwrap();
        assert_eq!((retry.attempts, retry.faults.len()), (3, 3));
        assert!(retry.faults.iter().all(|fault| fault.request == 7), "{:?}", retry.faults);
        // The first attempts of two requests are no retry.
        crowd.timeline.truncate(2);
        crowd.timeline[1].attempt = 2;
        assert_eq!(longest(&[crowd]), None);
    }

    #[test]
    fn lines_without_requests_can_be_read() {
        let mut line =
            serde_json::to_value(FaultTimes { attempt: 2, request: 5, ..FaultTimes::default() }).unwrap();
        line.as_object_mut().unwrap().remove("request").unwrap();
        let read: FaultTimes = serde_json::from_value(line).unwrap();
        assert_eq!((read.attempt, read.request), (2, 0));
    }

    #[test]
    fn what_cannot_be_drawn_is_not() {
        // Without its first attempt, of no operation, with too many faults, with times that contradict each other.
        let forever: Vec<_> = (1..=FAULTS_MAX as u16 + 1).map(|attempt| ("read", attempt)).collect();
        let mut crooked = record("d", "PASS", &[("read", 1), ("read", 2)]);
        crooked.timeline[1].back = 1;
        let records = [
            record("a", "PASS", &[("read", 2), ("read", 3)]),
            record("b", "PASS", &[("user", 0), ("user", 0)]),
            record("c", "REJECTED", &forever),
            crooked,
        ];
        assert_eq!(longest(&records), None);
    }
}
