//! The block driver and the file system are killed under way.
//!
//! The driver's death is nobody's business: its requests are made again. A file system's death may be heard as EIO by whoever
//! had a request under way; later requests work again, on the same descriptors.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::layout::PAGE;
use refault_abi::pattern::{FILE_A, FILE_B};
use refault_abi::vfs::{O_CREAT, O_RDONLY, O_RDWR};
use refault_abi::{Endpoint, Errno, pm};
use refault_rt::{ipc, kernel, user};

use crate::check::buffer::{Buffer, Mapped, Stage};
use crate::check::family::{Child, all_good, here, look_later, wait_for_go};
use crate::check::retry::data::check_pattern;
use crate::check::schedule::Layout;
use crate::check::suite::{Explain, Record, Suite, expect};

/// How often each is killed: less often than the reincarnation server gives up.
const KILLS: u64 = 3;
/// Processes at work meanwhile.
const WORKERS: u32 = 4;
/// Rounds of each.
const ROUNDS: u32 = 12;

/// A name, the server's place, and whether those who wait for it may hear of its death.
const SERVERS: [(&str, Endpoint, bool); 2] = [("blk", Endpoint::BLK, false), ("mfs", Endpoint::MFS, true)];

/// The tests: `blk.idle`, `mfs.writers` and so on.
pub fn run(suite: &mut Suite, wanted: &dyn Fn(&str) -> bool) {
    for (name, place, heard) in SERVERS {
        let case = |what: &str| format!("{name}.{what}");
        if wanted(&case("idle")) {
            suite.check(&format!("crash.{name}.idle"), |record| idle(record, place));
        }
        for (what, write) in [("readers", false), ("writers", true)] {
            if wanted(&case(what)) {
                suite.check(&format!("crash.{name}.{what}"), |record| killed(record, place, heard, write));
            }
        }
    }
}

/// Who serves a slot now, or when the reincarnation server has let some time go by since the last death. It ends with the
/// machine's time if there never is anybody.
fn server_at(place: Endpoint) -> Result<Endpoint, String> {
    loop {
        match user::process_info(place.slot()) {
            Ok(info) => return Ok(Endpoint::from_raw(info.endpoint)),
            Err(Errno::ESRCH) => {}
            Err(error) => return Err(format!("who is there: {error}")),
        }
        look_later()?;
    }
}

fn kill_server(place: Endpoint) -> Result<(), String> {
    user::kill(server_at(place)?, pm::SIGKILL).explain("killing the server")
}

/// One round of a reader: into a buffer with absent pages.
fn read_round(file: user::Descriptor, mapped: Mapped, round: u32) -> Result<Result<(), Errno>, String> {
    let layout = Layout::plain(77, 4 * PAGE).without(0b0110);
    let buffer = match Buffer::new(mapped, layout, Stage::First, true) {
        Ok(buffer) => buffer,
        // The caches could not be flushed, because there was nobody to do it.
        Err(why) if why.contains("EIO") => return Ok(Err(Errno::EIO)),
        Err(why) => return Err(why),
    };
    let from = u64::from(round) * 9000;
    // SAFETY: the range is the buffer's, which nobody has borrowed.
    match unsafe { user::pread_raw(file, buffer.address(), layout.bytes, from) } {
        Ok(count) => {
            expect("the answer", count, layout.bytes)?;
            check_pattern("what was read", FILE_B, from, buffer.bytes())
                .map_err(|complaint| complaint.text)?;
            Ok(Ok(()))
        }
        Err(error) => {
            // Its pages may not come either.
            buffer.abandon()?;
            Ok(Err(error))
        }
    }
}

/// One round of a writer: its own file, written, and read back.
fn write_round(file: user::Descriptor, id: u32, round: u32) -> Result<Result<(), Errno>, String> {
    let mut bytes = vec![0; 3 * PAGE as usize];
    let from = u64::from(round) * 5000;
    refault_abi::pattern::fill(id, from, &mut bytes);
    let done = user::pwrite(file, &bytes, from).and_then(|count| {
        user::fsync(file)?;
        Ok(count)
    });
    match done {
        Ok(count) => {
            expect("the answer", count, bytes.len())?;
            let mut seen = vec![0; bytes.len()];
            match user::pread(file, &mut seen, from) {
                Ok(count) => {
                    expect("bytes read back", count, seen.len())?;
                    check_pattern("what was written", id, from, &seen).map_err(|complaint| complaint.text)?;
                    Ok(Ok(()))
                }
                Err(error) => Ok(Err(error)),
            }
        }
        Err(error) => Ok(Err(error)),
    }
}

fn killed(record: &mut Record, place: Endpoint, heard: bool, write: bool) -> Result<(), String> {
    let restarts = kernel::counter(Counter::RsRestarts).explain("COUNTER")?;
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(Child::run(|| {
            let path = format!("/worker{number}");
            let file = if write {
                user::open(&path, O_RDWR | O_CREAT, 0o644).explain(&path)?
            } else {
                user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?
            };
            // A page of a file cannot be had while its file system is dead, and touching it is a SIGBUS.
            let mapped = if heard { Mapped::ANONYMOUS } else { Mapped::pattern("/a.bin", FILE_A)? };
            user::sync().explain("sync")?;
            here(0)?;
            wait_for_go()?;
            let mut good = 0;
            for round in 0..ROUNDS {
                let outcome = if write {
                    write_round(file, 0x20 + number, round)?
                } else {
                    read_round(file, mapped, round)?
                };
                match outcome {
                    Ok(()) => good += 1,
                    Err(Errno::EIO) if heard => {}
                    Err(error) => return Err(format!("round {round}: {error}")),
                }
            }
            crate::ensure!(good > 0, "no round went well");
            Ok(())
        })?);
    }
    for worker in &workers {
        worker.arrived()?;
    }
    for worker in &workers {
        worker.go()?;
    }
    let (killing, delta) = record.measure(|| {
        for _ in 0..KILLS {
            kill_server(place)?;
            // The next one dies when it has done something.
            let before = kernel::counter(Counter::FsRequests).explain("COUNTER")?;
            let mut patience = 200_000u32;
            while kernel::counter(Counter::FsRequests).explain("COUNTER")? < before + 6 && patience > 0 {
                ipc::yield_now();
                patience -= 1;
            }
        }
        Ok::<(), String>(())
    })?;
    killing?;
    all_good(&workers)?;
    drop(delta);
    let restarted = kernel::counter(Counter::RsRestarts).explain("COUNTER")? - restarts;
    expect("restarts", restarted, KILLS)?;
    // Everything works as before.
    let file = user::open("/hello.txt", O_RDONLY, 0).explain("opening afterwards")?;
    let mut bytes = [0; 5];
    expect("reading afterwards", user::read(file, &mut bytes).explain("read")?, 5)?;
    expect("what was read", bytes, *b"Hello")?;
    user::close(file).explain("close")
}

/// Killed while nobody wants anything; an open descriptor goes on.
fn idle(record: &mut Record, place: Endpoint) -> Result<(), String> {
    let file = user::open("/b.bin", O_RDONLY, 0).explain("/b.bin")?;
    let mut bytes = vec![0; 100];
    expect("before", user::read(file, &mut bytes).explain("read")?, 100)?;
    user::sync().explain("sync")?;
    user::flush_caches().explain("flush")?;
    kill_server(place)?;
    let (answer, _) = record.measure(|| user::read(file, &mut bytes))?;
    expect("the next read", answer.explain("read after the death")?, 100)?;
    check_pattern("what was read", FILE_B, 100, &bytes).map_err(|complaint| complaint.text)?;
    user::close(file).explain("close")
}
