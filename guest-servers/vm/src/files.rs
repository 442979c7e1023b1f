//! Files that regions refer to. VFS pins the vnode as long as an entry is in use.
//!
//! An entry belongs to one mapping of one process and of the copies that fork made of it; pieces into which unmapping cuts
//! it share the entry. It counts processes, not pieces.

use alloc::vec::Vec;

/// Index of a file in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(usize);

/// A mapped file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// VFS's handle for the pinned vnode.
    pub handle: u64,
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Files {
    /// Each with the number of processes that have regions of it.
    list: Vec<Option<(File, u32)>>,
}

impl Files {
    /// An empty table.
    pub const fn new() -> Files {
        Files { list: Vec::new() }
    }

    /// Adds a file that one process uses.
    pub fn add(&mut self, handle: u64, device: u64, inode: u64, size: u64) -> FileId {
        let file = Some((File { handle, device, inode, size }, 1));
        let index = self.list.iter().position(Option::is_none).unwrap_or(self.list.len());
        match self.list.get_mut(index) {
            Some(place) => *place = file,
            None => self.list.push(file),
        }
        FileId(index)
    }

    /// The file, if the id is in use.
    pub fn get(&self, id: FileId) -> Option<&File> {
        self.list.get(id.0)?.as_ref().map(|(file, _)| file)
    }

    /// One more process uses it.
    pub fn acquire(&mut self, id: FileId) {
        if let Some(Some((_, users))) = self.list.get_mut(id.0) {
            *users = users.saturating_add(1);
        }
    }

    /// Notes a new size of every entry for an inode.
    pub fn resize(&mut self, device: u64, inode: u64, size: u64) {
        for (file, _) in self.list.iter_mut().flatten() {
            if file.device == device && file.inode == inode {
                file.size = size;
            }
        }
    }

    /// A process uses it no more; answers the handle to release when that was the last one.
    pub fn release(&mut self, id: FileId) -> Option<u64> {
        let place = self.list.get_mut(id.0)?;
        let (file, users) = place.as_mut()?;
        *users -= 1;
        let last = (*users == 0).then_some(file.handle);
        if last.is_some() {
            *place = None;
        }
        last
    }

    /// Entries in use.
    pub fn len(&self) -> usize {
        self.list.iter().flatten().count()
    }

    /// Whether no entry is in use.
    pub fn is_empty(&self) -> bool {
        self.list.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_reused() {
        let mut files = Files::new();
        let first = files.add(70, 1, 2, 100);
        let second = files.add(71, 1, 3, 100);
        assert_eq!(files.release(first), Some(70));
        assert_eq!(files.release(first), None);
        assert_eq!(files.get(first), None);
        assert_eq!(files.add(72, 1, 4, 5), first);
        files.resize(1, 3, 50);
        assert_eq!(files.get(second).unwrap().size, 50);
        files.acquire(second);
        assert_eq!((files.release(second), files.release(second)), (None, Some(71)));
        files.acquire(second);
        assert_eq!(files.get(second), None);
        assert_eq!(files.release(first), Some(72));
        assert!(files.is_empty());
    }
}
