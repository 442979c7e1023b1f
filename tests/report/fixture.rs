//! A campaign's directory such as a real one could have left behind: two levels and random runs, under two policies, one of which breaks
//! its promises. Everything follows from a counter, so that the page is the same every time.

use std::path::Path;

use refault::campaign::record::{FaultTimes, RunRecord, SCHEMA, Sums};
use refault::report::read::RUNS;

/// Requests, and the side of each copy whose page is written.
const REQUESTS: [(&str, &str); 8] = [
    ("read", "granter"),
    ("write", "grantee"),
    ("bread", "granter"),
    ("bwrite", "grantee"),
    ("getdents", "granter"),
    ("rdlink", "granter"),
    ("slink", "grantee"),
    ("stat", "granter"),
];
const KINDS: [(&str, &str, u16); 4] = [
    ("once", "reflect", 1),
    ("twice", "reflect*2", 2),
    ("forever", "reflect*forever", 12),
    ("delay", "delay=2ms", 1),
];

/// Numbers that look drawn (SplitMix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    /// A time around `middle`, sometimes much longer.
    fn time(&mut self, middle: u64) -> u64 {
        let spread = middle / 2 + self.next() % middle;
        match self.next() % 60 {
            0 => spread * (4 + self.next() % 20),
            _ => spread,
        }
    }
}

/// All runs.
pub fn records() -> Vec<RunRecord> {
    let mut draw = Draw(7);
    let mut records = Vec::new();
    for words in ["retry=hardened", "retry=efault"] {
        for (request, written) in REQUESTS {
            for site in 0..24_u32 {
                for kind in KINDS {
                    records.push(aimed(&mut draw, words, (request, written), site, kind));
                }
            }
        }
    }
    records.extend((0..160).map(|index| random(&mut draw, index)));
    records
}

/// Writes the runs into two directories, as shards would.
pub fn write(directories: [&Path; 2]) {
    let lines: Vec<String> = records().iter().map(|run| serde_json::to_string(run).unwrap()).collect();
    for (shard, directory) in directories.iter().enumerate() {
        let mine: Vec<&str> = lines.iter().skip(shard).step_by(2).map(String::as_str).collect();
        std::fs::write(directory.join(RUNS), mine.join("\n") + "\n").unwrap();
    }
}

fn aimed(
    draw: &mut Draw,
    words: &str,
    (request, written): (&str, &str),
    site: u32,
    (kind, action, attempts): (&str, &str, u16),
) -> RunRecord {
    let side = if site.is_multiple_of(2) { "granter" } else { "grantee" };
    let access = if side == written { "write" } else { "read" };
    // The copier's own pages are not delayed in this campaign, and no STAT has a page for ever: cells that must be seen as empty.
    let missing = [("delay", side == "grantee"), ("forever", request == "stat")];
    let happens = !missing.contains(&(kind, true));
    let aim = format!(
        "{request} request={} copy=1 page={} attempt=1 side={side} access={access}",
        site / 8 + 1,
        site % 8
    );
    let hardened = words == "retry=hardened";
    let short =
        !hardened && matches!(request, "read" | "write") && site % 5 == 1 && happens && kind != "delay";
    let verdict = match kind {
        _ if short => "SHORT",
        _ if !happens => "PASS",
        "forever" => "REJECTED",
        "delay" => "PASS",
        _ => "RETRIED",
    };
    let timeline = if happens { timeline(draw, request, side, access, site, attempts) } else { Vec::new() };
    let given = timeline.len() as u64;
    let delayed = u64::from(kind == "delay" && happens);
    RunRecord {
        id: format!("{words}/L1/{request}/{site}/{kind}"),
        workload: request.into(),
        level: "1".into(),
        kind: kind.into(),
        rules: vec![format!("{aim}: {action}")],
        aimed: vec![aim],
        operation: request.into(),
        verdict: verdict.into(),
        violated: short.then(|| "O2".into()),
        why: match short {
            true => vec![format!(
                "{request} asked for 32768 bytes and got {}, which is not the end of the file",
                site * 1000
            )],
            false => Vec::new(),
        },
        faults: Sums {
            armed: 1,
            trapped: u64::from(happens),
            reflected: u64::from(happens) - delayed,
            delayed,
            never_touched: u64::from(!happens),
            reflected_again: given.saturating_sub(1),
            ..Sums::default()
        },
        repeats: given,
        marks: given,
        attempts,
        timeline,
        ..common(draw, words)
    }
}

fn random(draw: &mut Draw, index: u32) -> RunRecord {
    let (request, written) = REQUESTS[index as usize % REQUESTS.len()];
    let side = if draw.next().is_multiple_of(2) { "granter" } else { "grantee" };
    let access = if side == written { "write" } else { "read" };
    let mut timeline = timeline(draw, request, side, access, index, 1 + (index % 3) as u16);
    timeline.extend(self::timeline(draw, "user", "", "write", index, 1).into_iter().map(|mut fault| {
        fault.attempt = 0;
        fault
    }));
    let given = timeline.len() as u64;
    RunRecord {
        id: format!("random/{index}"),
        workload: "mix".into(),
        level: "random".into(),
        kind: "mixed".into(),
        rules: vec![format!("{request} page=last: reflect*{}", 1 + index % 3)],
        verdict: "RETRIED".into(),
        faults: Sums { armed: given, trapped: given, reflected: given, ..Sums::default() },
        repeats: given,
        marks: given,
        timeline,
        ..common(draw, "retry=hardened")
    }
}

fn common(draw: &mut Draw, words: &str) -> RunRecord {
    RunRecord {
        schema: SCHEMA.into(),
        seed: 7,
        words: words.into(),
        build: "5d1c9e40a7b3f286".into(),
        host: "Linux 6.18, kvm_example (nested), Example CPU; ring 0 interpreted".into(),
        mechanism: "uffd-poison".into(),
        restore_us: draw.time(420),
        run_us: draw.time(38_000),
        ..RunRecord::default()
    }
}

fn timeline(
    draw: &mut Draw,
    owner: &str,
    side: &str,
    access: &str,
    page: u32,
    attempts: u16,
) -> Vec<FaultTimes> {
    let mut now = 900_000 + draw.next() % 500_000;
    let mut faults = Vec::new();
    for attempt in 1..=attempts {
        let exit = now;
        let decided = exit + draw.time(21_000);
        let resumed = decided + draw.time(9_000);
        let back = resumed + draw.time(260_000);
        now = back + draw.time(640_000);
        faults.push(FaultTimes {
            sequence: faults.len() as u64 + 1,
            owner: owner.into(),
            request: page / 8 + 1,
            attempt,
            page: page % 8,
            side: side.into(),
            access: access.into(),
            exit,
            decided,
            resumed,
            // The last of a page that never comes back is not asked for again.
            back: if attempt == 12 { 0 } else { back },
        });
    }
    faults
}
