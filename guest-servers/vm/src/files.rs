//! Files that regions refer to. VFS pins the vnode as long as an entry is in use.
//!
//! An entry belongs to one mapping of one process; pieces into which unmapping cuts it share the entry.

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
    list: Vec<Option<File>>,
}

impl Files {
    /// An empty table.
    pub const fn new() -> Files {
        Files { list: Vec::new() }
    }

    /// Adds a file.
    pub fn add(&mut self, handle: u64, device: u64, inode: u64, size: u64) -> FileId {
        let file = Some(File { handle, device, inode, size });
        let index = self.list.iter().position(Option::is_none).unwrap_or(self.list.len());
        match self.list.get_mut(index) {
            Some(place) => *place = file,
            None => self.list.push(file),
        }
        FileId(index)
    }

    /// The file, if the id is in use.
    pub fn get(&self, id: FileId) -> Option<&File> {
        self.list.get(id.0)?.as_ref()
    }

    /// Notes a new size of every entry for an inode.
    pub fn resize(&mut self, device: u64, inode: u64, size: u64) {
        for file in self.list.iter_mut().flatten() {
            if file.device == device && file.inode == inode {
                file.size = size;
            }
        }
    }

    /// The last piece of the mapping is gone; answers the handle to release.
    pub fn release(&mut self, id: FileId) -> Option<u64> {
        self.list.get_mut(id.0)?.take().map(|file| file.handle)
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
    }
}
