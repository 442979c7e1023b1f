//! What a disk holds at the end of a run, as far as runs are compared by it.
//!
//! The one thing to hold in mind: most runs of a campaign leave one of a few disks behind, so what was found out about one is kept by the
//! sum of its changed blocks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use refault_minixfs::{FileKind, ROOT_INODE};

use crate::snapshot::DiskContents;
use crate::suite::console::fnv1a;
use crate::suite::disk::{self, Reader};

/// One name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `f` regular, `d` directory, `l` symbolic link, `?` anything else.
    pub kind: char,
    /// Bytes.
    pub size: u64,
    /// Names that lead to it.
    pub links: u16,
    /// FNV-1a of the contents of files and links.
    pub fnv: u64,
}

/// A tree of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(Arc<BTreeMap<String, Entry>>);

impl Tree {
    /// The tree of these names.
    pub fn of(entries: BTreeMap<String, Entry>) -> Self {
        Self(Arc::new(entries))
    }

    /// What has this path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(path)
    }

    /// Reads an image.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(image: Vec<u8>) -> Result<Self, String> {
        let mut reader = Reader::of(image)?;
        let mut entries = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut left = vec![(ROOT_INODE, String::new())];
        while let Some((inode, path)) = left.pop() {
            let why = |error: refault_minixfs::Error| format!("{path}/: {error:?}");
            let found = reader.volume().inode(inode).map_err(why)?;
            let kind = FileKind::from_mode(found.mode());
            let fnv = match kind {
                Some(FileKind::Regular | FileKind::SymbolicLink) => fnv1a(&reader.contents(inode)?),
                _ => 0,
            };
            let kind = match kind {
                Some(FileKind::Regular) => 'f',
                Some(FileKind::Directory) => 'd',
                Some(FileKind::SymbolicLink) => 'l',
                _ => '?',
            };
            // A directory's size is a matter of which names it ever had.
            let size = if kind == 'd' { 0 } else { u64::from(found.size) };
            let name = if path.is_empty() { "/".to_owned() } else { path.clone() };
            entries.insert(name, Entry { kind, size, links: found.links, fnv });
            if entries.len() > NAMES_LIMIT {
                return Err("it has more names than an image of this size can".into());
            }
            if kind != 'd' || !seen.insert(inode) {
                continue;
            }
            let mut position = 0;
            while let Some(entry) = reader.volume().next_entry(inode, position).map_err(why)? {
                position = entry.next;
                if !matches!(entry.name(), b"." | b"..") {
                    left.push((entry.inode, format!("{path}/{}", String::from_utf8_lossy(entry.name()))));
                }
            }
        }
        Ok(Self::of(entries))
    }

    /// Differences, a sentence each.
    pub fn unlike(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let differs = names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name));
        let shown = |entry: Option<&Entry>| entry.map_or("nothing".to_owned(), |entry| format!("{entry:?}"));
        differs
            .map(|name| {
                let (here, there) = (shown(self.0.get(name)), shown(other.0.get(name)));
                format!("{name}: {here} where the fault-free run has {there}")
            })
            .collect()
    }
}

/// Names of an image that are followed.
const NAMES_LIMIT: usize = 1 << 18;

/// What was found out about a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What the checker says against it.
    pub sound: Option<String>,
    /// Its tree, or why it has none.
    pub tree: Result<Tree, String>,
}

/// Disks whose findings are kept.
const KEPT: usize = 4096;

/// Looks at disks, at each only once.
#[derive(Debug, Default)]
pub struct Inspector(Mutex<HashMap<(u64, u64), Inspected>>);

impl Inspector {
    /// What is to be said about a disk.
    ///
    /// # Errors
    /// The host could not write a temporary file.
    pub fn inspect(&self, disk: &DiskContents) -> std::io::Result<Inspected> {
        let sum = digest(disk);
        // A lock that a panic left behind protects a map that is whole.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&sum) {
            return Ok(known.clone());
        }
        let found = look(disk)?;
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(sum, found.clone());
        Ok(found)
    }
}

/// Two sums that differ in how they begin: to be taken for another, a disk would have to collide in both.
fn digest(disk: &DiskContents) -> (u64, u64) {
    let start = |salt: u64| fnv1a(&[salt.to_le_bytes(), (disk.base.as_ptr() as u64).to_le_bytes()].concat());
    let mix = |mut hash: u64| {
        for (number, bytes) in disk.changed.iter() {
            for word in bytes.chunks(8) {
                let mut eight = [0; 8];
                eight.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
                hash = (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                hash ^= hash >> 29;
            }
            hash = (hash ^ number).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            hash ^= hash >> 32;
        }
        hash
    };
    (mix(start(1)), mix(start(2)))
}

fn look(disk: &DiskContents) -> std::io::Result<Inspected> {
    let image = disk.image();
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&image)?;
    file.flush()?;
    let sound = match disk::fsck(file.path()) {
        Some(said) => said.err().map(|why| format!("fsck.minix: {why}")),
        None => Reader::of(image.clone()).and_then(|mut reader| reader.walk()).err(),
    };
    Ok(Inspected { sound, tree: Tree::read(image) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::DiskKind;

    fn standard() -> DiskContents {
        let image = disk::image(DiskKind::Standard).unwrap();
        DiskContents { base: Arc::from(image), changed: Arc::default() }
    }

    #[test]
    fn a_tree_has_what_the_disk_has() {
        let disk = standard();
        let tree = Tree::read(disk.image()).unwrap();
        let hello = tree.get("/hello.txt").unwrap();
        let text = b"Hello from a MINIX file system.\n";
        assert_eq!((hello.kind, hello.size, hello.links), ('f', text.len() as u64, 1));
        assert_eq!(hello.fnv, fnv1a(text));
        assert_eq!(tree.get("/dir").unwrap().kind, 'd');
        assert_eq!(tree.get("/greeting").unwrap().kind, 'l');
        assert_eq!(tree.get("/d/sub/deep.txt").unwrap().kind, 'f');
        assert_eq!(tree.unlike(&tree), [""; 0]);
        assert!(!Tree::default().unlike(&tree).is_empty());
    }

    #[test]
    fn damage_is_found_and_looked_for_once() {
        let inspector = Inspector::default();
        let disk = standard();
        assert_eq!(inspector.inspect(&disk).unwrap().sound, None);
        // The inode bitmap and the superblock's piece.
        let damaged = DiskContents {
            changed: Arc::new(BTreeMap::from([(0, vec![0; 4096].into_boxed_slice())])),
            ..disk.clone()
        };
        assert_ne!(digest(&disk), digest(&damaged));
        let found = inspector.inspect(&damaged).unwrap();
        assert!(found.sound.is_some() && found.tree.is_err());
        assert_eq!(inspector.inspect(&damaged).unwrap(), found);
        assert_eq!(inspector.0.lock().unwrap().len(), 2);
    }
}
