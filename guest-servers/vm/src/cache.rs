//! The cache of file pages: (device, inode, offset) to frame.
//!
//! The cache holds one reference to each of its frames; the file system that announced the page and every
//! process that maps it hold theirs. A page that any process but the file system maps is never thrown out: what
//! HANDLEMEM made present is still present when the operation is repeated.

use alloc::collections::BTreeMap;

/// Name of a file page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Offset into the file, page aligned.
    pub offset: u64,
}

/// A cached page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// GPA of its frame.
    pub frame: u64,
    /// Serves one fault only.
    pub once: bool,
    /// Slot of the file system that announced it.
    pub owner: usize,
    /// Address in that file system's memory.
    pub address: u64,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    pages: BTreeMap<Key, Page>,
}

impl Cache {
    /// An empty cache.
    pub const fn new() -> Cache {
        Cache { pages: BTreeMap::new() }
    }

    /// Pages held.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The page of `key`.
    pub fn get(&self, key: Key) -> Option<Page> {
        self.pages.get(&key).copied()
    }

    /// Puts a page in; answers the one it replaces, whose reference is now the caller's.
    pub fn insert(&mut self, key: Key, page: Page) -> Option<Page> {
        self.pages.insert(key, page)
    }

    /// Takes a page out; its reference is now the caller's.
    pub fn remove(&mut self, key: Key) -> Option<Page> {
        self.pages.remove(&key)
    }

    /// Takes out every page (of `device` only, if given) that `unused` allows, and hands it to `removed`.
    pub fn remove_unused(
        &mut self,
        device: Option<u64>,
        mut unused: impl FnMut(&Page) -> bool,
        mut removed: impl FnMut(Page),
    ) -> u64 {
        let before = self.pages.len();
        self.pages.retain(|key, page| {
            let goes = device.is_none_or(|device| device == key.device) && unused(page);
            if goes {
                removed(*page);
            }
            !goes
        });
        (before - self.pages.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_respects_device_and_use() {
        let mut cache = Cache::new();
        for (device, offset) in [(1, 0), (1, 4096), (2, 0)] {
            let page = Page { frame: device * 0x10000 + offset, once: false, owner: 10, address: 0 };
            assert_eq!(cache.insert(Key { device, inode: 5, offset }, page), None);
        }
        let mut gone = alloc::vec::Vec::new();
        let count = cache.remove_unused(Some(1), |page| page.frame != 0x10000, |page| gone.push(page.frame));
        assert_eq!((count, gone.as_slice()), (1, &[0x11000][..]));
        assert!(cache.get(Key { device: 1, inode: 5, offset: 0 }).is_some());
        assert_eq!(cache.remove_unused(None, |_| true, drop), 2);
        assert!(cache.is_empty());
    }
}
