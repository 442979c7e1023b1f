//! Reading and writing devices that have no position: the terminal, nothing, zeroes.
//!
//! The one thing to hold in mind: the terminal's driver may wait for VM, which needs nothing from it, so what it is lent is lent
//! without CPF_TRY. The zeroes come from the block driver, for which file systems wait: it must not wait for VM, so it is
//! lent memory as file systems are, and the read is repeated as theirs are.

use refault_abi::grant::Tag;
use refault_abi::message::Status;
use refault_abi::{Endpoint, Errno, Message, Result, cdev};

use super::data::counted;
use crate::device::Device;
use crate::kernel::{Granted, Kernel, UserMemory};
use crate::retry::{self, Frozen};
use crate::server::Vfs;
use crate::transport::NOT_SENT;

impl<K: Kernel> Vfs<K> {
    pub(crate) async fn read_device(
        &self,
        device: Device,
        memory: UserMemory,
        at_offset: bool,
    ) -> Result<u64> {
        match device {
            Device::Terminal => self.terminal(cdev::READ, memory, at_offset).await,
            Device::Null => Ok(0),
            Device::Zero if memory.bytes == 0 => Ok(0),
            Device::Zero => self.zero(memory).await,
        }
    }

    pub(crate) async fn write_device(
        &self,
        device: Device,
        memory: UserMemory,
        at_offset: bool,
    ) -> Result<u64> {
        match device {
            Device::Terminal => self.terminal(cdev::WRITE, memory, at_offset).await,
            Device::Null | Device::Zero => Ok(memory.bytes),
        }
    }

    async fn zero(&self, memory: UserMemory) -> Result<u64> {
        if self.faithful.is_some() {
            return self.lend_to(self.mounts.driver.endpoint(), cdev::READ, memory, cdev::ZERO).await;
        }
        let vnode = self.zeroes();
        let frozen = Frozen::new(cdev::READ, vnode.inode, memory);
        let answer = retry::run(self, &vnode, &frozen, |inputs, _, grant| {
            let UserMemory { owner, bytes, .. } = inputs.memory;
            let request = cdev::Transfer { grant: grant.0, bytes, user: owner.raw(), minor: cdev::ZERO };
            Ok((Message::new(cdev::READ, &request), ()))
        })
        .await?;
        counted(answer.get::<Status>().check()?, memory.bytes)
    }

    async fn terminal(&self, operation: u16, memory: UserMemory, at_offset: bool) -> Result<u64> {
        if at_offset {
            return Err(Errno::ESPIPE);
        }
        if memory.bytes == 0 {
            return Ok(0);
        }
        let idle = self.idle(operation == cdev::READ);
        let moved = self.lend_to(Endpoint::TTY, operation, memory, 0).await;
        self.awake(idle).await;
        moved
    }

    /// A transfer between a driver and a user's memory, lent without CPF_TRY.
    async fn lend_to(&self, driver: Endpoint, operation: u16, memory: UserMemory, minor: u32) -> Result<u64> {
        let tag = Tag::new(operation, 1, self.next_request());
        let grant = self.kernel.grant_user(driver, &memory, false, tag)?;
        let request =
            cdev::Transfer { grant: grant.id().0, bytes: memory.bytes, user: memory.owner.raw(), minor };
        let answer = self.ask(driver, Message::new(operation, &request)).await;
        // Without CPF_TRY a mark says that waiting was given up; what was counted has happened all the same.
        let _ = grant.revoke();
        // A driver that has gone is not asked again here: the seed does not, and the terminal's never goes.
        let answer = answer.map_err(|error| if error == NOT_SENT { Errno::EIO } else { error });
        counted(answer?.get::<Status>().check()?, memory.bytes)
    }
}
