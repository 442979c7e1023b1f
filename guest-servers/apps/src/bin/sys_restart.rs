//! `sys_restart`: watched servers are killed, or made to hang, while programs use them; RS makes them again.
//!
//! A driver's death is nobody's loss: its clients repeat. A file system's may cost the operations under way, which end with EIO and
//! never hang; afterwards everything works.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::message::REPLY;
use refault_abi::options::Mode;
use refault_abi::pm::{SIGKILL, SIGSTOP};
use refault_abi::rs::{self, Service};
use refault_abi::vfs::{O_CREAT, O_TRUNC, O_WRONLY};
use refault_apps::check::case::{Outcome, Verdict};
use refault_apps::check::suite::{Explain, Suite, expect};
use refault_apps::{DONE, FAILED};
use refault_rt::start::Args;
use refault_rt::user::{self, Forked};
use refault_rt::{Endpoint, Errno, Message, ipc, kernel};

refault_rt::entry!(main);

/// What is copied.
const SOURCE: &str = "/a.bin";
/// To where.
const COPY: &str = "/restart.bin";
/// Bytes moved at a time.
const PIECE: usize = 4096;
/// Looks at a counter before it is taken for one that never moves.
const LOOKS: u32 = 10_000_000;
/// Tenths of a second in which a hanging server must have been replaced: several times what two missed heartbeats take.
const PATIENCE: u32 = 300;

fn main(_args: Args) -> i32 {
    let mut suite = Suite::new();
    suite.case("RS.blk.killed.while-copying", |_| while_copying(Endpoint::BLK, SIGKILL, false));
    suite.case("RS.mfs.killed.while-copying", |_| while_copying(Endpoint::MFS, SIGKILL, true));
    if suite.options().mode == Mode::Hardened && suite.options().watchdog == 0 {
        suite.case("RS.blk.hangs.while-copying", |_| while_copying(Endpoint::BLK, SIGSTOP, false));
        suite.case("RS.mfs.hangs.while-copying", |_| while_copying(Endpoint::MFS, SIGSTOP, true));
    } else {
        suite.skip("RS.hangs", "no heartbeats where a standstill is to be seen");
    }
    suite.check("RS.pipefs.killed", |_| pipes());
    suite.check("RS.others-are-not-killed", |_| others());
    match contents(SOURCE) {
        Ok(contents) => suite.file(COPY, &contents),
        Err(why) => suite.check("RS.the-source", |_| Err(why)),
    }
    suite.end()
}

/// What RS knows about a server.
fn service(slot: Endpoint) -> Result<Service, String> {
    let request = Message::new(rs::SERVICE, &Service { slot: slot.slot(), ..Service::default() });
    let answer = ipc::sendrec(Endpoint::RS, &request).explain("asking RS")?;
    let service: Service = answer.get();
    if answer.kind() != REPLY || service.slot != slot.slot() {
        return Err(format!("RS does not know slot {}", slot.slot()));
    }
    Ok(service)
}

/// Ends a server while a child copies a file, and looks at what becomes of the copy. `costly`: operations under way may
/// end with EIO.
fn while_copying(server: Endpoint, signal: u32, costly: bool) -> Outcome {
    user::flush_caches().explain("flushing the caches")?;
    let before = service(server)?;
    let counted = blocks()?;
    let child = match user::fork().explain("fork")? {
        Forked::Child => user::exit(match copy() {
            Ok(()) => DONE,
            Err(Errno::EIO) => FAILED,
            Err(error) => {
                refault_rt::eprintln!("sys_restart: copying: {error}");
                3
            }
        }),
        Forked::Parent(child) => child,
    };
    // In the middle: some blocks have come, the others have not.
    let mut looks = 0;
    while blocks()? < counted + 4 {
        looks += 1;
        if looks > LOOKS {
            return Err(String::from("the child reads nothing").into());
        }
        ipc::yield_now();
    }
    user::kill(Endpoint::from_raw(before.endpoint), signal).explain("ending the server")?;
    restarted(server, &before)?;
    let (ended, status) = user::wait().explain("wait")?;
    expect("who ended", ended, child)?;
    match status {
        0 => {}
        1 if costly => {}
        _ => return Err(format!("the copy ended with status {status}").into()),
    }
    if status == 1 {
        copy().explain("copying again")?;
    }
    user::sync().explain("sync")?;
    user::flush_caches().explain("flushing the caches again")?;
    let (seen, wanted) = (contents(COPY)?, contents(SOURCE)?);
    expect("bytes of the copy", seen.len(), wanted.len())?;
    if let Some(at) = seen.iter().zip(&wanted).position(|(a, b)| a != b) {
        return Err(format!("byte {at} of the copy is wrong").into());
    }
    Ok((status == 1).then_some(Verdict::Rejected))
}

/// Blocks that were read from a disk.
fn blocks() -> Result<u64, String> {
    kernel::counter(Counter::FsBlocksRead).explain("counter")
}

/// Waits until a server has been replaced.
fn restarted(server: Endpoint, before: &Service) -> Result<(), String> {
    for _ in 0..PATIENCE {
        let now = service(server)?;
        if now.restarts > before.restarts && now.endpoint != before.endpoint {
            return Ok(());
        }
        kernel::setalarm(100_000).explain("alarm")?;
        ipc::receive(Endpoint::CLOCK).explain("waiting for the alarm")?;
    }
    Err(format!("slot {} is not restarted", server.slot()))
}

/// Copies the file.
fn copy() -> refault_rt::Result<()> {
    let input = user::open(SOURCE, 0, 0)?;
    let output = user::open(COPY, O_WRONLY | O_CREAT | O_TRUNC, 0o644)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = user::read(input, &mut piece)?;
        let mut rest = piece.get(..count).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let written = user::write(output, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    user::close(input)?;
    user::close(output)
}

/// A whole file.
fn contents(path: &str) -> Result<Vec<u8>, String> {
    let input = user::open(path, 0, 0).explain(path)?;
    let mut all = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let count = user::read(input, &mut piece).explain(path)?;
        if count == 0 {
            break;
        }
        all.extend_from_slice(piece.get(..count).unwrap_or_default());
    }
    user::close(input).explain(path)?;
    Ok(all)
}

/// Pipes do not outlive their file system, but nobody hangs on them, and new ones work.
fn pipes() -> Result<(), String> {
    let before = service(Endpoint::PIPEFS)?;
    let (input, output) = user::pipe().explain("pipe")?;
    user::write(output, b"lost").explain("writing")?;
    user::kill(Endpoint::from_raw(before.endpoint), SIGKILL).explain("killing pipefs")?;
    restarted(Endpoint::PIPEFS, &before)?;
    let mut buffer = [0; 8];
    expect("reading a lost pipe", user::read(input, &mut buffer), Err(Errno::EIO))?;
    user::close(input).explain("closing")?;
    user::close(output).explain("closing")?;
    let (input, output) = user::pipe().explain("another pipe")?;
    user::write(output, b"kept").explain("writing")?;
    expect("reading", user::read(input, &mut buffer), Ok(4))?;
    expect("what was read", buffer.get(..4), Some(&b"kept"[..]))?;
    user::close(input).explain("closing")?;
    user::close(output).explain("closing")
}

/// Without those nothing goes on: nobody may end them, and a stop is for watched servers only.
fn others() -> Result<(), String> {
    for server in [Endpoint::PM, Endpoint::VM] {
        expect("killing PM or VM", user::kill(server, SIGKILL), Err(Errno::EPERM))?;
    }
    expect("stopping VFS", user::kill(Endpoint::VFS, SIGSTOP), Err(Errno::EINVAL))?;
    expect("killing INIT", user::kill(Endpoint::INIT, SIGKILL), Err(Errno::EPERM))?;
    expect("asking for VFS", user::kill(Endpoint::VFS, 0), Ok(()))?;
    let gone = Endpoint::MFS;
    if service(gone)?.restarts > 0 {
        expect("killing a predecessor", user::kill(gone, SIGKILL), Err(Errno::ESRCH))?;
    }
    Ok(())
}
