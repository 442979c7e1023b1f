//! The demo as text.

use super::row::{Row, Source};
use super::{Document, earliest};

/// The whole output: what was done, the table, what else was checked.
pub fn text(document: &Document) -> String {
    let mut out = String::new();
    out.push_str(
        "A program reads 64 KiB of one file into a mapping of another. Some pages of its buffer are absent.\n\
         Before the cure (retry=efault) the read comes back short; after it, the file server repeats the read.\n\n",
    );
    out.push_str(&rows(&document.rows));
    out.push('\n');
    out.push_str(&format!(
        "second-stage: pages taken away under the guest by {} ({}); faults = page faults reflected\n",
        document.runs.iter().find_map(|r| r.stats.mechanism).unwrap_or("no mechanism"),
        document.rule
    ));
    out.push_str("first-stage:  pages of the mapping never touched before; faults = copies that met one\n");
    out.push_str(&images(document));
    let boot = earliest(&document.runs, |t| t.first_ring3_us);
    let line = earliest(&document.runs, |t| t.first_program_line_us);
    let millis = |us: Option<u64>| us.map_or("not seen".into(), |us| format!("{:.0} ms", us as f64 / 1000.0));
    out.push_str(&format!(
        "times:        first ring-3 instruction {}, first line of the program {}, everything {} ms (ring 0 {})\n",
        millis(boot),
        millis(line),
        document.wall_ms,
        serde_json::to_value(document.host.ring0).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default(),
    ));
    out
}

fn images(document: &Document) -> String {
    let same = document.runs.iter().filter(|r| r.image.identical == Some(true)).count();
    let accepted = document.runs.iter().filter(|r| r.image.fsck_accepts == Some(true)).count();
    let checked = document.runs.iter().filter(|r| r.image.fsck_accepts.is_some()).count();
    let fsck = match checked {
        0 => "fsck.minix is not installed".to_owned(),
        _ => format!("fsck.minix -f accepts {accepted} of {checked}"),
    };
    format!("disk images:  {same} of {} unchanged to the byte; {fsck}\n", document.runs.len())
}

/// The table alone.
pub fn rows(rows: &[Row]) -> String {
    const HEAD: [&str; 9] =
        ["policy", "faults from", "asked", "got", "faults", "marks", "repeats", "bytes right", "verdict"];
    let number = |n: Option<u64>| n.map_or("?".to_owned(), |n| n.to_string());
    let mut lines: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).to_vec()];
    for row in rows {
        let got = match &row.error {
            Some(error) => error.clone(),
            None => number(row.got),
        };
        let right = match (row.bytes_right, row.asked == row.got) {
            (Some(true), true) => "yes",
            (Some(true), false) => "yes, those",
            (Some(false), _) => "NO",
            (None, _) => "?",
        };
        lines.push(vec![
            format!("retry={} fs={}", row.policy, row.fs),
            row.source.name().into(),
            number(row.asked),
            got,
            number(row.faults()),
            number(row.marks),
            number(row.repeats),
            right.into(),
            row.verdict.to_string(),
        ]);
    }
    let numeric = |column: usize| (2..=6).contains(&column);
    let width =
        |column: usize| lines.iter().filter_map(|l| l.get(column)).map(|c| c.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match numeric(column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
        let next_is_other_source = rows.get(index.wrapping_sub(1)).map(|r| r.source)
            != rows.get(index).map(|r| r.source)
            && index < rows.len();
        if index == 0
            || next_is_other_source
                && index > 0
                && rows.first().map(|r| r.source) == Some(Source::SecondStage)
        {
            let total: usize = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
            out.push_str(&"-".repeat(total));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::row::Verdict;
    use super::*;

    fn row(policy: &'static str, source: Source, got: u64, verdict: Verdict) -> Row {
        Row {
            policy,
            fs: "partial",
            source,
            asked: Some(65536),
            got: Some(got),
            error: None,
            reflected: Some(3),
            soft_faults_first_stage: None,
            soft_faults_second_stage: Some(3),
            marks: Some(1),
            repeats: Some(1),
            bytes_right: Some(true),
            verdict,
        }
    }

    #[test]
    fn columns_line_up_and_sources_are_apart() {
        let text = rows(&[
            row("efault", Source::SecondStage, 3973, Verdict::Short),
            row("hardened", Source::SecondStage, 65536, Verdict::Retried),
            row("efault", Source::FirstStage, 3973, Verdict::Short),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[1].chars().all(|c| c == '-') && lines[4].chars().all(|c| c == '-'));
        let at = |line: &str, what: &str| line.find(what).unwrap() + what.len();
        assert_eq!(at(lines[2], "65536"), at(lines[3], "65536"));
        assert!(lines[2].contains("yes, those") && lines[2].ends_with("SHORT"));
        assert!(lines[5].contains(" ? "), "an absent figure is not zero: {}", lines[5]);
    }
}
