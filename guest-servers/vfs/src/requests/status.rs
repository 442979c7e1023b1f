//! Status and links' targets, stored into a user's memory: STAT, FSTAT, READLINK.

use alloc::rc::Rc;

use refault_abi::vfs::{Io, O_NOFOLLOW, Path, Stat};
use refault_abi::{Endpoint, Errno, Result, fs};
use zerocopy::IntoBytes;

use crate::device;
use crate::kernel::{Access, Kernel, UserMemory};
use crate::mount::Role;
use crate::path::{Kind, Last};
use crate::position::user_range;
use crate::process::Object;
use crate::retry::{self, Frozen};
use crate::server::Vfs;
use crate::vnode::Vnode;

/// Bytes of a [`Stat`].
const STAT_BYTES: u64 = size_of::<Stat>() as u64;

impl<K: Kernel> Vfs<K> {
    pub(crate) async fn stat(&self, user: Endpoint, request: Path) -> Result<u64> {
        if request.bytes < STAT_BYTES {
            return Err(Errno::EINVAL);
        }
        user_range(request.buffer, STAT_BYTES)?;
        let last = if request.flags & O_NOFOLLOW != 0 { Last::Keep } else { Last::Follow };
        let found = self.find_named(user, request.address, request.length, last).await?;
        self.stat_node(user, &found.existing()?, request.buffer).await
    }

    pub(crate) async fn fstat(&self, user: Endpoint, io: Io) -> Result<u64> {
        if io.bytes < STAT_BYTES {
            return Err(Errno::EINVAL);
        }
        user_range(io.address, STAT_BYTES)?;
        let file = self.open_file(user, io.descriptor)?;
        match &file.object {
            Object::Vnode(vnode) => self.stat_node(user, vnode, io.address).await,
            Object::Pipe(end) => self.stat_node(user, &end.pipe.vnode, io.address).await,
            Object::Device(device) => {
                let stat = device.stat(self.mounts.devices.device);
                self.store(user, io.address, stat.as_bytes()).await.map(|()| 0)
            }
        }
    }

    async fn stat_node(&self, user: Endpoint, vnode: &Rc<Vnode>, address: u64) -> Result<u64> {
        let from_file_system = match vnode.mount.role {
            Role::Disk(_) => !vnode.is_block(),
            Role::Pipes => true,
            Role::Devices | Role::Driver => false,
        };
        if !from_file_system {
            if vnode.is_block() {
                self.measure(vnode).await;
            }
            return self.store(user, address, device::stat(vnode).as_bytes()).await.map(|()| 0);
        }
        let memory = UserMemory { owner: user, address, bytes: STAT_BYTES, access: Access::Write };
        let frozen = Frozen::new(fs::STAT, vnode.inode, memory);
        retry::transfer(self, vnode, &frozen).await.map(|_| 0)
    }

    pub(crate) async fn readlink(&self, user: Endpoint, request: Path) -> Result<u64> {
        let Path { address, length, buffer, bytes, .. } = request;
        user_range(buffer, bytes)?;
        if bytes == 0 {
            return Err(Errno::EINVAL);
        }
        let link = self.find_named(user, address, length, Last::Keep).await?.existing()?;
        if link.kind() != Kind::Link {
            return Err(Errno::EINVAL);
        }
        let memory = UserMemory { owner: user, address: buffer, bytes, access: Access::Write };
        let frozen = Frozen::new(fs::RDLINK, link.inode, memory);
        let answer = retry::transfer(self, &link, &frozen).await?;
        let stored = Errno::check(answer.get::<fs::Done>().result)?;
        if stored <= bytes { Ok(stored) } else { Err(Errno::EIO) }
    }
}
