//! Path resolution: one component at a time, symbolic links included.
//!
//! The one thing to hold in mind: between two components the tree may change, because other tasks run while a
//! lookup is under way. Every step is a question to the file system about one name in one directory that this
//! walk holds a reference to; nothing is assumed to be still true from the step before. It is not a name cache.

use alloc::vec::Vec;
use core::future::Future;

use refault_abi::vfs::PATH_MAX;
use refault_abi::{Errno, Result};

/// Symbolic links followed in one walk before ELOOP.
pub const MAX_LINKS: usize = 8;
/// Longest component: the MINIX version 3 directory entry's name field.
pub const NAME_MAX: usize = 60;

/// What a walk needs to know about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has names in it.
    Directory,
    /// Names another path.
    Link,
    /// Anything else.
    Other,
}

/// The tree that is walked.
pub trait Tree {
    /// A reference to a node.
    type Node: Clone;
    /// The root directory.
    fn root(&self) -> Self::Node;
    /// What the node is.
    fn kind(&self, node: &Self::Node) -> Kind;
    /// Whether both are the same node.
    fn same(&self, one: &Self::Node, other: &Self::Node) -> bool;
    /// Looks one name up.
    fn lookup(&self, directory: &Self::Node, name: &[u8]) -> impl Future<Output = Result<Self::Node>>;
    /// Reads a symbolic link.
    fn target(&self, link: &Self::Node) -> impl Future<Output = Result<Vec<u8>>>;
}

/// What to do with the last component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Look it up and follow it if it is a link.
    Follow,
    /// Look it up; a link is itself the result (unless slashes follow its name).
    Keep,
    /// Do not look it up: only its directory and its name are wanted.
    Name,
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct Found<N> {
    /// Directory of the last component.
    pub directory: N,
    /// The last component; "." where the path names a directory without one, as "/" does.
    pub name: Vec<u8>,
    /// What it is, if it was looked up and exists.
    pub node: Option<N>,
    /// Slashes follow it, so it can only be a directory.
    pub slashes: bool,
}

impl<N> Found<N> {
    /// The node, which has to exist.
    pub fn existing(self) -> Result<N> {
        self.node.ok_or(Errno::ENOENT)
    }

    /// Whether the name is "." or "..", which can be neither made nor removed.
    pub fn is_dots(&self) -> bool {
        self.name == b"." || self.name == b".."
    }
}

/// Walks `path` from `start`, or from the root if it begins with a slash.
pub async fn walk<T: Tree>(tree: &T, start: T::Node, path: &[u8], last: Last) -> Result<Found<T::Node>> {
    if path.len() as u64 > PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let mut rest = path.to_vec();
    let mut at = start;
    let mut links = 0;
    loop {
        let Some(step) = Step::first_of(&rest)? else { return Err(Errno::ENOENT) };
        if step.absolute {
            at = tree.root();
        }
        let is_last = step.rest.iter().all(|byte| *byte == b'/');
        let slashes = is_last && !step.rest.is_empty();
        if is_last && last == Last::Name {
            return Ok(Found { directory: at, name: step.name.to_vec(), node: None, slashes });
        }

        let node = if step.name == b"." || (step.name == b".." && tree.same(&at, &tree.root())) {
            at.clone()
        } else {
            match tree.lookup(&at, step.name).await {
                Ok(node) => node,
                Err(Errno::ENOENT) if is_last => {
                    return Ok(Found { directory: at, name: step.name.to_vec(), node: None, slashes });
                }
                Err(error) => return Err(error),
            }
        };

        let kind = tree.kind(&node);
        if kind == Kind::Link && (!is_last || slashes || last == Last::Follow) {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            let mut expanded = tree.target(&node).await?;
            if expanded.is_empty() {
                return Err(Errno::ENOENT);
            }
            expanded.extend_from_slice(step.rest);
            if expanded.len() as u64 > PATH_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            rest = expanded;
            continue;
        }
        if kind != Kind::Directory && (!is_last || slashes) {
            return Err(Errno::ENOTDIR);
        }
        if is_last {
            return Ok(Found { directory: at, name: step.name.to_vec(), node: Some(node), slashes });
        }
        at = node;
        rest = step.rest.to_vec();
        // An inner slash is no leading one.
        rest.drain(..rest.iter().take_while(|byte| **byte == b'/').count());
    }
}

/// The first component of a path.
struct Step<'a> {
    absolute: bool,
    name: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Step<'a> {
    /// `None` for an empty path.
    fn first_of(path: &'a [u8]) -> Result<Option<Step<'a>>> {
        let slashes = path.iter().take_while(|byte| **byte == b'/').count();
        let (absolute, path) = (slashes > 0, path.get(slashes..).unwrap_or_default());
        if path.is_empty() {
            return Ok(absolute.then_some(Step { absolute, name: b".", rest: b"" }));
        }
        let length = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
        if length > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let (name, rest) = path.split_at(length);
        Ok(Some(Step { absolute, name, rest }))
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
