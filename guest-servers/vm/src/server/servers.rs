//! Servers that die and come again: a successor in the same slot, and what becomes of the dead one's memory.
//!
//! The one thing to hold in mind: a device knows nothing of processes. What a transfer may still write to is not given to anybody
//! else before somebody knows that the transfer is over (`refault_vm::quarantine`).

use alloc::string::ToString;
use alloc::vec::Vec;

use refault_abi::kcall::{Target, privilege};
use refault_abi::{Endpoint, Errno, Result, vm};
use refault_vm::archive;
use refault_vm::process::Process;

use super::{Server, boot};

/// Servers that can have successors.
const RESTARTED: [Endpoint; 4] = [Endpoint::BLK, Endpoint::MFS, Endpoint::MFS2, Endpoint::PIPEFS];
/// Those of them in whose memory the block driver's device writes.
const FILE_SYSTEMS: [Endpoint; 2] = [Endpoint::MFS, Endpoint::MFS2];

impl Server {
    /// SPAWN_SERVER. The new one is told the endpoint of its predecessor.
    pub fn spawn_server(&mut self, request: &vm::SpawnServer) -> Result<u64> {
        let restarted = RESTARTED.iter().any(|server| server.slot() == request.slot);
        if !restarted || !matches!(request.privilege, privilege::SERVER | privilege::DRIVER) {
            return Err(Errno::EPERM);
        }
        let file = request.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let file = core::str::from_utf8(file).map_err(|_| Errno::ENOENT)?;
        let data = archive::find(self.image, file).ok_or(Errno::ENOENT)?;
        let name = boot::name_of(request.slot).unwrap_or(file);
        let index = usize::try_from(request.slot).unwrap_or(0);
        let predecessor = self.predecessors.get(index).copied().flatten();
        let predecessor = predecessor.map_or(-1, Endpoint::raw).to_string();
        let words: Vec<&[u8]> = Vec::from([name.as_bytes(), predecessor.as_bytes()]);
        let endpoint =
            self.create(data, &words, name, Some(request.slot), request.privilege, request.priority)?;
        u64::try_from(endpoint.raw()).map_err(|_| Errno::EINVAL)
    }

    /// A server is dead and about to lose its memory.
    pub fn bury_server(&mut self, dead: &Process) {
        let slot = dead.endpoint.slot();
        if let Some(index) = dead.endpoint.index() {
            self.memory.forget_owner(index);
            if let Some(place) = self.predecessors.get_mut(index) {
                *place = Some(dead.endpoint);
            }
        }
        if dead.privilege == privilege::DRIVER || FILE_SYSTEMS.iter().any(|server| server.slot() == slot) {
            self.memory.quarantine(dead);
        }
    }

    /// RETIRE: of one dead server by RS or by its successor, or, for NONE, of all the sender's own predecessors.
    pub fn retire(&mut self, sender: Endpoint, target: &Target) -> Result<u64> {
        self.servers_only(sender)?;
        let target = Endpoint::from_raw(target.endpoint);
        if target == Endpoint::NONE {
            self.retire_slot(sender.slot());
        } else if sender == Endpoint::RS || sender.slot() == target.slot() {
            self.memory.retire(target);
        } else {
            return Err(Errno::EPERM);
        }
        Ok(0)
    }

    /// Whoever died in this slot has no transfers any more.
    pub fn retire_slot(&mut self, slot: i32) {
        let dead: Vec<Endpoint> = self.memory.quarantine.of_slot(slot).collect();
        for endpoint in dead {
            self.memory.retire(endpoint);
        }
    }
}
