//! Writing the image: how large it has to be, then the tree, block by block.
//!
//! Metadata goes through a store that keeps every changed block in memory until the end; file data goes straight to the
//! file, in runs of neighbouring zones.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use refault_abi::pattern;
use refault_minixfs::format::{self, BLOCK_SIZE};
use refault_minixfs::{
    Access, Attributes, BlockStore, Error, InodeNumber, IoError, ROOT_INODE, Superblock, Volume,
};

use super::Summary;
use super::error::{MkfsError, during};
use super::tree::{Contents, Kind, Node};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// The largest image: what a bitmap of 16-bit length can count, less room for the inodes.
const SIZE_MAX: u64 = 256 << 30;
/// File data is moved in pieces of this many bytes, a multiple of the block size.
const PIECE: usize = 64 << 10;
/// Images that size themselves have at least this much room left, in blocks: 1 MiB.
const SPARE_BLOCKS: u64 = 1 << 10;
/// ... and are a multiple of this many blocks: 64 KiB.
const ROUND_BLOCKS: u64 = 64;
const DIRECT: u64 = 7;
const PER_INDIRECT: u64 = BLOCK / 4;

/// The shape of the image, known to hold the tree.
pub(super) struct Plan {
    shape: Superblock,
    /// The latest date of anything in the tree.
    now: u32,
}

/// What a tree needs.
#[derive(Default)]
struct Needs {
    blocks: u64,
    inodes: u64,
    now: u32,
}

impl Plan {
    pub(super) fn new(root: &Node, size: Option<u64>) -> Result<Self, MkfsError> {
        let mut needs = Needs::default();
        needs.add(root);
        let blocks = match size {
            Some(size) => size / BLOCK,
            None => {
                let wanted = needs.blocks + needs.blocks / 8 + SPARE_BLOCKS;
                // A third of the blocks have inodes, 16 to a block; bitmaps and the rest are within the last terms.
                let metadata = wanted / 40 + needs.inodes / 16 + 16;
                (wanted + metadata).next_multiple_of(ROUND_BLOCKS)
            }
        };
        let given = size.unwrap_or(blocks * BLOCK);
        if given > SIZE_MAX {
            return Err(MkfsError::TooLarge { given, limit: SIZE_MAX });
        }
        // Within 32 bits: 256 GiB are 2^28 blocks.
        let blocks = blocks as u32;
        let limit = format::max_inodes(blocks);
        let inodes = u32::try_from(needs.inodes).ok().filter(|&inodes| inodes <= limit);
        let inodes = inodes.ok_or(MkfsError::TooManyFiles { count: needs.inodes, limit })?;
        // The usual number of inodes if there is room for it, else just those needed.
        let usual = (blocks / 3).min(limit).max(inodes);
        let shape = [usual, inodes].into_iter().find_map(|inodes| needs.shape(blocks, inodes));
        let shape = shape.ok_or_else(|| MkfsError::TooSmall { given, needed: needs.smallest(inodes) })?;
        Ok(Plan { shape, now: needs.now })
    }
}

impl Needs {
    /// The shape with that many blocks and inodes, if there is one that holds the tree.
    fn shape(&self, blocks: u32, inodes: u32) -> Option<Superblock> {
        let shape = format::shape(blocks, Some(inodes)).ok()?;
        (u64::from(shape.data_zones()) >= self.blocks).then_some(shape)
    }

    /// Bytes of the smallest image that holds the tree.
    fn smallest(&self, inodes: u32) -> u64 {
        // What is sure to be needed; the bitmaps make it a little more.
        let least = self.blocks + u64::from(inodes).div_ceil(16) + 4;
        let least = u32::try_from(least).unwrap_or(u32::MAX).max(format::MIN_BLOCKS);
        let found = (least..=u32::MAX).take(1 << 17).find(|&blocks| self.shape(blocks, inodes).is_some());
        u64::from(found.unwrap_or(u32::MAX)) * BLOCK
    }

    fn add(&mut self, node: &Node) {
        self.inodes += 1;
        self.now = self.now.max(node.modified);
        match &node.kind {
            Kind::Directory(entries) => {
                self.blocks += zones_of((entries.len() as u64 + 2) * 64);
                for entry in entries {
                    self.add(entry);
                }
            }
            Kind::File(_, length) => self.blocks += zones_of(*length),
            Kind::Link(_) => self.blocks += 1,
        }
    }
}

/// Zones that a file of `length` bytes takes, indirect ones included.
fn zones_of(length: u64) -> u64 {
    let data = length.div_ceil(BLOCK);
    let single = data.saturating_sub(DIRECT);
    let double = single.saturating_sub(PER_INDIRECT);
    let triple = double.saturating_sub(PER_INDIRECT * PER_INDIRECT);
    let mut zones = data;
    if single > 0 {
        zones += 1;
    }
    if double > 0 {
        zones += 1 + double.min(PER_INDIRECT * PER_INDIRECT).div_ceil(PER_INDIRECT);
    }
    if triple > 0 {
        zones += 1 + triple.div_ceil(PER_INDIRECT * PER_INDIRECT) + triple.div_ceil(PER_INDIRECT);
    }
    zones
}

/// Metadata blocks on their way to a file that is still empty.
struct ImageStore<'a> {
    file: &'a File,
    blocks: BTreeMap<u32, Vec<u8>>,
    limit: u32,
    /// What the system said when a block could not be moved: [`IoError`] has no room for it.
    failure: Option<io::Error>,
}

impl ImageStore<'_> {
    fn entry(&mut self, number: u32) -> Result<&mut Vec<u8>, IoError> {
        if number >= self.limit {
            return Err(IoError { block: number });
        }
        // The file is new and all zeros: a block that was not written yet need not be read.
        match self.blocks.entry(number) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(vec![0; BLOCK_SIZE as usize])),
        }
    }
}

impl BlockStore for ImageStore<'_> {
    fn block(&mut self, number: u32) -> Result<&[u8], IoError> {
        self.entry(number).map(|block| block.as_slice())
    }

    fn block_mut(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        self.entry(number).map(Vec::as_mut_slice)
    }

    fn block_zeroed(&mut self, number: u32) -> Result<&mut [u8], IoError> {
        let block = self.entry(number)?;
        block.fill(0);
        Ok(block)
    }

    fn forget(&mut self, number: u32) {
        self.blocks.remove(&number);
    }

    fn flush(&mut self) -> Result<(), IoError> {
        for (&number, block) in &self.blocks {
            if let Err(error) = self.file.write_all_at(block, u64::from(number) * BLOCK) {
                self.failure = Some(error);
                return Err(IoError { block: number });
            }
        }
        self.blocks.clear();
        Ok(())
    }
}

/// Writes the image into `file`, which is empty; `path` is what messages call it.
pub(super) fn write(file: &File, path: &Path, root: &Node, plan: &Plan) -> Result<Summary, MkfsError> {
    let shape = plan.shape;
    let bytes = u64::from(shape.zones()) * BLOCK;
    file.set_len(bytes).map_err(during("set the size of", path))?;
    let mut store = ImageStore { file, blocks: BTreeMap::new(), limit: shape.zones(), failure: None };
    let defect = |source: Error| MkfsError::Volume { path: path.into(), source };
    format::write_empty(&mut store, &shape, root.permissions, root.modified)
        .map_err(|error| defect(error.into()))?;
    let mut volume = Volume::mount(store, shape, Access::ReadWrite).map_err(defect)?;
    volume.set_time(plan.now);

    let mut copy = Copy { file, path, volume, buffer: vec![0; PIECE], summary: Summary::empty(&shape) };
    if let Kind::Directory(entries) = &root.kind {
        copy.fill(ROOT_INODE, entries)?;
    }
    copy.dated(ROOT_INODE, root)?;
    copy.finish()
}

impl Summary {
    fn empty(shape: &Superblock) -> Self {
        let bytes = u64::from(shape.zones()) * BLOCK;
        let inodes = shape.inodes();
        Summary { bytes, inodes, files: 0, directories: 0, links: 0, data_bytes: 0, free_bytes: 0 }
    }
}

/// A tree on its way into a volume.
struct Copy<'a> {
    file: &'a File,
    path: &'a Path,
    volume: Volume<ImageStore<'a>>,
    buffer: Vec<u8>,
    summary: Summary,
}

impl Copy<'_> {
    fn fill(&mut self, directory: InodeNumber, entries: &[Node]) -> Result<(), MkfsError> {
        for node in entries {
            let attributes = Attributes { permissions: node.permissions, uid: 0, gid: 0 };
            let made = match &node.kind {
                Kind::Directory(_) => self.volume.mkdir(directory, &node.name, attributes),
                Kind::File(..) => self.volume.create(directory, &node.name, attributes),
                Kind::Link(target) => self.volume.symlink(directory, &node.name, target, attributes),
            };
            let inode = made.map_err(|error| refused(node, error))?;
            match &node.kind {
                Kind::Directory(entries) => {
                    self.summary.directories += 1;
                    self.fill(inode, entries)?;
                }
                Kind::File(contents, length) => {
                    self.summary.files += 1;
                    self.summary.data_bytes += length;
                    self.copy_file(inode, node, contents, *length)?;
                }
                Kind::Link(_) => self.summary.links += 1,
            }
            // Last, since filling it has changed it.
            self.dated(inode, node)?;
        }
        Ok(())
    }

    fn copy_file(
        &mut self,
        inode: InodeNumber,
        node: &Node,
        contents: &Contents,
        length: u64,
    ) -> Result<(), MkfsError> {
        let mut source = match contents {
            Contents::Origin => Some(File::open(&node.origin).map_err(during("open", &node.origin))?),
            Contents::Bytes(_) | Contents::Pattern(_) => None,
        };
        let changed = || MkfsError::Changed { path: node.origin.clone() };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut position = 0u64;
        while position < length {
            let count = (length - position).min(PIECE as u64) as usize;
            // Whole blocks, so that nothing but zeros follows the end of the file in its last one.
            buffer.fill(0);
            let piece = buffer.get_mut(..count).ok_or_else(changed)?;
            match (contents, &mut source) {
                (Contents::Pattern(id), _) => pattern::fill(*id, position, piece),
                (Contents::Bytes(bytes), _) => {
                    let start = position as usize;
                    piece.copy_from_slice(bytes.get(start..start + count).ok_or_else(changed)?);
                }
                (Contents::Origin, Some(file)) => file.read_exact(piece).map_err(|error| {
                    let shorter = error.kind() == io::ErrorKind::UnexpectedEof;
                    if shorter { changed() } else { during("read", &node.origin)(error) }
                })?,
                (Contents::Origin, None) => return Err(changed()),
            }
            let blocks = count.div_ceil(BLOCK_SIZE as usize);
            self.write_piece(
                inode,
                node,
                (position / BLOCK) as u32,
                &buffer[..blocks * BLOCK_SIZE as usize],
            )?;
            position += count as u64;
            self.volume.grow_to(inode, position).map_err(|error| refused(node, error))?;
        }
        if let Some(mut file) = source
            && file.read(&mut [0; 1]).map_err(during("read", &node.origin))? != 0
        {
            return Err(changed());
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Stores whole blocks of a file, neighbouring zones in one write.
    fn write_piece(
        &mut self,
        inode: InodeNumber,
        node: &Node,
        first: u32,
        data: &[u8],
    ) -> Result<(), MkfsError> {
        let mut run: Option<(u32, usize, usize)> = None;
        for (index, _) in data.chunks(BLOCK_SIZE as usize).enumerate() {
            let mapping =
                self.volume.map_for_write(inode, first + index as u32).map_err(|e| refused(node, e))?;
            run = match run {
                Some((zone, from, count)) if zone + count as u32 == mapping.zone => {
                    Some((zone, from, count + 1))
                }
                other => {
                    self.write_run(other, data)?;
                    Some((mapping.zone, index, 1))
                }
            };
        }
        self.write_run(run, data)
    }

    fn write_run(&self, run: Option<(u32, usize, usize)>, data: &[u8]) -> Result<(), MkfsError> {
        let Some((zone, from, count)) = run else { return Ok(()) };
        let bytes = &data[from * BLOCK_SIZE as usize..(from + count) * BLOCK_SIZE as usize];
        self.file.write_all_at(bytes, u64::from(zone) * BLOCK).map_err(during("write", self.path))
    }

    fn dated(&mut self, inode: InodeNumber, node: &Node) -> Result<(), MkfsError> {
        self.volume.set_times(inode, node.modified, node.modified).map_err(|error| refused(node, error))
    }

    fn finish(mut self) -> Result<Summary, MkfsError> {
        let space = self.volume.space();
        let flushed = space.and_then(|space| self.volume.flush().map(|()| space));
        let space = flushed.map_err(|source| match self.volume.store_mut().failure.take() {
            Some(error) => during("write", self.path)(error),
            None => MkfsError::Volume { path: self.path.into(), source },
        })?;
        self.summary.free_bytes = u64::from(space.free_zones) * BLOCK;
        Ok(self.summary)
    }
}

fn refused(node: &Node, source: Error) -> MkfsError {
    MkfsError::Volume { path: node.origin.clone(), source }
}
