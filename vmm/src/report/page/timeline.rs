//! One retry, attempt by attempt, over time.
//!
//! The one thing to hold in mind: only faults have times. A lane begins with the first fault of its attempt, and the attempt that went
//! through without one is not drawn.

use super::text::{Escaped, count, put, time};
use crate::campaign::record::FaultTimes;
use crate::report::latency::Part;
use crate::report::numbers::Document;
use crate::report::retry::Retry;

const WIDTH: f64 = 1040.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const LANE: f64 = 30.0;
const TOP: f64 = 26.0;

/// The drawing and its figures.
pub fn section(out: &mut String, document: &Document) {
    put!(out, "<section id=\"retry\" aria-labelledby=\"retry-h\">\n<h2 id=\"retry-h\">One retry</h2>\n");
    match &document.retry {
        Some(retry) => one(out, retry),
        None => put!(
            out,
            "<p class=\"empty\">No run has an operation that met a fault in more than one attempt.</p>\n"
        ),
    }
    put!(out, "</section>\n");
}

fn one(out: &mut String, retry: &Retry) {
    put!(
        out,
        "<p>The operation that met faults in the most attempts: <b>{}</b> in run <span class=\"id\">{}</span>, {} faults in {} attempts, under \
         <code>{}</code>; verdict {}. An attempt without a fault has no times and is not drawn.</p>\n<pre class=\"rule\">{}</pre>\n",
        Escaped(&retry.operation),
        Escaped(&retry.id),
        retry.faults.len(),
        retry.attempts,
        Escaped(&retry.policy),
        Escaped(&retry.verdict),
        Escaped(retry.rules.join("\n"))
    );
    put!(out, "<figure>");
    drawing(out, retry);
    put!(
        out,
        "<figcaption class=\"key\"><span><i class=\"swatch part0\"></i> exit → decision</span>\
         <span><i class=\"swatch part1\"></i> decision → re-entry</span><span><i class=\"swatch part2\"></i> guest handling, until it asks for the page back</span>\
         <span><i class=\"swatch rest\"></i> between faults</span></figcaption></figure>\n"
    );
    put!(
        out,
        "<div class=\"scroll\"><table>\n<caption>The same in figures, from the first exit on</caption>\n<thead><tr><th scope=\"col\" class=\"n\">Attempt</th><th scope=\"col\" class=\"n\">Page</th>\
         <th scope=\"col\">Side</th><th scope=\"col\">Access</th><th scope=\"col\" class=\"n\">Exit at</th>"
    );
    for part in Part::ALL {
        put!(out, "<th scope=\"col\" class=\"n\">{}</th>", part.name());
    }
    put!(out, "</tr></thead>\n<tbody>\n");
    let start = retry.faults.first().map_or(0, |fault| fault.exit);
    for fault in &retry.faults {
        put!(
            out,
            "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td>",
            fault.attempt,
            count(fault.page.into()),
            Escaped(&fault.side),
            Escaped(&fault.access),
            time(fault.exit.saturating_sub(start))
        );
        for part in Part::ALL {
            let took = part.of(fault).ok().flatten();
            put!(out, "<td class=\"n\">{}</td>", took.map_or("never".into(), time));
        }
        put!(out, "</tr>\n");
    }
    put!(out, "</tbody></table></div>\n");
}

/// When a fault was over, as far as is known.
fn end(fault: &FaultTimes) -> u64 {
    fault.resumed.max(fault.back)
}

fn drawing(out: &mut String, retry: &Retry) {
    let start = retry.faults.first().map_or(0, |fault| fault.exit);
    let stop = retry.faults.iter().map(end).max().unwrap_or(start);
    let span = stop.saturating_sub(start).max(1);
    let scale = (WIDTH - LEFT - RIGHT) / span as f64;
    let x = |at: u64| LEFT + at.saturating_sub(start) as f64 * scale;
    let height = TOP + LANE * retry.faults.len() as f64 + 8.0;
    put!(
        out,
        "<svg class=\"retry\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Time line of {} faults in {} attempts over {}; the table below has the figures\">",
        retry.faults.len(),
        retry.attempts,
        time(span)
    );
    let unit = tick(span);
    for at in (0..=span / unit).map(|index| index * unit) {
        let x = x(start.saturating_add(at));
        put!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{height}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"16\" text-anchor=\"middle\">{}</text>",
            if at == 0 { "0".into() } else { time(at) }
        );
    }
    let mut attempt = 0;
    for (index, fault) in retry.faults.iter().enumerate() {
        let y = TOP + LANE * index as f64 + 7.0;
        let middle = y + 12.0;
        if fault.attempt != attempt {
            attempt = fault.attempt;
            put!(out, "<line class=\"lane\" x1=\"0\" y1=\"{0:.1}\" x2=\"{WIDTH}\" y2=\"{0:.1}\"/>", y - 5.0);
            put!(out, "<text class=\"attempt\" x=\"0\" y=\"{middle:.1}\">attempt {attempt}</text>");
        }
        put!(
            out,
            "<text class=\"where\" x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">page {} {}</text>",
            LEFT - 10.0,
            fault.page,
            Escaped(&fault.side)
        );
        if let Some(next) = retry.faults.get(index + 1) {
            let (from, to) = (x(end(fault)), x(next.exit));
            put!(out, "<path class=\"between\" d=\"M{from:.1} {:.1} H{to:.1} V{:.1}\"/>", y + 8.0, y + LANE);
        }
        let pieces =
            [(fault.exit, fault.decided), (fault.decided, fault.resumed), (fault.resumed, end(fault))];
        for (part, (from, to)) in pieces.into_iter().enumerate().filter(|(_, (from, to))| from < to) {
            let (left, right) = (x(from), x(to));
            put!(
                out,
                "<rect class=\"part{part}\" x=\"{left:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"16\"/>",
                (right - left).max(1.5)
            );
        }
        put!(
            out,
            "<text class=\"took\" x=\"{:.1}\" y=\"{middle:.1}\">{}</text>",
            x(end(fault)).max(x(fault.exit) + 3.0) + 6.0,
            time(end(fault).saturating_sub(fault.exit))
        );
    }
    put!(out, "</svg>");
}

/// A distance of ticks: 1, 2 or 5 of a power of ten, so that there are four to ten.
fn tick(span: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for times in [1, 2, 5] {
            let tick = unit.saturating_mul(times);
            if span / tick < 8 {
                return tick;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_some_ticks_and_not_many() {
        for span in [1, 7, 8, 99, 12_345, 1_000_000_007, u64::MAX] {
            let ticks = span / tick(span);
            assert!(ticks < 8 && (ticks >= 3 || span < 8), "{span}: {ticks}");
        }
    }
}
