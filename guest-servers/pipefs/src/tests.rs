use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use refault_abi::bugs::Bug;
use refault_abi::counters::Counter;
use refault_abi::fs::{self, Done, Io, Node, NodeRef};
use refault_abi::message::{Payload, Status};
use refault_abi::vfs::Stat;
use refault_abi::{Endpoint, Errno, GrantId, Message, Result};
use refault_rt::kernel::Moved;
use zerocopy::FromBytes;

use crate::pipe::{ATOMIC, CAPACITY};
use crate::server::{PIPES, Server};
use crate::system::System;

const GRANT: i64 = 7;

/// One user: granted memory of which the bytes from `absent` on are not there.
#[derive(Default)]
struct World {
    memory: Vec<u8>,
    absent: Option<usize>,
    copies: usize,
    counters: BTreeMap<usize, u64>,
}

impl World {
    fn moved(&self, bytes: usize) -> Moved {
        let reachable = self.absent.unwrap_or(usize::MAX).min(bytes);
        let result = if reachable == bytes { Ok(()) } else { Err(Errno::EFAULT) };
        Moved { bytes: reachable as u64, result, fault: 0 }
    }
}

impl System for World {
    fn copy_to(&mut self, _granter: Endpoint, grant: GrantId, bytes: &[u8]) -> Moved {
        assert!(grant.0 == GRANT && !bytes.is_empty());
        self.copies += 1;
        let moved = self.moved(bytes.len());
        self.memory[..moved.bytes as usize].copy_from_slice(&bytes[..moved.bytes as usize]);
        moved
    }

    fn copy_from(&mut self, _granter: Endpoint, grant: GrantId, bytes: &mut [u8]) -> Moved {
        assert!(grant.0 == GRANT && !bytes.is_empty());
        self.copies += 1;
        let moved = self.moved(bytes.len());
        bytes[..moved.bytes as usize].copy_from_slice(&self.memory[..moved.bytes as usize]);
        moved
    }

    fn count(&mut self, counter: Counter, amount: u64) {
        *self.counters.entry(counter as usize).or_insert(0) += amount;
    }
}

struct Client(Server<World>);

impl Client {
    fn new() -> Client {
        Client(Server::new(World::default(), None))
    }

    fn send<T: Payload>(&mut self, request: u16, payload: &T) -> Message {
        let mut message = Message::new(request, payload).with_transaction(9);
        message.source = Endpoint::VFS.raw();
        let answer = self.0.handle(&message);
        assert_eq!(answer.transaction(), 9);
        answer
    }

    fn pipe(&mut self) -> Result<u64> {
        let node: Node = self.send(fs::NEWPIPE, &Status::default()).get();
        Errno::check(node.result).map(|_| node.inode)
    }

    fn io(&mut self, request: u16, inode: u64, bytes: usize) -> Result<usize> {
        let io = Io { inode, grant: GRANT, position: 0, bytes: bytes as u64 };
        let done: Done = self.send(request, &io).get();
        Errno::check(done.result).map(|count| count as usize)
    }

    fn write(&mut self, inode: u64, bytes: &[u8]) -> Result<usize> {
        self.0.system().memory = bytes.to_vec();
        self.io(fs::WRITE, inode, bytes.len())
    }

    fn read(&mut self, inode: u64, bytes: usize) -> Result<Vec<u8>> {
        self.0.system().memory = vec![0xcc; bytes];
        let count = self.io(fs::READ, inode, bytes)?;
        let memory = &self.0.system().memory;
        assert!(memory[count..].iter().all(|&byte| byte == 0xcc), "more moved than was counted");
        Ok(memory[..count].to_vec())
    }

    fn close(&mut self, inode: u64, end: u64) -> Result<u64> {
        let io = Io { inode, grant: -1, position: end, bytes: 0 };
        self.send(fs::CLOSEPIPE, &io).get::<Status>().check()
    }

    fn put(&mut self, inode: u64, count: u64) -> Result<u64> {
        self.send(fs::PUTNODE, &NodeRef { inode, count }).get::<Status>().check()
    }
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let mut client = Client::new();
    let pipe = client.pipe().unwrap();
    assert_eq!(client.read(pipe, 10), Err(Errno::EAGAIN), "empty, and somebody may still write");
    client.write(pipe, b"hello, ").unwrap();
    client.write(pipe, b"world").unwrap();
    assert_eq!(client.read(pipe, 3).unwrap(), b"hel");
    assert_eq!(client.read(pipe, 100).unwrap(), b"lo, world");
    assert_eq!(client.io(fs::READ, pipe, 0), Ok(0));
    assert_eq!(client.io(fs::WRITE, pipe, 0), Ok(0));
    assert_eq!(client.read(pipe, 1), Err(Errno::EAGAIN));
}

#[test]
fn the_ends_close() {
    let mut client = Client::new();
    let pipe = client.pipe().unwrap();
    client.write(pipe, b"last").unwrap();
    client.close(pipe, 1).unwrap();
    assert_eq!(client.read(pipe, 2).unwrap(), b"la");
    assert_eq!(client.read(pipe, 9).unwrap(), b"st");
    assert_eq!(client.read(pipe, 9).unwrap(), b"", "the end");
    let other = client.pipe().unwrap();
    client.close(other, 0).unwrap();
    assert_eq!(client.write(other, b"x"), Err(Errno::EPIPE));
    assert_eq!(client.close(other, 2), Err(Errno::EINVAL));
    assert_eq!(client.put(pipe, 3), Err(Errno::EINVAL));
    client.put(pipe, 1).unwrap();
    assert_eq!(client.0.pipes(), 2);
    client.put(pipe, 1).unwrap();
    client.put(other, 2).unwrap();
    assert_eq!(client.0.pipes(), 0);
    for request in [fs::READ, fs::WRITE] {
        assert_eq!(client.io(request, pipe, 1), Err(Errno::EINVAL), "gone");
    }
}

#[test]
fn a_full_pipe_takes_what_fits_but_divides_no_small_write() {
    let mut client = Client::new();
    let pipe = client.pipe().unwrap();
    let data: Vec<u8> = (0..CAPACITY + 5000).map(|n| (n ^ (n >> 8)) as u8).collect();
    assert_eq!(client.write(pipe, &data), Ok(CAPACITY));
    assert_eq!(client.write(pipe, b"x"), Err(Errno::EAGAIN));
    assert_eq!(client.write(pipe, &data), Err(Errno::EAGAIN));
    assert_eq!(client.read(pipe, 100).unwrap(), data[..100]);
    assert_eq!(client.write(pipe, &[1; ATOMIC]), Err(Errno::EAGAIN), "not a part of it");
    assert_eq!(client.write(pipe, &[2; 100]), Ok(100));
    assert_eq!(client.read(pipe, 50).unwrap(), data[100..150]);
    assert_eq!(client.write(pipe, &[3; ATOMIC + 1]), Ok(50), "a long one is divided");
    assert_eq!(client.read(pipe, CAPACITY).unwrap().len(), CAPACITY);
}

/// Whatever of a copy arrived, a failed one has neither consumed nor added anything, and its repetition is whole.
#[test]
fn a_failed_copy_consumes_nothing_and_adds_nothing() {
    let mut client = Client::new();
    let pipe = client.pipe().unwrap();
    let data: Vec<u8> = (0..10_000u32).map(|n| (n * 7 + (n >> 8)) as u8).collect();
    for absent in [0, 1, 4095, 4096, 9999] {
        client.0.system().absent = Some(absent);
        assert_eq!(client.write(pipe, &data), Err(Errno::EFAULT));
        client.0.system().absent = None;
        assert_eq!(client.read(pipe, 1), Err(Errno::EAGAIN), "{absent}: nothing was added");
        assert_eq!(client.write(pipe, &data), Ok(10_000));
        client.0.system().absent = Some(absent);
        assert_eq!(client.read(pipe, 10_000), Err(Errno::EFAULT));
        client.0.system().absent = None;
        assert_eq!(client.read(pipe, 10_000).unwrap(), data, "{absent}: nothing was consumed");
    }
    assert_eq!(client.0.system().counters[&(Counter::FsCopyFailures as usize)], 10);
}

#[test]
fn the_seeded_bug_loses_what_a_failed_copy_was_about() {
    if Bug::named("pipe-consumes-first").is_none() {
        std::eprintln!("SKIPPED: this build has no seeded bugs (REFAULT_BUGS)");
        return;
    }
    let mut client = Client(Server::new(World::default(), Some(Bug::PipeConsumesFirst)));
    let pipe = client.pipe().unwrap();
    client.write(pipe, b"data").unwrap();
    client.0.system().absent = Some(2);
    assert_eq!(client.read(pipe, 4), Err(Errno::EFAULT));
    client.0.system().absent = None;
    assert_eq!(client.read(pipe, 4), Err(Errno::EAGAIN));
}

#[test]
fn stat_references_and_nonsense() {
    let mut client = Client::new();
    let pipe = client.pipe().unwrap();
    client.write(pipe, &[1; 600]).unwrap();
    client.0.system().memory = vec![0; size_of::<Stat>()];
    let io = Io { inode: pipe, grant: GRANT, position: 0, bytes: size_of::<Stat>() as u64 };
    client.send(fs::STAT, &io).get::<Status>().check().unwrap();
    let stat = Stat::read_from_bytes(&client.0.system().memory).unwrap();
    assert_eq!((stat.mode, stat.size, stat.blocks, stat.inode), (0o010_600, 600, 2, pipe));
    client.0.system().absent = Some(0);
    assert_eq!(client.send(fs::STAT, &io).get::<Status>().check(), Err(Errno::EFAULT));

    let node: Node = client.send(fs::GETNODE, &NodeRef { inode: pipe, count: 1 }).get();
    assert_eq!((node.result, node.size), (0, 600));
    client.put(pipe, 2).unwrap();
    assert_eq!(client.0.pipes(), 1);
    let node: Node = client.send(fs::GETNODE, &NodeRef { inode: 99, count: 1 }).get();
    assert_eq!(node.result, i64::from(Errno::EINVAL.code()));

    let mut foreign = Message::bare(fs::NEWPIPE);
    foreign.source = Endpoint::PM.raw();
    assert_eq!(client.0.handle(&foreign).get::<Status>().check(), Err(Errno::EPERM));
    assert_eq!(client.send(fs::LOOKUP, &io).get::<Status>().check(), Err(Errno::EBADREQUEST));
}

#[test]
fn there_are_only_so_many() {
    let mut client = Client::new();
    for _ in 0..PIPES {
        client.pipe().unwrap();
    }
    assert_eq!(client.pipe(), Err(Errno::ENFILE));
    client.put(1, 2).unwrap();
    assert_eq!(client.pipe(), Ok(PIPES as u64 + 1), "numbers are not used twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Writes, reads and faults in any order: what comes out is what went in, each request with one copy at most.
    #[test]
    fn a_pipe_is_a_queue(steps in prop::collection::vec((any::<bool>(), 1usize..40_000, prop::option::of(0usize..40_000)), 1..80)) {
        let mut client = Client::new();
        let pipe = client.pipe().unwrap();
        let mut model: std::collections::VecDeque<u8> = std::collections::VecDeque::new();
        for (index, (writes, length, absent)) in steps.into_iter().enumerate() {
            let copies = client.0.system().copies;
            client.0.system().absent = absent;
            if writes {
                let data: Vec<u8> = (0..length).map(|n| (n ^ index ^ (n >> 8)) as u8).collect();
                match client.write(pipe, &data) {
                    Ok(count) => model.extend(&data[..count]),
                    Err(Errno::EAGAIN) => prop_assert!(CAPACITY - model.len() < length.min(ATOMIC + 1)),
                    Err(error) => prop_assert!(error == Errno::EFAULT && absent.unwrap() < length),
                }
            } else {
                match client.read(pipe, length) {
                    Ok(bytes) => {
                        prop_assert_eq!(bytes.len(), length.min(model.len()));
                        prop_assert!(model.drain(..bytes.len()).eq(bytes));
                    }
                    Err(Errno::EAGAIN) => prop_assert!(model.is_empty()),
                    Err(error) => prop_assert!(error == Errno::EFAULT && absent.unwrap() < length.min(model.len())),
                }
            }
            prop_assert!(client.0.system().copies <= copies + 1);
        }
    }
}
