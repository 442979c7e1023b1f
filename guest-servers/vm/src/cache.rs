//! The cache of file pages: (device, inode, offset) to frame.
//!
//! The cache holds one reference to each of its frames; the file system that announced the page and every
//! process that maps it hold theirs. A page that anybody else holds is never thrown out: what HANDLEMEM made present is
//! still present when the operation is repeated. Of the others, those that were not used for longest go first.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

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
    /// When it was used last, in uses of the cache.
    pub used: u64,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    pages: BTreeMap<Key, Page>,
    uses: u64,
}

impl Cache {
    /// An empty cache.
    pub const fn new() -> Cache {
        Cache { pages: BTreeMap::new(), uses: 0 }
    }

    /// Pages held.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The frames of its pages, one for each page.
    pub fn frames(&self) -> impl Iterator<Item = u64> {
        self.pages.values().map(|page| page.frame)
    }

    /// The page of `key`.
    pub fn get(&self, key: Key) -> Option<Page> {
        self.pages.get(&key).copied()
    }

    /// Notes that the page of `key` is used.
    pub fn touch(&mut self, key: Key) {
        if let Some(page) = self.pages.get_mut(&key) {
            self.uses = self.uses.saturating_add(1);
            page.used = self.uses;
        }
    }

    /// Puts a page in; answers the one it replaces, whose reference is now the caller's.
    pub fn insert(&mut self, key: Key, page: Page) -> Option<Page> {
        self.uses = self.uses.saturating_add(1);
        self.pages.insert(key, Page { used: self.uses, ..page })
    }

    /// Takes a page out; its reference is now the caller's.
    pub fn remove(&mut self, key: Key) -> Option<Page> {
        self.pages.remove(&key)
    }

    /// Takes out the `most` pages that were used longest ago of those that `unused` allows, and hands each to `removed`;
    /// answers how many. Pages that somebody is going to fetch, and that serve only him, go last.
    pub fn remove_oldest(
        &mut self,
        most: usize,
        mut unused: impl FnMut(&Page) -> bool,
        mut removed: impl FnMut(Page),
    ) -> usize {
        let mut candidates: Vec<(bool, u64, Key)> = Vec::new();
        for (key, page) in &self.pages {
            if unused(page) {
                candidates.push((page.once, page.used, *key));
            }
        }
        candidates.sort_unstable();
        candidates.truncate(most);
        for (_, _, key) in &candidates {
            self.pages.remove(key).into_iter().for_each(&mut removed);
        }
        candidates.len()
    }

    /// Takes out every page that `goes` allows, and hands it to `removed`.
    pub fn remove_all(
        &mut self,
        mut goes: impl FnMut(Key, &Page) -> bool,
        mut removed: impl FnMut(Page),
    ) -> u64 {
        let before = self.pages.len();
        self.pages.retain(|key, page| {
            let goes = goes(*key, page);
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

    fn filled() -> Cache {
        let mut cache = Cache::new();
        for (device, offset) in [(1, 0), (1, 4096), (2, 0)] {
            let page =
                Page { frame: device * 0x10000 + offset, once: device == 2, owner: 10, address: 0, used: 0 };
            assert_eq!(cache.insert(Key { device, inode: 5, offset }, page), None);
        }
        cache
    }

    #[test]
    fn removal_goes_by_what_it_is_told() {
        let mut cache = filled();
        let mut gone = Vec::new();
        let count = cache
            .remove_all(|key, page| key.device == 1 && page.frame != 0x10000, |page| gone.push(page.frame));
        assert_eq!((count, gone.as_slice()), (1, &[0x11000][..]));
        assert!(cache.get(Key { device: 1, inode: 5, offset: 0 }).is_some());
        assert_eq!(cache.remove_all(|_, _| true, drop), 2);
        assert!(cache.is_empty());
    }

    #[test]
    fn the_oldest_go_first_and_one_shot_pages_last() {
        let mut cache = filled();
        cache.touch(Key { device: 1, inode: 5, offset: 0 });
        let mut gone = Vec::new();
        assert_eq!(cache.remove_oldest(1, |_| true, |page| gone.push(page.frame)), 1);
        assert_eq!(cache.remove_oldest(9, |page| page.frame != 0x10000, |page| gone.push(page.frame)), 1);
        assert_eq!(cache.remove_oldest(9, |_| true, |page| gone.push(page.frame)), 1);
        assert_eq!(gone, [0x11000, 0x20000, 0x10000]);
        assert_eq!(cache.remove_oldest(9, |_| true, drop), 0);
    }
}
