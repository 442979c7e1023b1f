//! Reading and writing: READ, WRITE, PREAD, PWRITE, GETDENTS, LSEEK, FTRUNCATE, FSYNC.
//!
//! The one thing to hold in mind: the position, the size and the append offset are read once, after the locks are held
//! and before the first attempt, and set once, from the final answer. In between they are the [`Frozen`] inputs.

use alloc::rc::Rc;
use alloc::vec;

use refault_abi::grant::Tag;
use refault_abi::message::Status;
use refault_abi::vfs::{Io, Stat};
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, cdev, fs};
use zerocopy::FromBytes;

use crate::cell::Mode;
use crate::kernel::{Access, Granted, Kernel, UserMemory};
use crate::path::Kind;
use crate::position::{explicit, readable, seek, user_range, writable};
use crate::process::Object;
use crate::retry::{self, Frozen};
use crate::server::Vfs;
use crate::vnode::Vnode;

/// A count that a file system or driver answered: it cannot have moved more than it was asked to.
fn counted(answered: u64, asked: u64) -> Result<u64> {
    if answered <= asked { Ok(answered) } else { Err(Errno::EIO) }
}

impl<K: Kernel> Vfs<K> {
    pub(crate) async fn read(&self, user: Endpoint, io: Io, at_offset: bool) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        file.check_readable()?;
        user_range(io.address, io.bytes)?;
        let memory = UserMemory { owner: user, address: io.address, bytes: io.bytes, access: Access::Write };
        let Object::Vnode(vnode) = &file.object else {
            return self.terminal(cdev::READ, memory, at_offset).await;
        };
        check_regular(vnode)?;

        let given = if at_offset { Some(explicit(io.offset)?) } else { None };
        let _turn = match given {
            Some(_) => None,
            None => Some(file.lock.take(Mode::Exclusive).await),
        };
        let _order = vnode.lock.take(Mode::Shared).await;
        let position = given.unwrap_or_else(|| file.position.get());
        let bytes = readable(position, vnode.size.get(), io.bytes);
        if bytes == 0 {
            return Ok(0);
        }
        let done = self.transfer(vnode, fs::READ, position, UserMemory { bytes, ..memory }).await?;
        let moved = counted(Errno::check(done.result)?, bytes)?;
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
        let Object::Vnode(vnode) = &file.object else {
            return self.terminal(cdev::WRITE, memory, at_offset).await;
        };
        check_regular(vnode)?;

        let given = if at_offset { Some(explicit(io.offset)?) } else { None };
        let _turn = match given {
            Some(_) => None,
            None => Some(file.lock.take(Mode::Exclusive).await),
        };
        let _order = vnode.lock.take(Mode::Exclusive).await;
        let position = match given {
            Some(position) => position,
            // The end of the file now: no attempt looks at the size again.
            None if file.appends() => vnode.size.get(),
            None => file.position.get(),
        };
        let bytes = writable(position, io.bytes)?;
        if bytes == 0 {
            return Ok(0);
        }
        let done = match self.transfer(vnode, fs::WRITE, position, UserMemory { bytes, ..memory }).await {
            Ok(done) => done,
            Err(error) => {
                // An attempt that came to nothing may still have made the file longer.
                self.refresh_size(vnode).await;
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

    /// A transfer between a file and a user's memory, with the retry.
    async fn transfer(
        &self,
        vnode: &Rc<Vnode>,
        operation: u16,
        position: u64,
        memory: UserMemory,
    ) -> Result<fs::Done> {
        let frozen = Frozen { operation, inode: vnode.inode, position, memory };
        let answer = retry::run(self, &vnode.mount, &frozen, |grant| frozen.io(grant)).await?;
        Ok(answer.get())
    }

    /// A transfer between the terminal and a user's memory. The driver may wait for VM, which needs nothing from it,
    /// so the grant is without CPF_TRY.
    async fn terminal(&self, operation: u16, memory: UserMemory, at_offset: bool) -> Result<u64> {
        if at_offset {
            return Err(Errno::ESPIPE);
        }
        if memory.bytes == 0 {
            return Ok(0);
        }
        let tag = Tag::new(operation, 1, self.next_request());
        let grant = self.kernel.grant_user(Endpoint::TTY, &memory, false, tag)?;
        let request =
            cdev::Transfer { grant: grant.id().0, bytes: memory.bytes, user: memory.owner.raw(), minor: 0 };
        let answer = self.ask(Endpoint::TTY, Message::new(operation, &request)).await;
        // Without CPF_TRY a mark says that waiting was given up; what was counted is on the terminal all the same.
        let _ = grant.revoke();
        counted(answer?.get::<Status>().check()?, memory.bytes)
    }

    /// Asks the file system for the size of a file.
    async fn refresh_size(&self, vnode: &Rc<Vnode>) {
        let mut bytes = vec![0; size_of::<Stat>()];
        let Ok(grant) = self.kernel.lend_mut(vnode.mount.endpoint, &mut bytes) else { return };
        let request =
            fs::Io { inode: vnode.inode, grant: grant.id().0, position: 0, bytes: size_of::<Stat>() as u64 };
        let answer = self.call(&vnode.mount, Message::new(fs::STAT, &request)).await;
        let _ = grant.revoke();
        if answer.and_then(|answer| answer.get::<Status>().check()).is_ok()
            && let Ok(stat) = Stat::read_from_bytes(&bytes)
        {
            vnode.size.set(stat.size);
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
        let _turn = file.lock.take(Mode::Exclusive).await;
        let memory = UserMemory { owner: user, address: io.address, bytes: io.bytes, access: Access::Write };
        let done = self.transfer(vnode, fs::GETDENTS, file.position.get(), memory).await?;
        let stored = counted(Errno::check(done.result)?, io.bytes)?;
        file.position.set(done.position);
        Ok(stored)
    }

    pub(crate) async fn lseek(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        let vnode = file.vnode(Errno::ESPIPE)?;
        let _turn = file.lock.take(Mode::Exclusive).await;
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
        let _order = vnode.lock.take(Mode::Exclusive).await;
        let request = fs::Io { inode: vnode.inode, grant: GrantId::NONE.0, position: size, bytes: 0 };
        let answer = self.call(&vnode.mount, Message::new(fs::FTRUNC, &request)).await?;
        answer.get::<Status>().check()?;
        vnode.size.set(size);
        Ok(0)
    }

    pub(crate) async fn fsync(&self, user: Endpoint, io: Io) -> Result<u64> {
        let file = self.open_file(user, io.descriptor)?;
        let vnode = file.vnode(Errno::EINVAL)?;
        let answer = self.call(&vnode.mount, Message::bare(fs::SYNC)).await?;
        answer.get::<Status>().check().map(|_| 0)
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
