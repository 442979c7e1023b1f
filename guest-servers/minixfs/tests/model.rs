//! Long random sequences of operations, next to a model in memory: the same answers, the same tree, nothing leaked,
//! and an image the host's checker accepts.

mod common;

use std::collections::BTreeMap;

use common::{ATTRIBUTES, DIRECTORY, Memory, fresh, fsck, list, mount, read, truncate, write};
use proptest::prelude::*;
use refault_minixfs::{Error, FileKind, InodeNumber, ROOT_INODE};

#[derive(Debug, Clone)]
enum Step {
    Create(usize, usize),
    Mkdir(usize, usize),
    Symlink(usize, usize, u8),
    Write(usize, usize, u32, u16),
    Truncate(usize, usize, u32),
    Unlink(usize, usize),
    Rmdir(usize, usize),
    Link((usize, usize), (usize, usize)),
    Rename((usize, usize), (usize, usize)),
}

/// Directories a step can name: the root and the inodes of directories made so far, by index.
const DIRECTORIES: usize = 6;
const NAMES: usize = 8;

fn name(index: usize) -> Vec<u8> {
    // One of the longest possible, so that a name without a terminating zero takes part.
    if index == 0 { vec![b'L'; 60] } else { format!("name{index}").into_bytes() }
}

fn place() -> impl Strategy<Value = (usize, usize)> {
    (0..DIRECTORIES, 0..NAMES)
}

fn step() -> impl Strategy<Value = Step> {
    // Offsets near the borders of the zone tree are as likely as all others together.
    let offset = prop_oneof![
        0u32..20_000,
        Just(7 * 1024 - 1),
        Just(7 * 1024),
        Just(263 * 1024 - 5),
        Just(263 * 1024),
        Just(519 * 1024 - 1),
    ];
    let size = prop_oneof![
        0u32..20_000,
        Just(7 * 1024),
        Just(263 * 1024),
        Just(264 * 1024 + 1),
        Just(65_799 * 1024)
    ];
    prop_oneof![
        4 => place().prop_map(|(d, n)| Step::Create(d, n)),
        2 => place().prop_map(|(d, n)| Step::Mkdir(d, n)),
        1 => (place(), 1u8..200).prop_map(|((d, n), l)| Step::Symlink(d, n, l)),
        6 => (place(), offset, 1u16..5000).prop_map(|((d, n), o, l)| Step::Write(d, n, o, l)),
        2 => (place(), size).prop_map(|((d, n), s)| Step::Truncate(d, n, s)),
        2 => place().prop_map(|(d, n)| Step::Unlink(d, n)),
        1 => place().prop_map(|(d, n)| Step::Rmdir(d, n)),
        1 => (place(), place()).prop_map(|(a, b)| Step::Link(a, b)),
        3 => (place(), place()).prop_map(|(a, b)| Step::Rename(a, b)),
    ]
}

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Link(Vec<u8>),
    Directory { names: BTreeMap<Vec<u8>, InodeNumber>, parent: InodeNumber },
}

/// The model: objects by inode number (which the volume chooses), directories as maps.
struct Model {
    nodes: BTreeMap<InodeNumber, Node>,
}

impl Model {
    fn new() -> Self {
        let root = Node::Directory { names: BTreeMap::new(), parent: ROOT_INODE };
        Model { nodes: BTreeMap::from([(ROOT_INODE, root)]) }
    }

    fn directory(&self, index: usize) -> InodeNumber {
        let all: Vec<_> =
            self.nodes.iter().filter(|(_, n)| matches!(n, Node::Directory { .. })).map(|(&i, _)| i).collect();
        all[index % all.len()]
    }

    fn names(&mut self, directory: InodeNumber) -> &mut BTreeMap<Vec<u8>, InodeNumber> {
        match self.nodes.get_mut(&directory) {
            Some(Node::Directory { names, .. }) => names,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn find(&mut self, directory: InodeNumber, name: &[u8]) -> Option<InodeNumber> {
        self.names(directory).get(name).copied()
    }

    fn is_directory(&self, number: InodeNumber) -> bool {
        matches!(self.nodes.get(&number), Some(Node::Directory { .. }))
    }

    fn links(&self, number: InodeNumber) -> usize {
        let names = self.nodes.values().filter_map(|node| match node {
            Node::Directory { names, .. } => Some(names.values().filter(|&&n| n == number).count()),
            _ => None,
        });
        names.sum()
    }

    fn below(&self, ancestor: InodeNumber, mut number: InodeNumber) -> bool {
        loop {
            if number == ancestor {
                return true;
            }
            match self.nodes.get(&number) {
                Some(Node::Directory { parent, .. }) if *parent != number => number = *parent,
                _ => return false,
            }
        }
    }

    /// Drops an object that has no name left; the volume reclaims it.
    fn drop_if_unnamed(&mut self, volume: &mut Memory, number: InodeNumber, links: u16) {
        if self.is_directory(number) {
            assert_eq!(links, 0);
        } else {
            assert_eq!(usize::from(links), self.links(number));
        }
        if links == 0 {
            self.nodes.remove(&number);
            volume.reclaim(number).unwrap();
        }
    }
}

/// An answer that is not the model's to predict: how full the disk is.
fn full<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::NoSpace | Error::NoInodes))
}

fn run(volume: &mut Memory, model: &mut Model, step: &Step, salt: u8) {
    match *step {
        Step::Create(d, n) => {
            let (directory, name) = (model.directory(d), name(n));
            let result = volume.create(directory, &name, ATTRIBUTES);
            added(model, directory, name, result, Node::File(Vec::new()));
        }
        Step::Mkdir(d, n) => {
            let (directory, name) = (model.directory(d), name(n));
            let result = volume.mkdir(directory, &name, DIRECTORY);
            added(
                model,
                directory,
                name,
                result,
                Node::Directory { names: BTreeMap::new(), parent: directory },
            );
        }
        Step::Symlink(d, n, length) => {
            let (directory, name) = (model.directory(d), name(n));
            let target = vec![b'a' + salt % 26; length.into()];
            let result = volume.symlink(directory, &name, &target, ATTRIBUTES);
            added(model, directory, name, result, Node::Link(target));
        }
        Step::Write(d, n, offset, length) => {
            let directory = model.directory(d);
            let Some(number) = model.find(directory, &name(n)) else { return };
            let Some(Node::File(contents)) = model.nodes.get_mut(&number) else { return };
            let data: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(salt)).collect();
            let result = write(volume, number, offset.into(), &data);
            // A full disk stops a write in the middle; the size says how much of it is there.
            let stored = if full(&result) {
                volume.trim(number).unwrap();
                (volume.inode(number).unwrap().size).saturating_sub(offset).min(length.into()) as usize
            } else {
                result.unwrap();
                data.len()
            };
            if stored > 0 {
                let end = offset as usize + stored;
                if full(&result) && end < contents.len() {
                    // An overwrite that met a hole: which blocks arrived is for the volume to say.
                    *contents = read(volume, number).unwrap();
                    return;
                }
                contents.resize(contents.len().max(end), 0);
                contents[offset as usize..end].copy_from_slice(&data[..stored]);
            }
        }
        Step::Truncate(d, n, size) => {
            let directory = model.directory(d);
            let Some(number) = model.find(directory, &name(n)) else { return };
            let Some(Node::File(contents)) = model.nodes.get_mut(&number) else { return };
            truncate(volume, number, size.into()).unwrap();
            contents.resize(size as usize, 0);
        }
        Step::Unlink(d, n) => {
            let (directory, name) = (model.directory(d), name(n));
            let result = volume.unlink(directory, &name);
            match model.find(directory, &name) {
                None => assert_eq!(result.err(), Some(Error::NotFound)),
                Some(number) if model.is_directory(number) => {
                    assert_eq!(result.err(), Some(Error::IsDirectory))
                }
                Some(number) => {
                    let removed = result.unwrap();
                    assert_eq!(removed.inode, number);
                    model.names(directory).remove(&name);
                    model.drop_if_unnamed(volume, number, removed.links);
                }
            }
        }
        Step::Rmdir(d, n) => {
            let (directory, name) = (model.directory(d), name(n));
            let result = volume.rmdir(directory, &name);
            match model.find(directory, &name) {
                None => assert_eq!(result.err(), Some(Error::NotFound)),
                Some(number) if !model.is_directory(number) => {
                    assert_eq!(result.err(), Some(Error::NotDirectory))
                }
                Some(number) if !model.names(number).is_empty() => {
                    assert_eq!(result.err(), Some(Error::NotEmpty))
                }
                Some(number) => {
                    let removed = result.unwrap();
                    assert_eq!(removed.inode, number);
                    model.names(directory).remove(&name);
                    model.drop_if_unnamed(volume, number, removed.links);
                }
            }
        }
        Step::Link((d, n), (to, new)) => {
            let (directory, to, new) = (model.directory(d), model.directory(to), name(new));
            let Some(number) = model.find(directory, &name(n)) else { return };
            let result = volume.link(number, to, &new);
            if model.is_directory(number) {
                assert_eq!(result, Err(Error::IsDirectory));
            } else if model.find(to, &new).is_some() {
                assert_eq!(result, Err(Error::Exists));
            } else if !full(&result) {
                result.unwrap();
                model.names(to).insert(new, number);
            }
        }
        Step::Rename((d, n), (to, new)) => rename(volume, model, (d, n), (to, new)),
    }
}

fn added(
    model: &mut Model,
    directory: InodeNumber,
    name: Vec<u8>,
    result: Result<InodeNumber, Error>,
    node: Node,
) {
    if model.find(directory, &name).is_some() {
        assert_eq!(result, Err(Error::Exists));
    } else if !full(&result) {
        let number = result.unwrap();
        assert!(model.nodes.insert(number, node).is_none(), "inode {number} was given out twice");
        model.names(directory).insert(name, number);
    }
}

fn rename(volume: &mut Memory, model: &mut Model, (d, n): (usize, usize), (to, new): (usize, usize)) {
    let (from, old, to, new) = (model.directory(d), name(n), model.directory(to), name(new));
    let result = volume.rename(from, &old, to, &new);
    let Some(number) = model.find(from, &old) else {
        assert_eq!(result.err(), Some(Error::NotFound));
        return;
    };
    let is_directory = model.is_directory(number);
    if is_directory && from != to && model.below(number, to) {
        assert_eq!(result.err(), Some(Error::Invalid));
        return;
    }
    match model.find(to, &new) {
        Some(victim) if victim == number => assert_eq!(result.unwrap(), None),
        Some(victim) if is_directory && !model.is_directory(victim) => {
            assert_eq!(result.err(), Some(Error::NotDirectory));
        }
        Some(victim) if !is_directory && model.is_directory(victim) => {
            assert_eq!(result.err(), Some(Error::IsDirectory));
        }
        Some(victim) if is_directory && !model.names(victim).is_empty() => {
            assert_eq!(result.err(), Some(Error::NotEmpty));
        }
        victim if !full(&result) => {
            let removed = result.unwrap();
            assert_eq!(removed.map(|removed| removed.inode), victim);
            model.names(from).remove(&old);
            model.names(to).insert(new, number);
            if let Some(Node::Directory { parent, .. }) = model.nodes.get_mut(&number) {
                *parent = to;
            }
            if let Some(removed) = removed {
                model.drop_if_unnamed(volume, removed.inode, removed.links);
            }
        }
        _ => {}
    }
}

/// The tree on the volume is the model's.
fn compare(volume: &mut Memory, model: &Model) {
    for (&number, node) in &model.nodes {
        let inode = volume.inode(number).unwrap();
        match node {
            Node::File(contents) => {
                assert_eq!(inode.kind, FileKind::Regular);
                assert_eq!(inode.size as usize, contents.len());
                assert!(read(volume, number).unwrap() == *contents, "contents of inode {number}");
                assert_eq!(usize::from(inode.links), model.links(number));
            }
            Node::Link(target) => {
                let mut buffer = vec![0; target.len()];
                assert_eq!(volume.readlink(number, &mut buffer), Ok(target.len()));
                assert_eq!(&buffer, target);
            }
            Node::Directory { names, parent } => {
                let listed: BTreeMap<_, _> = list(volume, number).unwrap().into_iter().collect();
                assert_eq!(&listed, names);
                assert_eq!(volume.lookup(number, b".."), Ok(*parent));
                let below = names.values().filter(|&&n| model.is_directory(n)).count();
                assert_eq!(usize::from(inode.links), 2 + below);
            }
        }
    }
    let space = volume.space().unwrap();
    assert_eq!(space.free_inodes as usize, volume.superblock().inodes() as usize - model.nodes.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..120), roomy: bool) {
        // The small volume runs full, the other one does not.
        let mut volume = if roomy { fresh(2048, None) } else { fresh(120, Some(16)) };
        let mut model = Model::new();
        for (index, step) in steps.iter().enumerate() {
            run(&mut volume, &mut model, step, index as u8);
        }
        compare(&mut volume, &model);
        let bytes = volume.into_store().into_bytes();
        fsck(&bytes);
        compare(&mut mount(bytes), &model);
    }
}
