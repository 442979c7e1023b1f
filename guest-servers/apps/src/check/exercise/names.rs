//! Workload 11: names that come, go and change, and a model of which there are.
//!
//! The one thing to hold in mind: what is expected is worked out before each request, errors included; a listing and what is behind each
//! name are compared again and again.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;

use refault_abi::vfs::{O_CREAT, O_EXCL, O_RDONLY, O_RDWR};
use refault_rt::Errno;
use refault_rt::user;

use super::gauges::Gauges;
use super::random::Random;
use super::requests::directory;
use super::trouble::{Defined, Step, Trouble, same, same_bytes};

/// Names that there may be.
const NAMES: u64 = 12;

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The file of this number.
    File(u64),
    /// A symbolic link that says this number.
    Link(u64),
    /// A directory, empty.
    Directory,
}

/// The directory and its model.
pub struct Names {
    path: String,
    model: BTreeMap<u64, Kind>,
    random: Random,
    made: u64,
}

/// What a link with this number says.
fn target(number: u64) -> String {
    format!("target-{number:08}")
}

impl Names {
    /// An empty directory.
    pub fn new(path: &str, seed: u32, client: u32, since: &Gauges) -> Result<Names, Trouble> {
        directory(path).defined(since, path)?;
        for number in 0..NAMES {
            // Leftovers of an earlier run, of any kind.
            let name = format!("{path}/n{number}");
            if user::unlink(&name).is_err() {
                match user::rmdir(&name) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    other => other.defined(since, &name)?,
                }
            }
        }
        Ok(Names { path: path.into(), model: BTreeMap::new(), random: Random::new(seed, client), made: 0 })
    }

    fn name(&self, number: u64) -> String {
        format!("{}/n{number}", self.path)
    }

    /// One operation, whichever comes.
    pub fn step(&mut self, since: &Gauges) -> Step {
        let (one, other) = (self.random.below(NAMES), self.random.below(NAMES));
        let choice = self.random.below(4);
        let (here, there) = (self.model.get(&one).copied(), self.model.get(&other).copied());
        match (here, there) {
            (None, Some(Kind::File(id))) if choice == 0 => {
                user::link(&self.name(other), &self.name(one)).defined(since, "link")?;
                self.model.insert(one, Kind::File(id));
            }
            (None, _) => self.make(since, one, choice)?,
            (Some(kind), None) if choice == 0 => {
                user::rename(&self.name(one), &self.name(other)).defined(since, "rename")?;
                self.model.remove(&one);
                self.model.insert(other, kind);
            }
            (Some(Kind::File(id)), Some(Kind::File(replaced))) if choice == 0 && one != other => {
                user::rename(&self.name(one), &self.name(other)).defined(since, "rename over another")?;
                // Two names of one file: both stay.
                if id != replaced {
                    self.model.remove(&one);
                    self.model.insert(other, Kind::File(id));
                }
            }
            (Some(kind), _) if choice == 1 => self.remove(since, one, kind)?,
            (Some(_), _) if choice == 2 => {
                let answer = user::open(&self.name(one), O_RDWR | O_CREAT | O_EXCL, 0o644);
                same("making what is there", answer, Err(Errno::EEXIST))?;
            }
            (Some(kind), _) => self.look(since, one, kind)?,
        }
        if self.random.below(6) == 0 { self.list(since) } else { Ok(()) }
    }

    fn make(&mut self, since: &Gauges, number: u64, choice: u64) -> Step {
        self.made += 1;
        let name = self.name(number);
        let missing = user::stat(&name).map(drop);
        same("a name that is not there", missing, Err(Errno::ENOENT))?;
        let kind = match choice {
            0 | 1 => {
                let file = user::open(&name, O_RDWR | O_CREAT | O_EXCL, 0o644).defined(since, "create")?;
                let count = user::write(file, target(self.made).as_bytes()).defined(since, "write")?;
                same("bytes written", count, target(self.made).len())?;
                user::close(file).defined(since, "close")?;
                Kind::File(self.made)
            }
            2 => {
                user::symlink(&target(self.made), &name).defined(since, "symlink")?;
                Kind::Link(self.made)
            }
            _ => {
                user::mkdir(&name, 0o755).defined(since, "mkdir")?;
                Kind::Directory
            }
        };
        self.model.insert(number, kind);
        Ok(())
    }

    fn remove(&mut self, since: &Gauges, number: u64, kind: Kind) -> Step {
        let name = self.name(number);
        match kind {
            Kind::Directory => user::rmdir(&name).defined(since, "rmdir")?,
            _ => user::unlink(&name).defined(since, "unlink")?,
        }
        self.model.remove(&number);
        same("a name that is gone", user::lstat(&name).map(drop), Err(Errno::ENOENT))
    }

    /// What is behind a name.
    fn look(&self, since: &Gauges, number: u64, kind: Kind) -> Step {
        let name = self.name(number);
        let mut seen = [0; 64];
        let (count, wanted) = match kind {
            Kind::File(id) => {
                let file = user::open(&name, O_RDONLY, 0).defined(since, "open")?;
                let count = user::read(file, &mut seen).defined(since, "read")?;
                let links = user::fstat(file).defined(since, "fstat")?.links;
                user::close(file).defined(since, "close")?;
                let names = self.model.values().filter(|kind| **kind == Kind::File(id)).count();
                same("links", links as usize, names)?;
                (count, target(id))
            }
            Kind::Link(id) => (user::readlink(&name, &mut seen).defined(since, "readlink")?, target(id)),
            Kind::Directory => {
                return same("rmdir of a file's name", user::lstat(&name).is_ok(), true);
            }
        };
        same_bytes("what is behind a name", seen.get(..count).unwrap_or_default(), wanted.as_bytes())
    }

    /// All the names there are, each once.
    pub fn list(&self, since: &Gauges) -> Step {
        let directory = user::open(&self.path, O_RDONLY, 0).defined(since, "open of the directory")?;
        let mut seen = BTreeMap::new();
        let mut buffer = vec![0; 200];
        loop {
            let count = user::getdents(directory, &mut buffer).defined(since, "getdents")?;
            if count == 0 {
                break;
            }
            for (_, name) in user::Entries(buffer.get(..count).unwrap_or_default()) {
                *seen.entry(String::from(name)).or_insert(0u32) += 1;
            }
            if seen.len() > 64 {
                return Err(Trouble::from(String::from("the listing does not end")));
            }
        }
        user::close(directory).defined(since, "close")?;
        let mut wanted: BTreeMap<String, u32> =
            self.model.keys().map(|number| (format!("n{number}"), 1)).collect();
        wanted.extend([(".".into(), 1), ("..".into(), 1)]);
        same("the names", seen, wanted)
    }

    /// Takes everything away again.
    pub fn end(mut self, since: &Gauges) -> Step {
        self.list(since)?;
        while let Some((number, kind)) = self.model.first_key_value().map(|(number, kind)| (*number, *kind)) {
            self.look(since, number, kind)?;
            self.remove(since, number, kind)?;
        }
        user::rmdir(&self.path).defined(since, "rmdir of the directory")
    }
}
