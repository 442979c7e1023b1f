//! Reading and writing: READ, WRITE, PREAD, PWRITE, GETDENTS, LSEEK, FTRUNCATE, FSYNC.
//!
//! The one thing to hold in mind: the position, the size and the append offset are read once, after the locks are held
//! and before the first attempt, and set once, from the final answer. In between they are the [`Frozen`] inputs.

use alloc::rc::Rc;

use refault_abi::message::Status;
use refault_abi::vfs::{Io, Stat};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, fs};
use zerocopy::FromBytes;

use crate::cell::Mode;
use crate::device;
use crate::kernel::{Access, Granted, Kernel, UserMemory};
use crate::path::Kind;
use crate::position::{explicit, readable, seek, user_range, writable};
use crate::process::Object;
use crate::retry::{self, Frozen};
use crate::server::Vfs;
use crate::transport::NOT_SENT;
use crate::vnode::Vnode;

/// A count that a file system or driver answered: it cannot have moved more than it was asked to.
pub(super) fn counted(answered: u64, asked: u64) -> Result<u64> {
    if answered <= asked { Ok(answered) } else { Err(Errno::EIO) }
}

impl<K: Kernel> Vfs<K> {
    pub(crate) async fn read(&self, user: Endpoint, io: Io, at_offset: bool) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        file.check_readable()?;
        user_range(io.address, io.bytes)?;
        let memory = UserMemory { owner: user, address: io.address, bytes: io.bytes, access: Access::Write };
        let vnode = match &file.object {
            Object::Vnode(vnode) => vnode,
            Object::Device(device) => return self.read_device(*device, memory, at_offset).await,
            Object::Pipe(_) if at_offset => return Err(Errno::ESPIPE),
            Object::Pipe(end) => return self.read_pipe(end, memory).await,
        };
        check_bytes(vnode)?;

        let given = if at_offset { Some(explicit(io.offset)?) } else { None };
        let _turn = match given {
            Some(_) => None,
            None => Some(self.lock(&file.lock, Mode::Exclusive, "open-file lock").await),
        };
        let _order = self.lock(&vnode.lock, Mode::Shared, "file lock").await;
        let _global = self.block_special(vnode).await;
        let position = given.unwrap_or_else(|| file.position.get());
        let bytes = match vnode.is_block() {
            // Where a disk ends is known where it is read; what it said last is enough not to ask for more memory than that.
            true if vnode.size.get() == 0 => io.bytes,
            _ => readable(position, vnode.size.get(), io.bytes),
        };
        if bytes == 0 {
            return Ok(0);
        }
        let operation = if vnode.is_block() { fs::BREAD } else { fs::READ };
        let frozen =
            Frozen { position, ..Frozen::new(operation, vnode.inode, UserMemory { bytes, ..memory }) };
        let done: fs::Done = retry::transfer(self, vnode, &frozen).await?.get();
        let moved = counted(Errno::check(done.result)?, bytes)?;
        if vnode.is_block() {
            vnode.size.set(done.size);
        }
        if given.is_none() {
            file.position.set(position.saturating_add(moved));
        }
        Ok(moved)
    }

    pub(crate) async fn write(&self, user: Endpoint, io: Io, at_offset: bool) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        file.check_writable()?;
        user_range(io.address, io.bytes)?;
        let memory = UserMemory { owner: user, address: io.address, bytes: io.bytes, access: Access::Read };
        let vnode = match &file.object {
            Object::Vnode(vnode) => vnode,
            Object::Device(device) => return self.write_device(*device, memory, at_offset).await,
            Object::Pipe(_) if at_offset => return Err(Errno::ESPIPE),
            Object::Pipe(end) => return self.write_pipe(end, memory).await,
        };
        check_bytes(vnode)?;

        let given = if at_offset { Some(explicit(io.offset)?) } else { None };
        let _turn = match given {
            Some(_) => None,
            None => Some(self.lock(&file.lock, Mode::Exclusive, "open-file lock").await),
        };
        let _order = self.lock(&vnode.lock, Mode::Exclusive, "file lock").await;
        let _global = self.block_special(vnode).await;
        let append = given.is_none() && file.appends() && vnode.is_regular();
        let position = match given {
            Some(position) => position,
            // The end of the file now: no attempt looks at the size again.
            None if append => vnode.size.get(),
            None => file.position.get(),
        };
        let bytes = writable(position, io.bytes)?;
        if bytes == 0 {
            return Ok(0);
        }
        let operation = if vnode.is_block() { fs::BWRITE } else { fs::WRITE };
        let memory = UserMemory { bytes, ..memory };
        let frozen = Frozen { position, append, ..Frozen::new(operation, vnode.inode, memory) };
        let done = retry::transfer(self, vnode, &frozen).await;
        vnode.unsaved.change();
        let done: fs::Done = match done {
            Ok(done) => done.get(),
            Err(error) => {
                // The seed does not look.
                if vnode.is_regular() && self.faithful.is_none() {
                    self.undo_growth(vnode).await;
                }
                return Err(error);
            }
        };
        vnode.size.set(done.size);
        let moved = counted(Errno::check(done.result)?, bytes)?;
        if given.is_none() {
            file.position.set(position.saturating_add(moved));
        }
        Ok(moved)
    }

    /// An attempt that came to nothing may still have made the file longer: a write that failed leaves it as long as it was.
    /// Under the exclusive lock, so that nobody has written behind it. If it cannot be undone, its size is at least known.
    async fn undo_growth(&self, vnode: &Rc<Vnode>) {
        let before = vnode.size.get();
        self.refresh_size(vnode).await;
        if vnode.size.get() > before && self.set_size(vnode, before).await.is_err() {
            self.refresh_size(vnode).await;
        }
    }

    /// Asks the file system for the size of a file.
    async fn refresh_size(&self, vnode: &Rc<Vnode>) {
        let mut bytes = [0; size_of::<Stat>()];
        let answer = self.fetch_own(vnode, fs::STAT, &mut bytes).await;
        if answer.and_then(|answer| answer.get::<Status>().check()).is_ok()
            && let Ok(stat) = Stat::read_from_bytes(&bytes)
        {
            vnode.size.set(stat.size);
        }
    }

    /// Asks the file system of a vnode for something that it stores into VFS's own memory.
    pub(crate) async fn fetch_own(
        &self,
        vnode: &Rc<Vnode>,
        operation: u16,
        bytes: &mut [u8],
    ) -> Result<Message> {
        let length = bytes.len() as u64;
        loop {
            let turn = self.turn(vnode).await?;
            let grant = self.kernel.lend_mut(turn.endpoint(), bytes)?;
            let request = fs::Io { inode: vnode.inode, grant: grant.id().0, position: 0, bytes: length };
            let answer = self.exchange(turn, Message::new(operation, &request)).await;
            // A grant over own memory is without CPF_TRY: it is marked only when waiting was given up, which is an error, too.
            let _ = grant.revoke();
            match answer {
                Err(NOT_SENT) => {}
                other => return other,
            }
        }
    }

    /// Asks how large a disk is, for those who want its end before they have read from it.
    pub(crate) async fn measure(&self, disk: &Rc<Vnode>) {
        let nothing = fs::Io { grant: GrantId::NONE.0, ..fs::Io::default() };
        if let Ok(answer) = self.call(disk, Message::new(fs::BREAD, &nothing)).await {
            let done: fs::Done = answer.get();
            if done.result >= 0 {
                disk.size.set(done.size);
            }
        }
    }

    pub(crate) async fn getdents(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        file.check_readable()?;
        user_range(io.address, io.bytes)?;
        let vnode = file.vnode(Errno::ENOTDIR)?;
        if vnode.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if io.bytes == 0 {
            return Err(Errno::EINVAL);
        }
        let _turn = self.lock(&file.lock, Mode::Exclusive, "open-file lock").await;
        if vnode.mount.is_devices() {
            let room = usize::try_from(io.bytes).unwrap_or(usize::MAX);
            let (listed, next) = device::entries(&self.device_names(), file.position.get(), room);
            self.store(user, io.address, &listed).await?;
            file.position.set(next);
            return Ok(listed.len() as u64);
        }
        let memory = UserMemory { owner: user, address: io.address, bytes: io.bytes, access: Access::Write };
        let position = file.position.get();
        let frozen = Frozen { position, ..Frozen::new(fs::GETDENTS, vnode.inode, memory) };
        let done: fs::Done = retry::transfer(self, vnode, &frozen).await?.get();
        let stored = counted(Errno::check(done.result)?, io.bytes)?;
        file.position.set(done.position);
        Ok(stored)
    }

    pub(crate) async fn lseek(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        let vnode = file.vnode(Errno::ESPIPE)?;
        let _turn = self.lock(&file.lock, Mode::Exclusive, "open-file lock").await;
        let target = seek(file.position.get(), vnode.size.get(), io.offset, io.flags)?;
        file.position.set(target);
        Ok(target)
    }

    pub(crate) async fn ftruncate(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        file.check_writable()?;
        let vnode = file.vnode(Errno::EINVAL)?;
        check_regular(vnode)?;
        self.truncate(vnode, explicit(io.offset)?).await
    }

    /// Gives a regular file another size.
    pub(crate) async fn truncate(&self, vnode: &Rc<Vnode>, size: u64) -> Result<u64> {
        let _order = self.lock(&vnode.lock, Mode::Exclusive, "file lock").await;
        self.set_size(vnode, size).await.map(|()| 0)
    }

    /// FTRUNC, under the exclusive lock.
    async fn set_size(&self, vnode: &Rc<Vnode>, size: u64) -> Result<()> {
        let request = fs::Io { inode: vnode.inode, grant: GrantId::NONE.0, position: size, bytes: 0 };
        let answer = self.call(vnode, Message::new(fs::FTRUNC, &request)).await?;
        answer.get::<Status>().check()?;
        vnode.unsaved.change();
        vnode.size.set(size);
        Ok(())
    }

    pub(crate) async fn fsync(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        let vnode = file.vnode(Errno::EINVAL)?;
        if vnode.mount.is_devices() {
            return Err(Errno::EINVAL);
        }
        let synced = self.write_back(&vnode.mount, fs::SYNC).await;
        if vnode.gone.get() {
            return Err(Errno::EIO);
        }
        vnode.unsaved.check()?;
        synced.map(|_| 0)
    }
}

/// EISDIR for a directory, EINVAL for anything else that is no regular file.
fn check_regular(vnode: &Vnode) -> Result<()> {
    match vnode.kind() {
        _ if vnode.is_regular() => Ok(()),
        Kind::Directory => Err(Errno::EISDIR),
        Kind::Link | Kind::Other => Err(Errno::EINVAL),
    }
}

/// The same, for what disks can do, too.
fn check_bytes(vnode: &Vnode) -> Result<()> {
    if vnode.is_block() { Ok(()) } else { check_regular(vnode) }
}
