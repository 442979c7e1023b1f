//! The file system of the tests: a tree in memory, answering as `fs=` says.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::fs::{self, Node};
use refault_abi::message::{REPLY, Status};
use refault_abi::options::FsReply;
use refault_abi::vfs::Stat;
use refault_abi::{Errno, Message, Result};
use zerocopy::IntoBytes;

use super::{ROOT, State};
use crate::kernel::Access;

/// An object of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inode {
    Directory(BTreeMap<Vec<u8>, u64>),
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(Vec<u8>),
}
impl State {
    /// Copies in blocks of the file and answers as the mode says.
    fn blocks(&mut self, io: &fs::Io, data: &mut [u8], access: Access) -> Result<usize> {
        let mut done = 0;
        while done < data.len() {
            let at = io.position as usize + done;
            let length = (4096 - at % 4096).min(data.len() - done);
            let mut block = data[done..done + length].to_vec();
            let (_, result) = self.safecopy(self.server, io.grant, done, &mut block, access);
            data[done..done + length].copy_from_slice(&block);
            if let Err(error) = result {
                return match self.mode {
                    FsReply::Whole | FsReply::Restart | FsReply::Efault => Err(error),
                    FsReply::Partial if done == 0 => Err(error),
                    FsReply::Partial => Ok(done),
                    FsReply::Swallow => Ok(data.len()),
                };
            }
            done += length;
        }
        Ok(done)
    }

    fn name(&mut self, grant: i64, length: usize) -> Vec<u8> {
        let mut name = vec![0; length];
        self.safecopy(self.server, grant, 0, &mut name, Access::Read).1.unwrap();
        name
    }

    fn node(&mut self, inode: u64) -> Node {
        *self.references.entry(inode).or_default() += 1;
        let (mode, size) = match &self.inodes[&inode] {
            Inode::Directory(_) => (0o040755, 0),
            Inode::File(data) => (0o100644, data.len()),
            Inode::Program(data) => (0o100755, data.len()),
            Inode::Link(target) => (0o120777, target.len()),
        };
        Node { result: 0, inode, size: size as u64, mode, links: 1, uid: 0, gid: 0 }
    }

    fn entries(&mut self, directory: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        match self.inodes.get_mut(&directory) {
            Some(Inode::Directory(entries)) => entries,
            _ => panic!("{directory} is not a directory"),
        }
    }

    fn data(&mut self, inode: u64) -> &mut Vec<u8> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(data) | Inode::Program(data)) => data,
            _ => panic!("{inode} is not a file"),
        }
    }

    fn insert(&mut self, directory: u64, name: Vec<u8>, inode: Inode) -> Result<u64> {
        let number = self.inodes.keys().max().unwrap() + 1;
        let entries = self.entries(directory);
        if entries.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        entries.insert(name, number);
        self.inodes.insert(number, inode);
        Ok(number)
    }

    /// Adds an object under the root.
    pub fn add(&mut self, name: &str, inode: Inode) -> u64 {
        self.insert(ROOT, name.as_bytes().to_vec(), inode).unwrap()
    }

    /// The file system's answer.
    pub(super) fn file_system(&mut self, message: &Message) -> Message {
        let io: fs::Io = message.get();
        let name: fs::Name = message.get();
        self.log.push((message.kind(), io.position));
        let answer_node = |node: Result<Node>| match node {
            Ok(node) => message.reply(REPLY, &node),
            Err(error) => message.reply(REPLY, &Status { result: error.code().into() }),
        };
        let answer_done = |result: Result<usize>, position: u64, size: usize| {
            let result = Status::of(result.map(|count| count as u64)).result;
            message.reply(REPLY, &fs::Done { result, position, size: size as u64 })
        };
        let answer = |result: Result<u64>| message.reply(REPLY, &Status::of(result));
        match message.kind() {
            fs::READSUPER => answer_node(Ok(self.node(ROOT))),
            fs::LOOKUP => {
                let text = self.name(name.grant, name.length as usize);
                let found = self.entries(name.directory).get(&text).copied().ok_or(Errno::ENOENT);
                answer_node(found.map(|inode| self.node(inode)))
            }
            fs::CREATE => {
                let text = self.name(name.grant, name.length as usize);
                let made = self.insert(name.directory, text, Inode::File(Vec::new()));
                answer_node(made.map(|inode| self.node(inode)))
            }
            fs::MKDIR => {
                let text = self.name(name.grant, name.length as usize);
                answer(self.insert(name.directory, text, Inode::Directory(BTreeMap::new())).map(|_| 0))
            }
            fs::UNLINK => {
                let text = self.name(name.grant, name.length as usize);
                answer(self.entries(name.directory).remove(&text).map(|_| 0).ok_or(Errno::ENOENT))
            }
            fs::SLINK => {
                let text = self.name(name.grant, name.length as usize);
                let mut target = vec![0; name.length2 as usize];
                // Commits after the last copy.
                match self.safecopy(self.server, name.grant2, 0, &mut target, Access::Read).1 {
                    Ok(()) => answer(self.insert(name.directory, text, Inode::Link(target)).map(|_| 0)),
                    Err(error) => answer(Err(error)),
                }
            }
            fs::RDLINK => {
                let Inode::Link(target) = self.inodes[&io.inode].clone() else { panic!("no link") };
                let mut target = target[..target.len().min(io.bytes as usize)].to_vec();
                let (moved, result) = self.safecopy(self.server, io.grant, 0, &mut target, Access::Write);
                answer_done(result.map(|()| moved), 0, 0)
            }
            fs::STAT => {
                let size = match &self.inodes[&io.inode] {
                    Inode::File(data) => data.len() as u64,
                    _ => 0,
                };
                let mut stat = Stat { inode: io.inode, size, ..Stat::default() };
                let (_, result) = self.safecopy(self.server, io.grant, 0, stat.as_mut_bytes(), Access::Write);
                answer(result.map(|()| 0))
            }
            fs::READ if self.mode == FsReply::Restart => answer_done(Err(Errno::ERESTART), 0, 0),
            fs::READ if self.mode == FsReply::Efault => answer_done(Err(Errno::EFAULT), 0, 0),
            fs::BREAD => {
                let from = self.disk.len().min(io.position as usize);
                let to = self.disk.len().min((io.position + io.bytes) as usize);
                let result = self.blocks(&io, &mut self.disk[from..to].to_vec(), Access::Write);
                answer_done(result, 0, self.disk.len())
            }
            fs::BWRITE => {
                let from = self.disk.len().min(io.position as usize);
                let to = self.disk.len().min((io.position + io.bytes) as usize);
                let mut incoming = self.disk[from..to].to_vec();
                let result = self.blocks(&io, &mut incoming, Access::Read);
                self.disk[from..to].copy_from_slice(&incoming);
                answer_done(result, 0, self.disk.len())
            }
            fs::GETNODE => {
                let request: fs::NodeRef = message.get();
                let known = self.inodes.contains_key(&request.inode);
                answer_node(known.then_some(()).ok_or(Errno::EINVAL).map(|()| {
                    *self.references.entry(request.inode).or_default() += request.count as i64 - 1;
                    self.node(request.inode)
                }))
            }
            fs::GETDENTS => {
                // Fixed records, as many as fit, each copied by itself.
                let entries: Vec<_> = self.entries(io.inode).values().copied().collect();
                let room = (io.bytes / 8) as usize;
                let list: Vec<u64> = entries.into_iter().skip(io.position as usize).take(room).collect();
                let mut stored = 0;
                let mut result = Ok(());
                for inode in &list {
                    let mut record = inode.to_le_bytes();
                    result = self.safecopy(self.server, io.grant, stored, &mut record, Access::Write).1;
                    if result.is_err() {
                        break;
                    }
                    stored += record.len();
                }
                let whole = self.mode == FsReply::Whole;
                match result {
                    Err(error) if whole || stored == 0 => answer_done(Err(error), 0, 0),
                    _ => answer_done(Ok(stored), io.position + stored as u64 / 8, 0),
                }
            }
            fs::READ => {
                let data = self.data(io.inode).clone();
                let from = data.len().min(io.position as usize);
                let to = data.len().min((io.position + io.bytes) as usize);
                let result = self.blocks(&io, &mut data[from..to].to_vec(), Access::Write);
                answer_done(result, 0, data.len())
            }
            fs::WRITE => {
                let mut incoming = vec![0; io.bytes as usize];
                let result = self.blocks(&io, &mut incoming, Access::Read);
                // The seed's file system sets the size before it looks whether the copy failed.
                let end = io.position as usize + incoming.len();
                let data = self.data(io.inode);
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[io.position as usize..end].copy_from_slice(&incoming);
                let size = data.len();
                answer_done(result, 0, size)
            }
            fs::FTRUNC => {
                self.data(io.inode).resize(io.position as usize, 0);
                answer(Ok(0))
            }
            fs::PUTNODE => {
                let put: fs::NodeRef = message.get();
                let references = self.references.get_mut(&put.inode).unwrap();
                *references -= put.count as i64;
                assert!(*references >= 0, "more references given back than taken");
                answer(Ok(0))
            }
            fs::PEEK | fs::BPEEK | fs::SYNC | fs::FLUSH | fs::UNMOUNT => answer(Ok(0)),
            other => panic!("file system asked {other:#x}"),
        }
    }
}
