//! The kernel of the tests: grants, and copies that meet the absent pages a test asked for.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use refault_abi::counters::Counter;
use refault_abi::grant::Tag;
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result, vm};
use refault_pipefs::system::System;
use refault_rt::kernel::Moved;

use super::{MEMORY, State};
use crate::kernel::{Access, CopyError, Fault, Granted, Kernel, Side, UserMemory};

/// What a grant is over.
pub(super) enum Over {
    User(UserMemory),
    Own(Vec<u8>),
}

pub(super) struct Entry {
    grantee: Endpoint,
    over: Over,
    cpf_try: bool,
    mark: Option<Fault>,
}
/// The kernel of the tests.
#[derive(Clone)]
pub struct FakeKernel(pub Rc<RefCell<State>>);

pub struct FakeGrant<'a> {
    world: Rc<RefCell<State>>,
    id: i64,
    own: Option<&'a mut [u8]>,
    revoked: Cell<bool>,
}

impl Granted for FakeGrant<'_> {
    fn id(&self) -> GrantId {
        GrantId(self.id)
    }

    fn revoke(mut self) -> Option<Fault> {
        self.revoked.set(true);
        let entry = self.world.borrow_mut().grants.remove(&self.id).unwrap();
        if let (Over::Own(bytes), Some(own)) = (&entry.over, &mut self.own) {
            own.copy_from_slice(bytes);
        }
        entry.mark
    }
}

impl Drop for FakeGrant<'_> {
    fn drop(&mut self) {
        if !self.revoked.get() {
            self.world.borrow_mut().grants.remove(&self.id);
        }
    }
}

/// A wait that is over when dropped.
pub struct FakeWait(Rc<RefCell<State>>, u64);

impl Drop for FakeWait {
    fn drop(&mut self) {
        self.0.borrow_mut().waiting.remove(&self.1);
    }
}

/// What the pipe file system stands on.
pub(super) struct PipeSystem(pub Rc<RefCell<State>>);

impl PipeSystem {
    fn copy(&mut self, grant: GrantId, bytes: &mut [u8], access: Access) -> Moved {
        let (moved, result) = self.0.borrow_mut().safecopy(Endpoint::PIPEFS, grant.0, 0, bytes, access);
        Moved { bytes: moved as u64, result, fault: 0 }
    }
}

impl System for PipeSystem {
    fn copy_to(&mut self, granter: Endpoint, grant: GrantId, bytes: &[u8]) -> Moved {
        assert_eq!(granter, Endpoint::VFS);
        self.copy(grant, &mut bytes.to_vec(), Access::Write)
    }

    fn copy_from(&mut self, granter: Endpoint, grant: GrantId, bytes: &mut [u8]) -> Moved {
        assert_eq!(granter, Endpoint::VFS);
        self.copy(grant, bytes, Access::Read)
    }

    fn count(&mut self, _: Counter, _: u64) {}
}

impl FakeKernel {
    fn enter<'a>(&self, entry: Entry, own: Option<&'a mut [u8]>) -> FakeGrant<'a> {
        let mut state = self.0.borrow_mut();
        state.last_grant += 1;
        let id = state.last_grant;
        state.grants.insert(id, entry);
        FakeGrant { world: Rc::clone(&self.0), id, own, revoked: Cell::new(false) }
    }

    fn raw(&self, address: u64, length: usize, write: bool) -> core::result::Result<usize, CopyError> {
        let mut state = self.0.borrow_mut();
        let end = address + length as u64;
        if end > MEMORY as u64 {
            let fault = Fault { side: Side::Granted, write, address };
            return Err(CopyError::Fault(fault));
        }
        for page in address / PAGE..=(end - 1) / PAGE {
            if state.touch(page) {
                return Err(CopyError::Fault(Fault { side: Side::Granted, write, address: page * PAGE }));
            }
        }
        Ok(address as usize)
    }
}

impl Kernel for FakeKernel {
    type Grant<'a> = FakeGrant<'a>;
    type Wait = FakeWait;

    fn post(&self, to: Endpoint, message: &Message) -> Result<()> {
        let mut state = self.0.borrow_mut();
        state.outbox.push_back((to, *message));
        for server in [state.server, Endpoint::PIPEFS, Endpoint::BLK] {
            let waiting = state.outbox.iter().filter(|(to, _)| *to == server).count();
            assert!(waiting <= 1, "one request per mount");
        }
        Ok(())
    }

    fn ask_vm(&self, message: &Message) -> Result<Message> {
        assert_eq!(message.kind(), vm::HANDLEMEM_NOW);
        Ok(self.0.borrow_mut().handle_memory_now(message))
    }

    fn send(&self, to: Endpoint, message: &Message) {
        let mut state = self.0.borrow_mut();
        assert_eq!(to, Endpoint::PM);
        if state.pm_suspended {
            state.vfs_sends = Some(*message);
        } else {
            state.answers.push_back((to, *message));
        }
    }

    fn waits(&self, client: Endpoint, target: Endpoint, other: Endpoint, why: &'static str) -> FakeWait {
        let mut state = self.0.borrow_mut();
        state.last_wait += 1;
        let id = state.last_wait;
        state.waiting.insert(id, (client, target, other, why));
        FakeWait(Rc::clone(&self.0), id)
    }

    fn answer(&self, to: Endpoint, message: &Message, _: bool) {
        self.0.borrow_mut().answers.push_back((to, *message));
    }

    fn grant_user(
        &self,
        grantee: Endpoint,
        memory: &UserMemory,
        cpf_try: bool,
        tag: Tag,
    ) -> Result<FakeGrant<'static>> {
        assert!(tag.attempt() > 0 && tag.request() > 0);
        Ok(self.enter(Entry { grantee, over: Over::User(*memory), cpf_try, mark: None }, None))
    }

    fn lend<'a>(&self, grantee: Endpoint, bytes: &'a [u8]) -> Result<FakeGrant<'a>> {
        let entry = Entry { grantee, over: Over::Own(bytes.to_vec()), cpf_try: false, mark: None };
        Ok(self.enter(entry, None))
    }

    fn lend_mut<'a>(&self, grantee: Endpoint, bytes: &'a mut [u8]) -> Result<FakeGrant<'a>> {
        let entry = Entry { grantee, over: Over::Own(bytes.to_vec()), cpf_try: false, mark: None };
        Ok(self.enter(entry, Some(bytes)))
    }

    fn copy_in(&self, _: Endpoint, address: u64, bytes: &mut [u8]) -> core::result::Result<(), CopyError> {
        let start = self.raw(address, bytes.len(), false)?;
        bytes.copy_from_slice(&self.0.borrow().memory[start..start + bytes.len()]);
        Ok(())
    }

    fn copy_out(&self, _: Endpoint, address: u64, bytes: &[u8]) -> core::result::Result<(), CopyError> {
        let start = self.raw(address, bytes.len(), true)?;
        self.0.borrow_mut().memory[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn count(&self, counter: Counter) {
        *self.0.borrow_mut().counters.entry(counter as usize).or_default() += 1;
    }
}
impl State {
    /// A copy is about to touch a page; whether it is absent.
    fn touch(&mut self, page: u64) -> bool {
        if self.inject.contains(&self.site) && !self.grantee_side {
            self.absent.insert(page);
        }
        self.site += 1;
        if self.cursed.contains(&page) {
            self.absent.insert(page);
        }
        self.absent.contains(&page)
    }

    /// A safecopy of `caller`, page by page: bytes moved, and whether all were.
    pub(super) fn safecopy(
        &mut self,
        caller: Endpoint,
        id: i64,
        offset: usize,
        bytes: &mut [u8],
        access: Access,
    ) -> (usize, Result<()>) {
        let Some(entry) = self.grants.get_mut(&id) else { return (0, Err(Errno::EPERM)) };
        assert_eq!(entry.grantee, caller, "granted to another");
        let cpf_try = entry.cpf_try;
        let memory = match &mut entry.over {
            Over::Own(own) => {
                let place = &mut own[offset..offset + bytes.len()];
                match access {
                    Access::Write => place.copy_from_slice(bytes),
                    Access::Read => bytes.copy_from_slice(place),
                }
                return (bytes.len(), Ok(()));
            }
            Over::User(memory) => *memory,
        };
        assert_eq!(memory.access, access);
        assert!(offset + bytes.len() <= memory.bytes as usize);
        let mut moved = 0;
        while moved < bytes.len() {
            let address = memory.address as usize + offset + moved;
            let length = (4096 - address % 4096).min(bytes.len() - moved);
            let injected_grantee = self.grantee_side && self.inject.contains(&self.site);
            let fault = self.touch(address as u64 / PAGE) || address + length > MEMORY;
            if fault || injected_grantee {
                let side = if fault { Side::Granted } else { Side::Grantee };
                if cpf_try {
                    let mark = Fault { side, write: access == Access::Write, address: address as u64 };
                    self.grants.get_mut(&id).unwrap().mark = Some(mark);
                    return (moved, Err(Errno::EFAULT));
                }
                let page = address as u64 / PAGE;
                if self.absent.contains(&page) && self.file_pages.contains_key(&page) {
                    assert_eq!(caller.slot(), Endpoint::MFS.slot());
                    self.suspend_on(page);
                    return (moved, Err(Errno::EDONTREPLY));
                }
                self.suspended += 1;
                self.absent.remove(&page);
            }
            let place = &mut self.memory[address..address + length];
            let piece = &mut bytes[moved..moved + length];
            match access {
                Access::Write => place.copy_from_slice(piece),
                Access::Read => piece.copy_from_slice(place),
            }
            moved += length;
        }
        (moved, Ok(()))
    }
}
