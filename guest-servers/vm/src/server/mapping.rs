//! MMAP, MUNMAP, MAP_PHYS and the requests of file systems about their pages.

use refault_abi::kcall::{VmCtl, privilege, vmctl};
use refault_abi::layout::{
    GRANT_TABLE, GRANT_TABLE_END, MMAP_END, MMAP_START, PAGE, page_ceil, page_floor, pte,
};
use refault_abi::vm::{
    CACHE_ONCE, CachePage, MAP_ANONYMOUS, MAP_GRANTS, MAP_POPULATE, MAP_PRIVATE, MapPhys, Mmap, PROT_READ,
    PROT_WRITE, Range,
};
use refault_abi::{Endpoint, Errno, Result, vfs};
use refault_rt::kernel;
use refault_vm::cache::Key;
use refault_vm::jobs::{Asked, FileMapping};
use refault_vm::memory::{Access, Outcome};
use refault_vm::regions::{Backing, Region};

use super::{Server, Slot};

/// The key of a file page, if its offset is one of a page.
fn key(page: &CachePage) -> Result<Key> {
    if !page.offset.is_multiple_of(PAGE) {
        return Err(Errno::EFAULT);
    }
    Ok(Key { device: page.device, inode: page.inode, offset: page.offset })
}

impl Server {
    /// MMAP. EDONTREPLY when VFS has to be asked about the descriptor first.
    pub fn mmap(&mut self, sender: Endpoint, request: &Mmap) -> Result<u64> {
        let checked = FileMapping::check(request)?;
        let privileged = self.slot(sender)?.process.privilege != privilege::USER;
        if request.flags & MAP_ANONYMOUS != 0 {
            let limits = match request.flags & MAP_GRANTS != 0 {
                true if privileged && checked.fixed => (GRANT_TABLE, GRANT_TABLE_END),
                true => return Err(Errno::EPERM),
                false => (MMAP_START, MMAP_END),
            };
            let populate = request.flags & MAP_POPULATE != 0;
            return self.with(sender, |server, slot| {
                let address = server.place(slot, &checked, limits, Backing::Anonymous)?;
                if populate {
                    server.populate(slot, address, checked.length)?;
                }
                Ok(address)
            });
        }
        // A writable mapping is private: nothing else would let two processes meet in a file.
        if request.flags & MAP_PRIVATE == 0 && request.protection & PROT_WRITE != 0 {
            return Err(Errno::ENXIO);
        }
        if sender == Endpoint::VFS {
            return Err(Errno::EINVAL);
        }
        let asked = Asked::Lookup { caller: sender, mapping: checked };
        let call = vfs::VmCall {
            operation: vfs::FDLOOKUP,
            endpoint: sender.raw(),
            descriptor: request.descriptor,
            ..vfs::VmCall::default()
        };
        self.ask_vfs(asked, call, sender);
        Err(Errno::EDONTREPLY)
    }

    /// Works on a process with the rest of the server at hand.
    fn with<T>(
        &mut self,
        who: Endpoint,
        action: impl FnOnce(&mut Server, &mut Slot) -> Result<T>,
    ) -> Result<T> {
        let mut slot = self.take(who)?;
        let result = action(self, &mut slot);
        self.put(slot);
        result
    }

    /// Adds the region of a mapping inside `limits`; a fixed one replaces what was there.
    fn place(
        &mut self,
        slot: &mut Slot,
        mapping: &FileMapping,
        limits: (u64, u64),
        backing: Backing,
    ) -> Result<u64> {
        let start = if mapping.fixed {
            mapping.address
        } else {
            slot.process.regions.place(mapping.length).ok_or(Errno::ENOMEM)?
        };
        let end = start.checked_add(mapping.length).ok_or(Errno::EINVAL)?;
        if start < limits.0 || end > limits.1 {
            return Err(Errno::EINVAL);
        }
        if mapping.fixed {
            self.take_out(slot, start, end)?;
        }
        let region = Region { start, end, protection: mapping.protection, backing };
        self.memory.add_region(&mut slot.process, region)?;
        Ok(start)
    }

    /// Unmaps a range and does what that leaves to do.
    fn take_out(&mut self, slot: &mut Slot, start: u64, end: u64) -> Result<()> {
        let unmapped = self.memory.unmap(&mut slot.process, start, end)?;
        if unmapped.flush {
            flush(slot.process.endpoint, start, end.saturating_sub(start));
        }
        self.release(unmapped);
        Ok(())
    }

    /// Makes an anonymous mapping present; on failure nothing of it is left.
    fn populate(&mut self, slot: &mut Slot, start: u64, length: u64) -> Result<()> {
        let end = start.saturating_add(length);
        let mut address = start;
        while address < end {
            // Read access: that makes an anonymous page present as its region allows it.
            match self.memory.resolve(&slot.process, address, Access::default(), false) {
                Outcome::Refused(refusal) => {
                    self.take_out(slot, start, end)?;
                    return Err(refusal.errno());
                }
                _ => address = address.saturating_add(PAGE),
            }
        }
        Ok(())
    }

    /// VFS has said which file a mapping is of. Answers the address, or an error; then the pin is the caller's
    /// to give back.
    pub fn map_file(
        &mut self,
        caller: Endpoint,
        mapping: &FileMapping,
        reply: &refault_abi::vm::VfsReply,
    ) -> Result<u64> {
        self.with(caller, |server, slot| {
            let file = server.memory.files.add(reply.handle, reply.device, reply.inode, reply.size);
            let placed = server.place(
                slot,
                mapping,
                (MMAP_START, MMAP_END),
                Backing::File { file, offset: mapping.offset, limit: u64::MAX },
            );
            if placed.is_err() {
                server.memory.files.release(file);
            }
            placed
        })
    }

    /// MUNMAP.
    pub fn munmap(&mut self, sender: Endpoint, range: &Range) -> Result<u64> {
        let length = range.length.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
        let end = range.address.checked_add(length).ok_or(Errno::EINVAL)?;
        if length == 0 || !range.address.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        self.with(sender, |server, slot| server.take_out(slot, range.address, end)).map(|()| 0)
    }

    /// MAP_PHYS: device registers, never RAM.
    pub fn map_phys(&mut self, sender: Endpoint, request: &MapPhys) -> Result<u64> {
        if self.slot(sender)?.process.privilege != privilege::DRIVER {
            return Err(Errno::EPERM);
        }
        let end = request.physical.checked_add(request.length).ok_or(Errno::EINVAL)?;
        let (first, last) = (page_floor(request.physical), page_ceil(end));
        if request.length == 0 || last > pte::ADDRESS {
            return Err(Errno::EINVAL);
        }
        let is_ram = |ram: &refault_abi::kcall::PhysRange| {
            ram.address < last && first < ram.address.saturating_add(ram.bytes)
        };
        if self.info.ram.iter().filter(|ram| ram.bytes > 0).any(is_ram) {
            return Err(Errno::EPERM);
        }
        let hidden = if self.info.no_execute != 0 { pte::NO_EXECUTE } else { 0 };
        let bits = pte::PRESENT | pte::USER | pte::WRITABLE | pte::NO_CACHE | pte::WRITE_THROUGH | hidden;
        self.with(sender, |server, slot| {
            let mapping = FileMapping {
                address: 0,
                length: last.saturating_sub(first),
                protection: PROT_READ | PROT_WRITE,
                fixed: false,
                offset: 0,
            };
            let start =
                server.place(slot, &mapping, (MMAP_START, MMAP_END), Backing::Physical { gpa: first })?;
            for offset in (0..mapping.length).step_by(PAGE as usize) {
                if let Err(refusal) =
                    server.memory.map(slot.process.root, start + offset, (first + offset) | bits)
                {
                    server.take_out(slot, start, start + mapping.length)?;
                    return Err(refusal.errno());
                }
            }
            Ok(start + request.physical % PAGE)
        })
    }

    /// SETCACHEPAGE.
    pub fn set_cache_page(&mut self, sender: Endpoint, page: &CachePage) -> Result<u64> {
        self.servers_only(sender)?;
        let key = key(page)?;
        self.with(sender, |server, slot| {
            let index = sender.index().ok_or(Errno::ESRCH)?;
            let once = page.flags & CACHE_ONCE != 0;
            server.memory.announce(&slot.process, index, key, page.address, once)
        })?;
        // A successor that has read a page has it from the driver, which is done with the dead one's: it does one after the other.
        if !self.memory.quarantine.is_empty() && self.slot(sender)?.process.privilege == privilege::SERVER {
            self.retire_slot(sender.slot());
        }
        Ok(0)
    }

    /// MAPCACHEPAGE: the file system gets the frame into its own memory.
    pub fn map_cache_page(&mut self, sender: Endpoint, page: &CachePage) -> Result<u64> {
        self.servers_only(sender)?;
        let key = key(page)?;
        let cached = self.memory.cache.get(key).filter(|page| !page.once).ok_or(Errno::ENOENT)?;
        self.memory.cache.touch(key);
        self.with(sender, |server, slot| {
            let mapping = FileMapping {
                address: 0,
                length: PAGE,
                protection: PROT_READ | PROT_WRITE,
                fixed: false,
                offset: 0,
            };
            let start = server.place(slot, &mapping, (MMAP_START, MMAP_END), Backing::Anonymous)?;
            server.memory.frames.acquire(cached.frame);
            match server.memory.map_frame(slot.process.root, start, cached.frame, mapping.protection) {
                Ok(()) => Ok(start),
                Err(refusal) => {
                    server.take_out(slot, start, start + PAGE)?;
                    Err(refusal.errno())
                }
            }
        })
    }

    /// FORGETCACHEPAGE.
    pub fn forget_cache_page(&mut self, sender: Endpoint, page: &CachePage) -> Result<u64> {
        self.servers_only(sender)?;
        self.memory.forget(key(page)?);
        Ok(0)
    }

    /// CLEARCACHE.
    pub fn clear_cache(&mut self, sender: Endpoint, page: &CachePage) -> Result<u64> {
        self.servers_only(sender)?;
        let slots = &self.slots;
        let root_of = |index: usize| slots.get(index).and_then(Option::as_ref).map(|slot| slot.process.root);
        Ok(self.memory.clear_cache(page.device, root_of))
    }
}

/// Drops translations that are no longer true.
pub fn flush(endpoint: Endpoint, address: u64, bytes: u64) {
    let request =
        VmCtl { operation: vmctl::FLUSH, endpoint: endpoint.raw(), address, bytes, ..VmCtl::default() };
    // Fails only for a process that is gone, whose translations nobody uses.
    let _ = kernel::vmctl(&request);
}
