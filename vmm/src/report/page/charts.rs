//! Histograms over a logarithmic axis, one above the other, with their quantiles beside them.
//!
//! The one thing to hold in mind: all rows of a table share one axis, so that a shift to the right is a longer time.

use super::text::{Escaped, count, put, time};
use crate::report::distribution::{Distribution, PER_DECADE, edge};
use crate::report::latency::{Latency, Part};
use crate::report::numbers::Document;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 34.0;

/// Latencies, a table for each mechanism and part.
pub fn section(out: &mut String, document: &Document) {
    put!(
        out,
        "<section id=\"latency\" aria-labelledby=\"latency-h\">\n<h2 id=\"latency-h\">Fault latency</h2>\n"
    );
    if document.latency.is_empty() {
        put!(out, "<p class=\"empty\">No record has the times of a fault.</p>\n");
    } else {
        put!(
            out,
            "<p>Three parts of a fault, by whose copy it fell into. Buckets are eighths of a power of ten; bars are shares of their \
             row; the ticks are p50, p99 and the maximum.</p>\n"
        );
    }
    for group in document.latency.chunk_by(|a, b| (&a.mechanism, a.part) == (&b.mechanism, b.part)) {
        let Some(Latency { mechanism, part, .. }) = group.first() else { continue };
        if *part == Part::ExitToDecision {
            put!(
                out,
                "<h3 class=\"mechanism\">Pages taken away by <code>{}</code></h3>\n",
                Escaped(mechanism)
            );
        }
        let rows: Vec<(&str, &Distribution)> =
            group.iter().map(|latency| (latency.owner.as_str(), &latency.ns)).collect();
        table(out, &format!("<b>{}</b> <span>{}</span>", part.name(), part.about()), "Owner", &rows);
    }
    if document.contradicting > 0 {
        put!(
            out,
            "<p class=\"note warn\">{} faults have times that contradict each other; they are in none of these figures.</p>\n",
            count(document.contradicting)
        );
    }
    put!(out, "</section>\n");
}

/// A distribution of microseconds as one of nanoseconds, bucket by bucket.
pub fn from_microseconds(us: &Distribution) -> Distribution {
    let ns = |us: u64| us.saturating_mul(1000);
    let mut out = us.clone();
    for value in [&mut out.min, &mut out.p50, &mut out.p90, &mut out.p99, &mut out.p999, &mut out.max] {
        *value = ns(*value);
    }
    for bucket in &mut out.buckets {
        bucket.number = bucket.number.saturating_add(3 * PER_DECADE);
        (bucket.from, bucket.to) = (bucket.from * 1e3, bucket.to * 1e3);
    }
    out
}

/// Rows of nanoseconds with a shared axis. `caption` is HTML, names are not.
pub fn table(out: &mut String, caption: &str, head: &str, rows: &[(&str, &Distribution)]) {
    let Some(axis) = Axis::over(rows.iter().map(|(_, distribution)| *distribution)) else { return };
    put!(
        out,
        "<div class=\"scroll\"><table class=\"dist\">\n<caption>{caption}</caption>\n<thead><tr><th scope=\"col\">{head}</th><th scope=\"col\" class=\"n\">n</th>"
    );
    for quantile in ["p50", "p90", "p99", "p99.9", "max"] {
        put!(out, "<th scope=\"col\" class=\"n\">{quantile}</th>");
    }
    put!(out, "<th scope=\"col\" class=\"plot\">{}</th></tr></thead>\n<tbody>\n", axis.labels());
    for (name, d) in rows {
        put!(out, "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td>", Escaped(name), count(d.n));
        for value in [d.p50, d.p90, d.p99, d.p999, d.max] {
            put!(out, "<td class=\"n\">{}</td>", time(value));
        }
        put!(out, "<td class=\"plot\">{}</td></tr>\n", axis.plot(name, d));
    }
    put!(out, "</tbody></table></div>\n");
}

/// A logarithmic axis of whole powers of ten.
struct Axis {
    first: u32,
    last: u32,
}

impl Axis {
    fn over<'a>(distributions: impl Iterator<Item = &'a Distribution>) -> Option<Self> {
        let numbers: Vec<u32> =
            distributions.flat_map(|d| d.buckets.iter().map(|bucket| bucket.number)).collect();
        let first = numbers.iter().min()? / PER_DECADE;
        let last = (numbers.iter().max()? / PER_DECADE).saturating_add(1);
        Some(Self { first, last })
    }

    fn x(&self, value: f64) -> f64 {
        let decades = f64::from(self.last.saturating_sub(self.first).max(1));
        ((value.max(1.0).log10() - f64::from(self.first)) / decades * WIDTH).clamp(0.0, WIDTH)
    }

    fn decades(&self) -> impl Iterator<Item = (f64, u64)> {
        (self.first..=self.last).map(|power| (self.x(edge(power * PER_DECADE)), 10_u64.saturating_pow(power)))
    }

    fn labels(&self) -> String {
        let mut out = String::new();
        put!(
            out,
            "<svg class=\"axis\" viewBox=\"0 0 {WIDTH} 16\" role=\"img\" aria-label=\"logarithmic axis of time\">"
        );
        for (x, ns) in self.decades() {
            let anchor = match x {
                x if x < 1.0 => "start",
                x if x > WIDTH - 1.0 => "end",
                _ => "middle",
            };
            put!(out, "<text x=\"{x:.1}\" y=\"12\" text-anchor=\"{anchor}\">{}</text>", round(ns));
        }
        put!(out, "</svg>");
        out
    }

    fn plot(&self, name: &str, d: &Distribution) -> String {
        let mut out = String::new();
        put!(
            out,
            "<svg class=\"hist\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Histogram of {}: {} samples from {} to {}, median {}\">",
            Escaped(name),
            d.n,
            time(d.min),
            time(d.max),
            time(d.p50)
        );
        for (x, _) in self.decades() {
            put!(out, "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{HEIGHT}\"/>");
        }
        let most = d.buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1).max(1) as f64;
        for bucket in &d.buckets {
            let (from, to) = (self.x(bucket.from), self.x(bucket.to));
            // A bucket of one sample in a million is still seen.
            let height = (bucket.count as f64 / most * (HEIGHT - 4.0)).max(1.5);
            put!(
                out,
                "<rect class=\"sample\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"><title>{} to {}: {}</title></rect>",
                from + 0.5,
                HEIGHT - height,
                (to - from - 1.0).max(1.0),
                time(bucket.from as u64),
                time(bucket.to as u64),
                count(bucket.count)
            );
        }
        for (class, value) in [("p50", d.p50), ("p99", d.p99), ("max", d.max)] {
            let x = self.x(value as f64);
            put!(out, "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{HEIGHT}\"/>");
        }
        put!(out, "</svg>");
        out
    }
}

/// A power of ten as an axis says it.
fn round(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::distribution::Collector;

    fn of(values: &[u64]) -> Distribution {
        values.iter().copied().collect::<Collector>().finish().unwrap()
    }

    #[test]
    fn the_axis_covers_all_rows_and_keeps_their_order() {
        let (a, b) = (of(&[120, 5_000]), of(&[70_000]));
        let axis = Axis::over([&a, &b].into_iter()).unwrap();
        assert_eq!((axis.first, axis.last), (2, 5));
        assert!(axis.x(100.0) < 0.01 && (axis.x(100_000.0) - WIDTH).abs() < 0.01);
        assert!((axis.x(1_000.0) - WIDTH / 3.0).abs() < 0.01);
        assert!(Axis::over(std::iter::empty()).is_none());
        let one = of(&[u64::MAX, 0]);
        assert!(Axis::over([&one].into_iter()).unwrap().plot("x", &one).contains("max"));
    }

    #[test]
    fn microseconds_become_nanoseconds_in_the_same_place() {
        let (us, ns) = (from_microseconds(&of(&[7, 12, 5_000])), of(&[7_000, 12_000, 5_000_000]));
        assert_eq!((us.min, us.max, us.n), (ns.min, ns.max, ns.n));
        // Quantiles are right to a thousandth, in either unit.
        assert!(us.p50.abs_diff(ns.p50) <= ns.p50 / 1000);
        let numbers = |d: &Distribution| {
            d.buckets.iter().map(|bucket| (bucket.number, bucket.count)).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&us), numbers(&ns));
    }
}
