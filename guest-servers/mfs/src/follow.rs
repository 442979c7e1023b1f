//! Making the caches follow what was written to the disk beside them.
//!
//! The one thing to hold in mind: a page keeps its frame. Whoever maps it is to see what the disk holds now, so it is read
//! again where it is; only one that has no place on the disk any more, or that only VM still has, is forgotten.

use alloc::vec::Vec;

use refault_abi::Errno;

use crate::mount::{Mounted, Run};
use crate::system::{PAGE, PageKey, System};

impl Run {
    /// Whether any of its bytes were written.
    fn meets(&self, written: Written) -> bool {
        let end = self.position.saturating_add(self.end.saturating_sub(self.start) as u64);
        self.position < written.end && written.position < end
    }
}

/// What a file page holds.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Bytes of the file.
    size: u64,
    /// Bytes of the page before its end.
    valid: u64,
    runs: Vec<Run>,
}

/// Bytes `[position, end)` of the disk, written beside the caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) position: u64,
    pub(crate) end: u64,
}

impl<S: System> Mounted<S> {
    /// Which bytes of the disk every known file page holds.
    pub(crate) fn written_pages(&mut self, system: &mut S) -> Vec<(PageKey, Option<Layout>)> {
        let keys = self.pages.known();
        keys.into_iter().map(|key| (key, self.layout(system, key))).collect()
    }

    /// Which bytes of the disk a file page holds; nothing if that cannot be found out.
    fn layout(&mut self, system: &mut S, key: PageKey) -> Option<Layout> {
        let size = u64::from(self.regular(system, key.inode).ok()?.size);
        let runs = self.runs(key, size).ok()?;
        // Of the size counts what it says about this page.
        let valid = size.saturating_sub(key.offset()).min(PAGE as u64);
        (valid > 0).then_some(Layout { size, valid, runs })
    }

    /// Makes the caches follow what was written to the disk beside them. Nothing is dirty, and `before` is what
    /// [`Mounted::written_pages`] said then.
    pub(crate) fn follow(&mut self, system: &mut S, written: Written, before: &[(PageKey, Option<Layout>)]) {
        self.volume.store_mut().drop_bytes(written.position, written.end);
        for (key, old) in before {
            let new = self.layout(system, *key);
            let same = match (&new, old) {
                (Some(new), Some(old)) => new.valid == old.valid && new.runs == old.runs,
                _ => false,
            };
            if !same || new.as_ref().is_some_and(|new| new.runs.iter().any(|run| run.meets(written))) {
                self.read_again(system, *key, new.map(|new| new.size));
            }
        }
    }

    /// Reads a page again into the frame it has; without a size, or if it cannot be read, it is gone.
    fn read_again(&mut self, system: &mut S, key: PageKey, size: Option<u64>) {
        if let Some(mut cached) = self.pages.remove(key) {
            let filled =
                size.ok_or(Errno::ENOENT).and_then(|size| self.fill(system, key, size, cached.page.as_mut()));
            if filled.is_ok() {
                self.put(system, key, cached.page, cached.announced);
                return;
            }
            system.release(cached.page, cached.announced);
        }
        if self.pages.is_elsewhere(key) {
            system.forget(self.device, key);
            self.pages.not_elsewhere(key);
        }
    }
}
