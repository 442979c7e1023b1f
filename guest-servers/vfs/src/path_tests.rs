use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::cell::RefCell;

use super::*;
use crate::executor::Executor;

/// A tree of absolute names; the node is the name.
#[derive(Default)]
struct Names(BTreeMap<String, Entry>);

enum Entry {
    Directory,
    File,
    Link(&'static str),
}

impl Names {
    fn sample() -> Names {
        let mut names = Names::default();
        let entries = [
            ("/", Entry::Directory),
            ("/etc", Entry::Directory),
            ("/etc/motd", Entry::File),
            ("/etc/up", Entry::Link("..")),
            ("/home", Entry::Directory),
            ("/home/config", Entry::Link("/etc")),
            ("/home/motd", Entry::Link("config/motd")),
            ("/home/gone", Entry::Link("nowhere")),
            ("/home/loop", Entry::Link("loop2")),
            ("/home/loop2", Entry::Link("/home/loop")),
            ("/home/empty", Entry::Link("")),
        ];
        for (name, entry) in entries {
            names.0.insert(name.to_string(), entry);
        }
        names
    }
}

impl Tree for Names {
    type Node = String;

    fn root(&self) -> String {
        "/".to_string()
    }

    fn kind(&self, node: &String) -> Kind {
        match self.0[node] {
            Entry::Directory => Kind::Directory,
            Entry::File => Kind::Other,
            Entry::Link(_) => Kind::Link,
        }
    }

    fn same(&self, one: &String, other: &String) -> bool {
        one == other
    }

    async fn lookup(&self, directory: &String, name: &[u8]) -> Result<String> {
        assert_eq!(self.kind(directory), Kind::Directory, "only directories are asked");
        let name = core::str::from_utf8(name).unwrap();
        if name == ".." {
            assert_ne!(directory, "/", "the root's parent is not asked for");
            let parent = directory.rsplit_once('/').unwrap().0;
            return Ok(if parent.is_empty() { "/".to_string() } else { parent.to_string() });
        }
        let full = alloc::format!("{}/{name}", directory.trim_end_matches('/'));
        self.0.contains_key(&full).then_some(full).ok_or(Errno::ENOENT)
    }

    async fn target(&self, link: &String) -> Result<Vec<u8>> {
        match self.0[link] {
            Entry::Link(target) => Ok(target.as_bytes().to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }
}

fn found(path: &str, last: Last) -> Result<Found<String>> {
    let result = Rc::new(RefCell::new(None));
    let (path, place) = (path.as_bytes().to_vec(), Rc::clone(&result));
    let executor = Executor::new();
    executor.spawn(refault_abi::Endpoint::NONE, async move {
        let tree = Names::sample();
        *place.borrow_mut() = Some(walk(&tree, "/home".to_string(), &path, last).await);
    });
    executor.run();
    result.take().unwrap()
}

fn node(path: &str, last: Last) -> Result<String> {
    found(path, last).and_then(Found::existing)
}

#[test]
fn plain_paths() {
    for (path, expected) in [
        ("/", "/"),
        ("///", "/"),
        (".", "/home"),
        ("..", "/"),
        ("../..", "/"),
        ("/..", "/"),
        ("/etc/motd", "/etc/motd"),
        ("//etc//motd", "/etc/motd"),
        ("../etc/./motd", "/etc/motd"),
        ("/etc/", "/etc"),
        ("/home/../etc", "/etc"),
    ] {
        assert_eq!(node(path, Last::Follow).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn links() {
    assert_eq!(node("motd", Last::Follow).as_deref(), Ok("/etc/motd"));
    assert_eq!(node("motd", Last::Keep).as_deref(), Ok("/home/motd"));
    assert_eq!(node("config", Last::Keep).as_deref(), Ok("/home/config"));
    assert_eq!(node("config/", Last::Keep).as_deref(), Ok("/etc"));
    assert_eq!(node("config/motd", Last::Keep).as_deref(), Ok("/etc/motd"));
    assert_eq!(node("/etc/up/home/config/up", Last::Follow).as_deref(), Ok("/"));
    assert_eq!(node("loop", Last::Follow), Err(Errno::ELOOP));
    assert_eq!(node("loop/x", Last::Keep), Err(Errno::ELOOP));
    assert_eq!(node("empty", Last::Follow), Err(Errno::ENOENT));
    // A link to nothing leads to the place where the missing file would be.
    let missing = found("gone", Last::Follow).unwrap();
    assert_eq!((missing.directory.as_str(), missing.name.as_slice()), ("/home", &b"nowhere"[..]));
    assert!(missing.node.is_none());
}

#[test]
fn last_component_by_name_only() {
    let new = found("/etc/new/", Last::Name).unwrap();
    assert_eq!((new.directory.as_str(), new.name.as_slice(), new.slashes), ("/etc", &b"new"[..], true));
    assert!(found("/", Last::Name).unwrap().is_dots());
    assert!(found("/etc/..", Last::Name).unwrap().is_dots());
    assert_eq!(found("/nope/new", Last::Name).unwrap_err(), Errno::ENOENT);
}

#[test]
fn wrong_paths() {
    assert_eq!(node("", Last::Follow), Err(Errno::ENOENT));
    assert_eq!(node("/etc/motd/x", Last::Follow), Err(Errno::ENOTDIR));
    assert_eq!(node("/etc/motd/", Last::Follow), Err(Errno::ENOTDIR));
    assert_eq!(node("/etc/motd/.", Last::Follow), Err(Errno::ENOTDIR));
    assert_eq!(node("a\0b", Last::Follow), Err(Errno::EINVAL));
    assert_eq!(node(&"x".repeat(61), Last::Follow), Err(Errno::ENAMETOOLONG));
    assert_eq!(node(&"/x".repeat(513), Last::Follow), Err(Errno::ENAMETOOLONG));
    assert_eq!(node(&"/.".repeat(512), Last::Follow).as_deref(), Ok("/"));
}
