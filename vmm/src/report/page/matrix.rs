//! The coverage matrix as a heat map.
//!
//! The one thing to hold in mind: colour says nothing that a number, a sign or a pattern does not say too, so that the page reads
//! the same in print and for people who see no colours.

use super::text::{Escaped, count, put, several};
use crate::report::coverage::{COMBINATIONS, Cell, Matrix, State};
use crate::report::numbers::Document;

/// Steps of the scale.
const STEPS: u64 = 6;

/// All matrices.
pub fn section(out: &mut String, document: &Document) {
    put!(
        out,
        "<section id=\"coverage\" aria-labelledby=\"coverage-h\">\n<h2 id=\"coverage-h\">Coverage</h2>\n\
         <p>Runs in which a fault happened at a request's copy: on which side, in which access, in which kind. A run that was aimed at a \
         site and touched no page visited nothing.</p>\n"
    );
    let most =
        document.coverage.iter().flat_map(|matrix| &matrix.cells).map(|cell| cell.visited).max().unwrap_or(0);
    document.coverage.iter().for_each(|matrix| one(out, matrix, most));
    put!(out, "<p class=\"key heatkey\"><span>fewer <span class=\"scale\" aria-hidden=\"true\">");
    for step in 1..=STEPS {
        put!(out, "<i class=\"h{step}\"></i>");
    }
    put!(
        out,
        "</span> more runs</span><span><i class=\"gap\" aria-hidden=\"true\">○</i> there are sites, nobody tried this kind</span>\
         <span><i class=\"missed\" aria-hidden=\"true\">◌</i> aimed at, no fault happened</span>\
         <span><i class=\"h3 hit\" aria-hidden=\"true\">9<b>✗</b></i> with violations</span>\
         <span><i class=\"nosite\" aria-hidden=\"true\"></i> no site ever seen</span></p>\n</section>\n"
    );
}

fn one(out: &mut String, matrix: &Matrix, most: u64) {
    let (visited, missed, gaps) =
        (matrix.count(State::Visited), matrix.count(State::Missed), matrix.count(State::Gap));
    let sum = |number: usize| count(number as u64);
    put!(
        out,
        "<div class=\"scroll\"><table class=\"heat\">\n<caption><code>{}</code> <span>{} of {} cells visited",
        Escaped(&matrix.policy),
        sum(visited),
        sum(visited + missed + gaps)
    );
    put!(out, " · {} of {} sites", count(matrix.sites_visited), count(matrix.sites_aimed));
    if matrix.pairs_aimed > 0 {
        put!(out, " · {} of {} pairs", count(matrix.pairs_visited), count(matrix.pairs_aimed));
    }
    if matrix.elsewhere > 0 {
        put!(out, " · {} at no request’s copy", several(matrix.elsewhere, "aim", "aims"));
    }
    put!(out, "</span></caption>\n<thead><tr><th scope=\"col\" rowspan=\"2\">Request</th>");
    let kinds = matrix.kinds.len();
    for (side, access) in COMBINATIONS {
        put!(out, "<th scope=\"colgroup\" colspan=\"{kinds}\" class=\"group\">{side}, {access}</th>");
    }
    put!(out, "</tr><tr>");
    for _ in COMBINATIONS {
        for (index, kind) in matrix.kinds.iter().enumerate() {
            let class = if index == 0 { "kind first" } else { "kind" };
            put!(out, "<th scope=\"col\" class=\"{class}\"><span>{}</span></th>", Escaped(kind));
        }
    }
    put!(out, "</tr></thead>\n<tbody>\n");
    for row in matrix.cells.chunks(kinds.saturating_mul(COMBINATIONS.len()).max(1)) {
        let Some(first) = row.first() else { continue };
        put!(out, "<tr><th scope=\"row\">{}</th>", Escaped(&first.operation));
        for (index, one) in row.iter().enumerate() {
            cell(out, one, most, index.is_multiple_of(kinds.max(1)));
        }
        put!(out, "</tr>\n");
    }
    put!(out, "</tbody></table></div>\n");
}

fn cell(out: &mut String, cell: &Cell, most: u64, first: bool) {
    let (class, text, said) = match cell.state {
        State::Visited => (
            format!("h{}{}", step(cell.visited, most), if cell.violated > 0 { " hit" } else { "" }),
            format!("{}{}", short(cell.visited), if cell.violated > 0 { "<b>✗</b>" } else { "" }),
            format!(
                "{}, {}, {}",
                several(cell.visited, "run", "runs"),
                several(cell.sites, "named site", "named sites"),
                several(cell.violated, "violation", "violations")
            ),
        ),
        State::Missed => (
            "missed".into(),
            "◌".into(),
            format!("{} aimed at it, no fault happened", several(cell.aimed, "run", "runs")),
        ),
        State::Gap => ("gap".into(), "○".into(), "nobody tried".into()),
        State::NoSite => ("nosite".into(), String::new(), "no site ever seen".into()),
    };
    put!(
        out,
        "<td class=\"{class}{}\" title=\"{} {} {}, {}: {said}\">",
        if first { " first" } else { "" },
        Escaped(&cell.operation),
        Escaped(&cell.side),
        Escaped(&cell.access),
        Escaped(&cell.kind)
    );
    put!(out, "{text}</td>");
}

/// The step of the scale, by the logarithm.
fn step(number: u64, most: u64) -> u64 {
    let logarithm = |number: u64| (number.max(1) as f64).ln();
    match logarithm(most) {
        0.0 => STEPS / 2,
        whole => ((logarithm(number) / whole * (STEPS - 1) as f64).round() as u64 + 1).min(STEPS),
    }
}

/// A number that fits a cell.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_has_its_ends() {
        assert_eq!((step(1, 1000), step(1000, 1000)), (1, STEPS));
        assert_eq!((step(1, 1), step(0, 0)), (3, 3));
        let steps: Vec<u64> = (1..=1000).map(|number| step(number, 1000)).collect();
        assert!(steps.is_sorted() && steps.contains(&4));
    }

    #[test]
    fn numbers_fit_their_cells() {
        assert_eq!([short(9999), short(10_000), short(12_000_000)], ["9999", "10k", "12M"]);
    }
}
