//! What a test program said on its console.
//!
//! Lines that begin with `@` are for the host, one JSON object each (`@skip`: a text); `@end` is the last of them and says how many
//! there were. The kernel's `wedged:`, `wait-for:` and `circle:` lines are its graph of who waits for whom. Everything else is for
//! people.
//!
//! The one thing to hold in mind: the text comes from a guest, so it may be anything. A line for the host that cannot be
//! read is kept as such, and fails the test: half a line must not turn into a missing case that nobody misses.

use serde::{Deserialize, Serialize};

use super::verdict::Verdict;

/// One case of a test program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Whether what it checks held.
    pub ok: bool,
    /// Faults that its copies met, as the kernel counted them.
    #[serde(default)]
    pub faults: u64,
    /// Operations repeated, as the servers counted them.
    #[serde(default)]
    pub repeats: u64,
    /// For people; says what did not hold.
    #[serde(default)]
    pub detail: String,
    /// What a failed case is, or `REJECTED` for one that ended in the error specified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
}

impl Case {
    /// The case's verdict; none for a word that is none.
    pub fn judged(&self) -> Option<Verdict> {
        match (self.ok, self.verdict.as_deref()) {
            (true, None) if self.repeats > 0 => Some(Verdict::Retried),
            (true, None) => Some(Verdict::Pass),
            (false, None) => Some(Verdict::Failed),
            (ok, Some(word)) => Verdict::of_case(word).filter(|verdict| verdict.is_good() == ok),
        }
    }
}

/// What a program says a file holds: the host compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClaim {
    /// Which disk.
    #[serde(default)]
    pub disk: usize,
    /// Its path on that disk.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// FNV-1a of its contents, 64 bits, 16 hexadecimal digits.
    pub fnv: String,
}

/// What a program says it has said: its last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Cases reported.
    pub cases: usize,
    /// Parts left out.
    pub skipped: usize,
}

/// Everything a console said to the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Cases, in order.
    pub cases: Vec<Case>,
    /// Files to compare.
    pub files: Vec<FileClaim>,
    /// What was left out, and why.
    pub skips: Vec<String>,
    /// The kernel's `wedged:` line, without the word.
    pub wedged: Option<String>,
    /// Its edges, without the word.
    pub edges: Vec<String>,
    /// Its circle, without the word.
    pub circle: Option<String>,
    /// The ends that the program announced: one, if all is well.
    pub ends: Vec<End>,
    /// Whether it said anything more to the host after its end.
    pub said_more: bool,
    /// Lines for the host that cannot be read, with the reason.
    pub unreadable: Vec<String>,
}

/// Reads a console's text.
pub fn read(text: &str) -> Told {
    let mut told = Told::default();
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        if let Some(rest) = line.strip_prefix("wedged:") {
            told.wedged.get_or_insert_with(|| rest.trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("wait-for:") {
            told.edges.push(rest.trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("circle:") {
            told.circle = Some(rest.trim().to_owned());
        } else if let Some((word, rest)) = line.strip_prefix('@').map(split_word) {
            told.said_more |= !told.ends.is_empty() && matches!(word, "case" | "file" | "skip");
            match word {
                "case" => match serde_json::from_str::<Case>(rest) {
                    Ok(case) if case.judged().is_some() => told.cases.push(case),
                    Ok(case) => {
                        told.unreadable.push(format!("{line}: ok={} does not go with this verdict", case.ok))
                    }
                    Err(why) => told.unreadable.push(format!("{line}: {why}")),
                },
                "file" => match serde_json::from_str(rest) {
                    Ok(file) => told.files.push(file),
                    Err(why) => told.unreadable.push(format!("{line}: {why}")),
                },
                "skip" => told.skips.push(rest.to_owned()),
                "end" => match serde_json::from_str(rest) {
                    Ok(end) => told.ends.push(end),
                    Err(why) => told.unreadable.push(format!("{line}: {why}")),
                },
                // What is missing may be what failed.
                "cut-off" => told.unreadable.push(line.to_owned()),
                // Lines of other protocols are none of the judge's business.
                _ => {}
            }
        }
    }
    told
}

fn split_word(line: &str) -> (&str, &str) {
    line.split_once(' ').map_or((line, ""), |(word, rest)| (word, rest.trim()))
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo; parameters of draft-eastlake-fnv).
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_for_the_host_among_others() {
        let text = "kernel: hello\r\n\
            @case {\"name\":\"F1.a\",\"ok\":true,\"faults\":2,\"repeats\":1,\"detail\":\"\"}\r\n\
            some text\n\
            @case {\"name\":\"F1.b\",\"ok\":false,\"detail\":\"got 7\",\"verdict\":\"SHORT\"}\n\
            @file {\"path\":\"/x\",\"bytes\":3,\"fnv\":\"e71fa2190541574b\"}\n\
            @skip second-stage: no monitor\n\
            wedged: nothing ran for 1500 ms\n\
            wait-for: mfs -> vm (page fault)\n\
            wait-for: vm -> vfs (page-in)\n\
            circle: mfs -> vm -> mfs\n";
        let told = read(text);
        assert_eq!(told.cases.len(), 2);
        assert_eq!(told.cases[0].judged(), Some(Verdict::Retried));
        assert_eq!(told.cases[1].judged(), Some(Verdict::Short));
        assert_eq!(
            told.files[0],
            FileClaim { disk: 0, path: "/x".into(), bytes: 3, fnv: "e71fa2190541574b".into() }
        );
        assert_eq!(told.skips, ["second-stage: no monitor"]);
        assert_eq!(told.wedged.as_deref(), Some("nothing ran for 1500 ms"));
        assert_eq!(told.edges.len(), 2);
        assert_eq!(told.circle.as_deref(), Some("mfs -> vm -> mfs"));
        assert!(told.unreadable.is_empty());
        assert_eq!(fnv1a(b"abc"), 0xe71f_a219_0541_574b);
    }

    #[test]
    fn what_cannot_be_read_is_not_dropped() {
        for line in [
            "@case {\"name\":\"x\"",
            "@case {\"name\":\"x\",\"ok\":1}",
            "@case",
            "@case {\"name\":\"x\",\"ok\":true,\"faults\":-1}",
            "@case {\"name\":\"x\",\"ok\":true,\"verdict\":\"SHORT\"}",
            "@case {\"name\":\"x\",\"ok\":false,\"verdict\":\"NONSENSE\"}",
            "@file {}",
            "@end",
            "@end {\"cases\":3}",
            "@end {\"cases\":-3,\"skipped\":0}",
        ] {
            let told = read(line);
            assert!(told.cases.is_empty() && told.files.is_empty() && told.ends.is_empty(), "{line}");
            assert_eq!(told.unreadable.len(), 1, "{line}");
        }
        assert_eq!(read("@caseless\n@other {\n x @case {}"), Told::default());
    }

    #[test]
    fn nothing_is_to_be_said_behind_the_end() {
        let end = "@end {\"cases\":0,\"skipped\":1}\n";
        let told = read(&format!("@skip x\n{end}circles\n@other\n"));
        assert_eq!((told.ends.as_slice(), told.said_more), (&[End { cases: 0, skipped: 1 }][..], false));
        for more in ["@skip x", "@case {}", "@file {}"] {
            assert!(read(&format!("{end}{more}\n")).said_more, "{more}");
        }
        assert_eq!(read(&format!("{end}{end}")).ends.len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_can_be_read(text in "(@case |@file |@skip|@end |wedged:|wait-for:|circle:|[{}\":,\\[\\]\r\n]|.){0,40}") {
            let _ = read(&text);
        }
    }
}
