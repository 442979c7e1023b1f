//! The command `refault`, run as a user runs it, with a limit on its time.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::Value;

/// How long the command may take before the test fails: far beyond any machine's slowness.
const LIMIT: Duration = Duration::from_secs(300);

/// The binary under test.
pub const REFAULT: &str = env!("CARGO_BIN_EXE_refault");

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Both outputs, for messages that may be on either.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// Runs a command to its end, giving it `input`; panics when the limit is over.
pub fn run(mut command: Command, input: &[u8]) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("REFAULT_LOG");
    let shown = format!("{command:?}");
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{shown}: {why}"));
    if let Some(mut to) = child.stdin.take() {
        // The command may end without having read it.
        let _ = to.write_all(input);
    }
    collect(child, &shown)
}

/// Waits for a command that has been started; panics when the limit is over.
pub fn collect(mut child: Child, shown: &str) -> Said {
    let (tell, ends) = channel();
    let outputs: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|o| Box::new(o) as _), child.stderr.take().map(|e| Box::new(e) as _)];
    let readers = outputs.map(|from| {
        let tell = tell.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.map(|mut from| from.read_to_end(&mut bytes));
            let _ = tell.send(());
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    let in_time = (0..readers.len()).all(|_| ends.recv_timeout(LIMIT).is_ok());
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    let [out, err] = readers.map(|reader| reader.join().unwrap());
    assert!(in_time, "{shown}: had not ended after {LIMIT:?}\n{out}\n{err}");
    Said { code: status.code(), out, err }
}

/// `refault` with `arguments`.
pub fn refault<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Said {
    let mut command = Command::new(REFAULT);
    command.args(arguments.into_iter().map(Into::into));
    run(command, b"")
}

/// `refault run` in the making.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    options: Vec<OsString>,
    program: Vec<String>,
}

/// What a guest did.
#[derive(Debug)]
pub struct Ran {
    /// What it and the command said.
    pub said: Said,
    /// The document of the run.
    pub document: Value,
}

impl Guest {
    /// A guest that runs `program`.
    pub fn program<'a>(program: impl IntoIterator<Item = &'a str>) -> Self {
        Self { options: Vec::new(), program: program.into_iter().map(str::to_owned).collect() }
    }

    /// With an option.
    pub fn option(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// With the image at `path`.
    pub fn disk(self, path: &Path) -> Self {
        self.option("--disk", path)
    }

    /// With the image at `path` and the options `more`, which begin with a comma.
    pub fn disk_with(self, path: &Path, more: &str) -> Self {
        self.option("--disk", format!("{}{more}", path.display()))
    }

    /// With a rule.
    pub fn inject(self, rule: &str) -> Self {
        self.option("--inject", rule)
    }

    /// With words for the kernel's command line.
    pub fn words(self, words: &str) -> Self {
        self.option("--cmdline", words)
    }

    fn command(&self, json: Option<&Path>) -> Command {
        let mut command = Command::new(REFAULT);
        command.arg("run").args(&self.options);
        if let Some(path) = json {
            command.arg("--json").arg(path);
        }
        command.arg("--").args(&self.program);
        command
    }

    /// Runs it, without a document.
    pub fn say(&self) -> Said {
        run(self.command(None), b"")
    }

    /// Runs it and reads its document.
    pub fn run(&self) -> Ran {
        let directory = tempfile::tempdir().unwrap();
        let json: PathBuf = directory.path().join("run.json");
        let said = run(self.command(Some(&json)), b"");
        let document = std::fs::read_to_string(&json)
            .map_err(|why| why.to_string())
            .and_then(|text| serde_json::from_str(&text).map_err(|why| why.to_string()))
            .unwrap_or_else(|why| panic!("no document ({why}) of {self:?}: {said:?}"));
        Ran { said, document }
    }
}

impl Ran {
    /// A counter of the guest; those that are zero are left out of the document.
    pub fn guest(&self, counter: &str) -> u64 {
        self.document["stats"]["guest"][counter].as_u64().unwrap_or(0)
    }

    /// A counter of the injector.
    pub fn faults(&self, counter: &str) -> u64 {
        let value = &self.document["stats"]["faults"][counter];
        value.as_u64().unwrap_or_else(|| panic!("no counter {counter} in {}", self.document["stats"]))
    }

    /// The sums that must come out whatever happened.
    pub fn assert_conserved(&self) {
        let faults = |name| self.faults(name);
        assert_eq!(faults("armed"), faults("trapped") + faults("never_touched"));
        assert_eq!(faults("trapped"), faults("reflected") + faults("resolved") + faults("poisoned"));
        assert_eq!(self.guest("marks_failed") + self.guest("marks_stale"), 0);
        assert_eq!(self.guest("suspends"), self.guest("resumes"));
    }

    /// The exit code must be `code`.
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.said.code, Some(code), "{}", self.said.all());
        self
    }
}
