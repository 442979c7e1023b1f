//! The graph of who waits for whom, compared with the one in which a test has to end.
//!
//! The one thing to hold in mind: that everything stands still shows little; that it does for the reason the test is about is
//! what the circle shows. So the circle between processes has to be the expected one, and each step of it one of the edges.

use super::Standstill;

/// What is not as it has to be. `circle` is the kernel's line, without its first word, if it wrote one; a graph that was not read from
/// the console has that line among its edges.
pub fn unlike(wanted: &Standstill, graph: &[String], circle: Option<&str>) -> Vec<String> {
    let unseen = |text: &&String| !graph.iter().any(|edge| edge.contains(text.as_str()));
    let missing = wanted.edges.iter().filter(unseen);
    let mut wrong: Vec<_> = missing.map(|text| format!("nobody waits for anybody as in {text:?}")).collect();
    let line =
        circle.or_else(|| graph.iter().find_map(|edge| edge.strip_prefix("circle:"))).unwrap_or_default();
    let names: Vec<&str> = line.split("->").map(str::trim).filter(|name| !name.is_empty()).collect();
    for step in names.windows(2) {
        let edge = format!("{} (", step.join(" -> "));
        if !graph.iter().any(|each| each.starts_with(&edge)) {
            wrong.push(format!("the circle {line:?} has a step that is no edge: {}", step.join(" -> ")));
        }
    }
    let round = match names.split_last() {
        Some((last, round)) if round.first() == Some(last) => round,
        Some(_) => {
            wrong.push(format!("the circle {line:?} does not end where it begins"));
            &names
        }
        None => &[],
    };
    if !same_round(&between_processes(round), &wanted.circle) {
        let shown = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(" -> ") };
        wrong.push(format!("the circle is {line:?} instead of {}", shown(&wanted.circle)));
    }
    wrong
}

/// A circle without the steps inside one process: how many requests of a server wait for one another there is a matter of who came
/// first.
fn between_processes<'a>(round: &[&'a str]) -> Vec<&'a str> {
    let before = round.iter().cycle().skip(round.len().saturating_sub(1));
    let leads_on = round.iter().zip(before).filter(|(name, before)| name != before);
    let names: Vec<&str> = leads_on.map(|(name, _)| *name).collect();
    // One that waits for itself is a circle all the same.
    if names.is_empty() { round.iter().take(1).copied().collect() } else { names }
}

/// Whether two circles are the same, wherever each begins.
fn same_round(seen: &[&str], wanted: &[String]) -> bool {
    let from = |first: usize| seen.iter().cycle().skip(first).take(seen.len());
    seen.len() == wanted.len()
        && (seen.is_empty() || (0..seen.len()).any(|first| from(first).zip(wanted).all(|(a, b)| a == b)))
}

#[cfg(test)]
mod tests {
    use super::super::Test;
    use super::*;
    use crate::suite::Expect;

    const EDGES: [&str; 4] = [
        "mfs -> vm (copy suspended: page 0x1 of a)",
        "vm -> vfs (page-in)",
        "vfs -> mfs (READ)",
        "a -> vfs (for the answer)",
    ];

    fn wrong(circle: &str, edges: &[&str], seen: Option<&str>) -> Vec<String> {
        let graph: Vec<String> = edges.iter().map(|edge| (*edge).to_owned()).collect();
        match Test::new("t", "t").wedged(&["mfs -> vm (copy"], circle).expect {
            Expect::Wedged(wanted) => unlike(&wanted, &graph, seen),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_circle_may_begin_anywhere() {
        let seen = Some("mfs -> vm -> vfs -> mfs");
        for circle in ["mfs -> vm -> vfs", "vm -> vfs -> mfs", "vfs -> mfs -> vm"] {
            assert_eq!(wrong(circle, &EDGES, seen), [""; 0]);
        }
        let with_line: Vec<&str> = EDGES.into_iter().chain(["circle: mfs -> vm -> vfs -> mfs"]).collect();
        assert_eq!(wrong("vm -> vfs -> mfs", &with_line, None), [""; 0]);
    }

    #[test]
    fn steps_inside_a_process_do_not_count() {
        let edges: Vec<&str> =
            EDGES.into_iter().chain(["vfs -> vfs (file lock)", "vm -> vm (one at a time)"]).collect();
        for seen in [
            "mfs -> vm -> vm -> vfs -> mfs",
            "vfs -> mfs -> vm -> vfs -> vfs",
            "vfs -> vfs -> mfs -> vm -> vfs -> vfs",
        ] {
            assert_eq!(wrong("mfs -> vm -> vfs", &edges, Some(seen)), [""; 0], "{seen}");
        }
        assert_eq!(wrong("", &edges, Some("vfs -> vfs")).len(), 1, "a circle in one process is one");
        assert_eq!(wrong("vfs", &edges, Some("vfs -> vfs")), [""; 0]);
        // But they have to be edges.
        assert_eq!(wrong("mfs -> vm -> vfs", &EDGES, Some("mfs -> vm -> vm -> vfs -> mfs")).len(), 1);
    }

    #[test]
    fn another_circle_is_another_standstill() {
        let seen = Some("mfs -> vm -> vfs -> mfs");
        for circle in ["", "vm -> vfs", "mfs -> vfs -> vm", "mfs -> vm -> vfs -> blk"] {
            assert_eq!(wrong(circle, &EDGES, seen).len(), 1, "{circle}");
        }
        assert_eq!(wrong("mfs -> vm -> vfs", &EDGES, None).len(), 1);
        assert_eq!(wrong("", &EDGES, None), [""; 0]);
    }

    #[test]
    fn each_step_is_an_edge_and_the_last_leads_back() {
        let seen = Some("mfs -> vm -> vfs -> mfs");
        for missing in 1..3 {
            let edges: Vec<&str> =
                EDGES.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, edge)| *edge).collect();
            assert_eq!(wrong("mfs -> vm -> vfs", &edges, seen).len(), 1, "{missing}");
        }
        assert_eq!(wrong("mfs -> vm -> vfs", &EDGES, Some("mfs -> vm -> vfs")).len(), 1);
    }
}
