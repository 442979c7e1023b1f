//! The guest tests: programs that run in the guest, each in a machine of its own, judged by the host.
//!
//! A test is a line of a table ([`table`]): a program with its arguments, words for the kernel's command line, disks, what
//! it cannot do without, and what has to come of it. The guest speaks through its console and nothing else, so
//! the same test runs on KVM, under QEMU's emulation and inside the virtual host.
//!
//! The one thing to hold in mind: a test passes only if it said that it passed, and if the faults it was written for
//! happened. Silence, a missing case and a schedule that hit nothing are failures.

pub mod console;
pub mod disk;
pub mod emulator;
pub mod graph;
pub mod json;
pub mod judge;
pub mod machine;
pub mod mutation;
pub mod progress;
pub mod runner;
pub mod select;
pub mod table;
pub mod verdict;

/// A guest test. Made with [`Test::new`] and the methods below; everything not said has the value stated there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Its name, as `F1.read.second-stage`: letters, digits, `.`, `-`, `_`. Unique.
    pub name: String,
    /// The program and its arguments.
    pub program: Vec<String>,
    /// Words for the kernel's command line.
    pub words: String,
    /// Disks in the order of their announcement.
    pub disks: Vec<DiskKind>,
    /// Injection rules, besides `guest: allow`, which every machine of a test that needs the monitor gets.
    pub rules: Vec<String>,
    /// Whether it needs a monitor that takes pages away.
    pub needs_monitor: bool,
    /// Whether at least one fault has to be counted by its cases.
    pub has_faults: bool,
    /// What is typed at the console: from the start on, in emulation once there is a prompt (`$ `).
    pub typed: String,
    /// Texts that the console must show. A test with such texts need not speak `@case`.
    pub prints: Vec<String>,
    /// Fewest cases that its program has to report.
    pub cases: usize,
    /// What has to come of it.
    pub expect: Expect,
    /// Seconds after which it counts as hanging; generous, because machines share processors.
    pub limit: u32,
}

/// What a disk holds when the machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskKind {
    /// The standard test disk.
    Standard,
    /// A file system of its own, to be mounted besides: a few files with other contents than the standard disk's.
    Second,
}

/// What has to come of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Every case is well and the program ends with status 0.
    Pass,
    /// The system wedges: the kernel says so, and its graph is like this.
    Wedged(Standstill),
    /// A read or write comes out short: some case says so. What the seed's system does, shown.
    Short,
    /// Some case says that bytes were wrong.
    Corrupt,
    /// Some case says that something was not given back.
    Leak,
    /// The program ends with this status, other than 0.
    Status(u32),
}

/// What the kernel's graph has to be like when nothing can go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standstill {
    /// Some edge contains each of these texts.
    pub edges: Vec<String>,
    /// Processes that wait for one another in a circle, each for the next and the last for the first, wherever it begins; steps
    /// inside a process do not count. Empty when there must be none: somebody then waits for nobody who waits.
    pub circle: Vec<String>,
}

/// Seconds allowed to a test that does not say otherwise. Machines share the processors, and ring 0 may be interpreted.
const LIMIT: u32 = 120;

impl Test {
    /// A test called `name` that runs `program`, words separated by spaces: standard disk, no words for the kernel, no
    /// monitor needed, no faults demanded, expected to pass.
    pub fn new(name: impl Into<String>, program: &str) -> Self {
        Self {
            name: name.into(),
            program: program.split_whitespace().map(str::to_owned).collect(),
            words: String::new(),
            disks: vec![DiskKind::Standard],
            rules: Vec::new(),
            needs_monitor: false,
            has_faults: false,
            typed: String::new(),
            prints: Vec::new(),
            cases: 0,
            expect: Expect::Pass,
            limit: LIMIT,
        }
    }

    /// With these words on the kernel's command line, added to those it has.
    #[must_use]
    pub fn words(mut self, words: &str) -> Self {
        if !self.words.is_empty() && !words.is_empty() {
            self.words.push(' ');
        }
        self.words.push_str(words);
        self
    }

    /// Needs the monitor: the program takes pages of its own away (kernel call AWAY).
    #[must_use]
    pub fn monitor(mut self) -> Self {
        self.needs_monitor = true;
        self
    }

    /// With an injection rule, and so with the monitor.
    #[must_use]
    pub fn rule(mut self, rule: &str) -> Self {
        self.rules.push(rule.to_owned());
        self.monitor()
    }

    /// Its cases have to count at least one fault.
    #[must_use]
    pub fn faults(mut self) -> Self {
        self.has_faults = true;
        self
    }

    /// With a second disk.
    #[must_use]
    pub fn second_disk(mut self) -> Self {
        self.disks.push(DiskKind::Second);
        self
    }

    /// With this typed at the console.
    #[must_use]
    pub fn typed(mut self, text: &str) -> Self {
        self.typed.push_str(text);
        self
    }

    /// The console has to show this text.
    #[must_use]
    pub fn prints(mut self, text: &str) -> Self {
        self.prints.push(text.to_owned());
        self
    }

    /// Its program has to report at least so many cases. One that reports any has to report all it says at its end, whatever this is.
    #[must_use]
    pub fn cases(mut self, least: usize) -> Self {
        self.cases = least;
        self
    }

    /// Has to come to something else than to pass.
    #[must_use]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// Has to wedge, with an edge that contains each of `edges`, and with this circle: `mfs -> vm -> vfs`, or "" for none.
    #[must_use]
    pub fn wedged(self, edges: &[&str], circle: &str) -> Self {
        let edges = edges.iter().map(|edge| (*edge).to_owned()).collect();
        let circle = circle.split("->").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        self.expect(Expect::Wedged(Standstill { edges, circle: circle.collect() }))
    }

    /// With another limit, in seconds.
    #[must_use]
    pub fn limit(mut self, seconds: u32) -> Self {
        self.limit = seconds;
        self
    }
}
