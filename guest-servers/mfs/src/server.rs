//! Dispatch: a request message in, an answer message out.

use refault_abi::counters::Counter;
use refault_abi::fs::{self, Done, Io, Mount, Name, Node, NodeRef, Rename};
use refault_abi::message::{Payload, REPLY, Status};
use refault_abi::options::FsReply;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_minixfs::ROOT_INODE;

use crate::device;
use crate::mount::{Limits, Mounted};
use crate::names;
use crate::system::System;
use crate::transfer::{self, Granted};

/// The server: nothing, or one mount.
pub struct Server<S: System> {
    system: S,
    mode: FsReply,
    limits: Limits,
    mounted: Option<Mounted<S>>,
}

impl<S: System> Server<S> {
    /// A server that has nothing mounted and answers failed copies as `mode` says.
    pub fn new(system: S, mode: FsReply, limits: Limits) -> Self {
        Server { system, mode, limits, mounted: None }
    }

    /// What is below.
    pub fn system(&mut self) -> &mut S {
        &mut self.system
    }

    /// Serves one request. Only VFS is served: nobody else knows which grants and references there are.
    pub fn handle(&mut self, message: &Message) -> Message {
        if message.sender() != Endpoint::VFS {
            return answer(message, &Status::unit(Err(Errno::EPERM)));
        }
        self.system.count(Counter::FsRequests, 1);
        let request = message.kind();
        if request == fs::READSUPER {
            return self.node(message, |server| server.mount(&message.get::<Mount>()));
        }
        match request {
            fs::LOOKUP => self.node(message, |s| s.named(message, names::lookup)),
            fs::CREATE => self.node(message, |s| s.named(message, names::create)),
            fs::MKDIR => self.unit(message, |s| s.named(message, names::mkdir)),
            fs::UNLINK => self.unit(message, |s| s.named(message, names::unlink)),
            fs::RMDIR => self.unit(message, |s| s.named(message, names::rmdir)),
            fs::LINK => self.unit(message, |s| s.named(message, names::link)),
            fs::SLINK => self.unit(message, |s| s.named(message, names::symlink)),
            fs::RENAME => self.unit(message, |s| {
                s.on_mount(|mount, system, _| {
                    names::rename(mount, system, message.sender(), &message.get::<Rename>())
                })
            }),
            fs::PUTNODE => self.unit(message, |s| {
                let request: NodeRef = message.get();
                let number = names::inode(request.inode)?;
                s.on_mount(|mount, system, _| mount.put_back(system, number, request.count))
            }),
            fs::STAT => self.unit(message, |s| {
                s.io(message, |mount, system, mode, from, _, number| {
                    transfer::stat(mount, system, mode, from, number)
                })
            }),
            fs::READ => self.done(message, |s| s.io(message, transfer::read)),
            fs::WRITE => self.done(message, |s| s.io(message, transfer::write)),
            fs::GETDENTS => self.done(message, |s| s.io(message, transfer::getdents)),
            fs::RDLINK => self.done(message, |s| s.io(message, transfer::readlink)),
            fs::BREAD => self.done(message, |s| s.on_device(message, device::read)),
            fs::BWRITE => self.done(message, |s| s.on_device(message, device::write)),
            fs::BPEEK => self.status(message, |s| {
                s.on_device(message, |mount, system, _, _, io| device::peek(mount, system, io))
            }),
            fs::GETNODE => self.node(message, |s| {
                s.on_mount(|mount, system, _| names::referred_again(mount, system, &message.get()))
            }),
            fs::PEEK => self.status(message, |s| {
                s.io(message, |mount, system, _, _, io, number| transfer::peek(mount, system, io, number))
            }),
            fs::FTRUNC => self.unit(message, |s| {
                s.io(message, |mount, system, _, _, io, number| mount.truncate(system, number, io.position))
            }),
            fs::SYNC => self.unit(message, |s| s.on_mount(|mount, system, _| mount.sync(system))),
            fs::FLUSH => self.status(message, |s| s.on_mount(|mount, system, _| mount.flush(system))),
            fs::UNMOUNT => self.unit(message, Self::unmount),
            _ => answer(message, &Status::unit(Err(Errno::EBADREQUEST))),
        }
    }

    fn mount(&mut self, request: &Mount) -> Result<Node> {
        if self.mounted.is_some() {
            return Err(Errno::EBUSY);
        }
        let disk = self.system.disk(Endpoint::from_raw(request.driver), request.disk);
        let mut mount = Mounted::new(&mut self.system, disk, request, self.limits)?;
        let root = names::referred(&mut mount, &mut self.system, ROOT_INODE)?;
        self.mounted = Some(mount);
        Ok(root)
    }

    fn unmount(&mut self) -> Result<()> {
        let result = self.on_mount(|mount, system, _| mount.unmount(system));
        // Also after an error: the caller is going away, and what could be written has been.
        self.mounted = None;
        result
    }

    fn on_mount<T>(
        &mut self,
        action: impl FnOnce(&mut Mounted<S>, &mut S, FsReply) -> Result<T>,
    ) -> Result<T> {
        let mount = self.mounted.as_mut().ok_or(Errno::ENXIO)?;
        action(mount, &mut self.system, self.mode)
    }

    fn named<T>(
        &mut self,
        message: &Message,
        action: impl FnOnce(&mut Mounted<S>, &mut S, Endpoint, &Name) -> Result<T>,
    ) -> Result<T> {
        self.on_mount(|mount, system, _| action(mount, system, message.sender(), &message.get::<Name>()))
    }

    fn io<T>(
        &mut self,
        message: &Message,
        action: impl FnOnce(&mut Mounted<S>, &mut S, FsReply, Granted, &Io, u32) -> Result<T>,
    ) -> Result<T> {
        let io: Io = message.get();
        let number = names::inode(io.inode)?;
        let from = Granted { granter: message.sender(), grant: GrantId(io.grant) };
        self.on_mount(|mount, system, mode| action(mount, system, mode, from, &io, number))
    }

    fn on_device<T>(
        &mut self,
        message: &Message,
        action: impl FnOnce(&mut Mounted<S>, &mut S, FsReply, Granted, &Io) -> Result<T>,
    ) -> Result<T> {
        let io: Io = message.get();
        let from = Granted { granter: message.sender(), grant: GrantId(io.grant) };
        self.on_mount(|mount, system, mode| action(mount, system, mode, from, &io))
    }

    fn node(&mut self, message: &Message, action: impl FnOnce(&mut Self) -> Result<Node>) -> Message {
        let failed = |error: Errno| Node { result: error.code().into(), ..Node::default() };
        answer(message, &action(self).unwrap_or_else(failed))
    }

    fn done(&mut self, message: &Message, action: impl FnOnce(&mut Self) -> Result<Done>) -> Message {
        let failed = |error: Errno| Done { result: error.code().into(), ..Done::default() };
        answer(message, &action(self).unwrap_or_else(failed))
    }

    fn status(&mut self, message: &Message, action: impl FnOnce(&mut Self) -> Result<u64>) -> Message {
        answer(message, &Status::of(action(self)))
    }

    fn unit(&mut self, message: &Message, action: impl FnOnce(&mut Self) -> Result<()>) -> Message {
        answer(message, &Status::unit(action(self)))
    }
}

fn answer<T: Payload>(request: &Message, payload: &T) -> Message {
    request.reply(REPLY, payload)
}
