//! The cache of file pages: which page of which file is in which frame.
//!
//! It keeps track and chooses victims; moving bytes between a page and the disk is `mount.rs`'s work. Pages that were
//! announced are shared with VM: their frames are never used for another page.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::system::PageKey;

/// Most pages kept: 4 MiB of files.
pub const PAGES: usize = 1024;

/// One page of a file.
#[derive(Debug)]
pub struct Cached<P> {
    /// The frame.
    pub page: P,
    /// It holds bytes the disk does not have.
    pub dirty: bool,
    /// VM knows of it.
    pub announced: bool,
    used: u64,
}

/// The pages of one mount.
#[derive(Debug)]
pub struct PageCache<P> {
    pages: BTreeMap<PageKey, Cached<P>>,
    /// Pages that VM may still have although they left this cache.
    elsewhere: BTreeSet<PageKey>,
    limit: usize,
    clock: u64,
}

impl<P> PageCache<P> {
    /// An empty cache of at most `limit` (at least 1) pages.
    pub fn new(limit: usize) -> Self {
        PageCache { pages: BTreeMap::new(), elsewhere: BTreeSet::new(), limit: limit.max(1), clock: 0 }
    }

    /// The page, if it is here.
    pub fn get(&mut self, key: PageKey) -> Option<&mut Cached<P>> {
        self.clock = self.clock.saturating_add(1);
        let cached = self.pages.get_mut(&key)?;
        cached.used = self.clock;
        Some(cached)
    }

    /// Whether the page is here; that is no use of it.
    pub fn contains(&self, key: PageKey) -> bool {
        self.pages.contains_key(&key)
    }

    /// How many pages may be here.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Puts a page in. The key must not be here yet; the old page would be lost otherwise, so it is handed back.
    #[must_use]
    pub fn insert(&mut self, key: PageKey, page: P, announced: bool) -> Option<Cached<P>> {
        self.clock = self.clock.saturating_add(1);
        self.elsewhere.remove(&key);
        self.pages.insert(key, Cached { page, dirty: false, announced, used: self.clock })
    }

    /// Takes a page out. If VM knows of it, this is remembered.
    pub fn remove(&mut self, key: PageKey) -> Option<Cached<P>> {
        let cached = self.pages.remove(&key)?;
        if cached.announced {
            self.elsewhere.insert(key);
        }
        Some(cached)
    }

    /// Whether VM may have this page although it is not here.
    pub fn is_elsewhere(&self, key: PageKey) -> bool {
        self.elsewhere.contains(&key)
    }

    /// VM does not have it any more.
    pub fn not_elsewhere(&mut self, key: PageKey) {
        self.elsewhere.remove(&key);
    }

    /// Every page here, least recently used first; clean ones before dirty ones.
    pub fn victims(&self) -> Vec<PageKey> {
        let mut keys: Vec<_> =
            self.pages.iter().map(|(&key, cached)| (cached.dirty, cached.used, key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, _, key)| key).collect()
    }

    /// The least recently used clean page.
    pub fn clean_victim(&self) -> Option<PageKey> {
        let clean = self.pages.iter().filter(|(_, cached)| !cached.dirty);
        clean.min_by_key(|(_, cached)| cached.used).map(|(&key, _)| key)
    }

    /// The dirty pages, in the order of files.
    pub fn dirty(&self) -> Vec<PageKey> {
        self.pages.iter().filter(|(_, cached)| cached.dirty).map(|(&key, _)| key).collect()
    }

    /// The pages of a file from page `first` on: those here, and those VM may have.
    pub fn from(&self, inode: u32, first: u32) -> (Vec<PageKey>, Vec<PageKey>) {
        let range = PageKey { inode, index: first }..=PageKey { inode, index: u32::MAX };
        let here = self.pages.range(range.clone()).map(|(&key, _)| key).collect();
        (here, self.elsewhere.range(range).copied().collect())
    }

    /// Every page that is here or may be with VM.
    pub fn known(&self) -> Vec<PageKey> {
        self.pages.keys().chain(&self.elsewhere).copied().collect()
    }

    /// How many pages are here.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }
}
