//! Tests of the engines by themselves: long lists of pieces, draining, failures, names.

use std::io::Write as _;
use std::os::unix::fs::FileExt;

use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use super::*;
use crate::virtio::DeviceMemory;

const RAM: usize = 1 << 20;

fn ram() -> GuestRam {
    Arc::new(DeviceMemory::from_ranges(&[(GuestAddress(0), RAM)]).unwrap())
}

fn piece(ram: &GuestRam, at: u64, len: usize) -> iovec {
    let mut slices = GuestMemory::get_slices(&**ram, GuestAddress(at), len, Permissions::ReadWrite).unwrap();
    let slice = slices.next().unwrap().unwrap();
    assert_eq!(slice.len(), len);
    iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: len }
}

fn iov(ram: &GuestRam, pieces: &[(u64, usize)]) -> GuestIov {
    GuestIov::new(pieces.iter().map(|(at, len)| piece(ram, *at, *len)).collect(), ram.clone())
}

fn file(bytes: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}

/// Each engine that works here, on `file`.
fn each(file: &Arc<File>, depth: u16, test: impl Fn(&mut dyn Engine)) {
    test(start(EngineChoice::Threads, file.clone(), depth).unwrap().as_mut());
    match start(EngineChoice::Uring, file.clone(), depth) {
        Ok(mut engine) => test(engine.as_mut()),
        Err(e) => eprintln!("SKIPPED with engine=uring: {e}"),
    }
}

fn drain(engine: &mut dyn Engine) -> Vec<(u16, Option<io::ErrorKind>)> {
    let mut done = Vec::new();
    engine.drain(&mut done);
    let mut done: Vec<_> = done.into_iter().map(|c| (c.token, c.result.err().map(|e| e.kind()))).collect();
    done.sort_by_key(|d| d.0);
    done
}

#[test]
fn more_pieces_than_one_system_call_takes() {
    let bytes: Vec<u8> = (0..64_000u32).map(|i| (i % 253) as u8).collect();
    each(&file(&bytes), 4, |engine| {
        let ram = ram();
        // 3,200 pieces of 20 bytes, 32 apart.
        let pieces: Vec<_> = (0..3200u64).map(|i| (i * 32, 20)).collect();
        engine.submit(Job { token: 3, op: Op::Read, offset: 0, data: iov(&ram, &pieces) });
        engine.push();
        assert_eq!(drain(engine), [(3, None)]);
        let mut got = Vec::new();
        for (at, len) in &pieces {
            let mut piece = vec![0; *len];
            ram.read_slice(&mut piece, GuestAddress(*at)).unwrap();
            got.extend(piece);
        }
        assert_eq!(got, bytes, "{}", engine.name());
    });
}

#[test]
fn a_whole_depth_of_jobs_is_drained_and_signalled() {
    let target = file(&[]);
    each(&target, 64, |engine| {
        let ram = ram();
        for token in 0..64u16 {
            let at = u64::from(token) * 512;
            ram.write_slice(&[token as u8; 512], GuestAddress(at)).unwrap();
            let data = iov(&ram, &[(at, 512)]);
            engine.submit(Job { token, op: Op::Write { durable: token % 8 == 0 }, offset: at, data });
        }
        engine.push();
        assert_eq!(drain(engine), (0..64).map(|t| (t, None)).collect::<Vec<_>>());
        assert!(engine.completion_event().read().is_ok());
        engine.submit(Job { token: 0, op: Op::Flush, offset: 0, data: GuestIov::none(ram) });
        engine.push();
        assert_eq!(drain(engine), [(0, None)]);
        for token in 0..64u64 {
            let mut sector = [0; 512];
            target.read_exact_at(&mut sector, token * 512).unwrap();
            assert_eq!(sector, [token as u8; 512]);
        }
        target.set_len(0).unwrap();
    });
}

#[test]
fn failures_are_completions() {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), [1; 1000]).unwrap();
    let readonly = Arc::new(File::open(path.path()).unwrap());
    each(&readonly, 4, |engine| {
        let ram = ram();
        let job = |token, op, offset| Job { token, op, offset, data: iov(&ram, &[(0, 512)]) };
        engine.submit(job(0, Op::Read, 900));
        engine.submit(job(1, Op::Read, u64::MAX));
        engine.submit(job(2, Op::Write { durable: false }, 0));
        engine.submit(job(3, Op::Read, 0));
        engine.push();
        let done = drain(engine);
        assert_eq!(done.len(), 4, "{}", engine.name());
        assert_eq!(done[0].1, Some(io::ErrorKind::UnexpectedEof));
        assert!(done[1].1.is_some() && done[2].1.is_some());
        assert_eq!(done[3].1, None);
        assert!(drain(engine).is_empty());
    });
}

#[test]
fn dropping_an_engine_waits_for_its_jobs() {
    let target = file(&[]);
    for choice in [EngineChoice::Threads, EngineChoice::Auto] {
        let ram = ram();
        ram.write_slice(&[9; 4096], GuestAddress(0)).unwrap();
        let mut engine = start(choice, target.clone(), 8).unwrap();
        let data = iov(&ram, &[(0, 4096)]);
        engine.submit(Job { token: 0, op: Op::Write { durable: false }, offset: 0, data });
        engine.push();
        drop(engine);
        // Nobody holds guest memory or the file any more, and the write has happened.
        assert_eq!(Arc::strong_count(&ram), 1, "{choice}");
        assert_eq!(target.metadata().unwrap().len(), 4096);
        target.set_len(0).unwrap();
    }
    assert_eq!(Arc::strong_count(&target), 1);
}

#[test]
fn iov_accounting() {
    let ram = ram();
    let mut data = iov(&ram, &[(0, 10), (100, 20), (200, 30)]);
    let base = data.next()[0].iov_base as usize;
    let first = |data: &GuestIov| data.next()[0].iov_base as usize - base;
    assert_eq!((data.len(), data.is_empty()), (60, false));
    data.advance(4);
    assert_eq!((data.len(), data.next()[0].iov_len, first(&data)), (56, 6, 4));
    data.advance(6);
    assert_eq!((data.len(), data.next().len()), (50, 2));
    data.advance(25);
    assert_eq!((data.len(), data.next()[0].iov_len, first(&data)), (25, 25, 205));
    data.advance(25);
    assert_eq!((data.len(), data.is_empty()), (0, true));
    data.advance(1);
    assert!(data.is_empty());
}

#[test]
fn names() {
    for choice in [EngineChoice::Auto, EngineChoice::Uring, EngineChoice::Threads] {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
    let error = "aio".parse::<EngineChoice>().unwrap_err();
    assert!(error.to_string().contains("\"aio\"") && error.to_string().contains("engine=threads"));
}

#[test]
fn the_probe_agrees_with_the_choice() {
    let file = file(&[0; 512]);
    let auto = start(EngineChoice::Auto, file.clone(), 4).unwrap();
    match probe_uring() {
        Ok(()) => assert_eq!(auto.name(), "uring"),
        Err(e) => {
            eprintln!("io_uring does not work here: {e}");
            assert_eq!(auto.name(), "threads");
            assert!(matches!(start(EngineChoice::Uring, file, 4), Err(EngineError::Uring(_))));
        }
    }
}
