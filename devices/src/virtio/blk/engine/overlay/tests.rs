//! The overlay against a plain vector of bytes, and its mark.

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemory, Permissions};

use super::*;
use crate::virtio::{DeviceMemory, GuestRam};

const RAM: usize = 0x1_0000;
/// Not a whole number of pieces.
const DISK: usize = 5 * PIECE + 1024;

fn ram() -> GuestRam {
    Arc::new(DeviceMemory::from_ranges(&[(GuestAddress(0), RAM)]).unwrap())
}

fn job(ram: &GuestRam, op: Op, offset: usize, pieces: &[(u64, usize)]) -> Job {
    let piece = |&(at, len): &(u64, usize)| {
        let slices = GuestMemory::get_slices(&**ram, GuestAddress(at), len, Permissions::ReadWrite).unwrap();
        slices.map(|slice| {
            let slice = slice.unwrap();
            iovec { iov_base: slice.ptr_guard_mut().as_ptr().cast(), iov_len: slice.len() }
        })
    };
    let data = GuestIov::new(pieces.iter().flat_map(piece).collect(), ram.clone());
    Job { token: 7, op, offset: offset as u64, data }
}

fn base() -> Arc<[u8]> {
    (0..DISK).map(|i| (i / 512 * 7 + i % 251) as u8).collect()
}

fn run(engine: &mut OverlayEngine, job: Job) -> io::Result<()> {
    engine.submit(job);
    engine.push();
    let mut done = Vec::new();
    engine.take(&mut done);
    let Completion { token, result } = done.pop().unwrap();
    assert_eq!((token, done.len()), (7, 0));
    result
}

/// What the disk holds, read through the engine.
fn read_all(engine: &mut OverlayEngine) -> Vec<u8> {
    let ram = ram();
    run(engine, job(&ram, Op::Read, 0, &[(0, DISK)])).unwrap();
    let mut bytes = vec![0; DISK];
    ram.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

#[derive(Clone, Debug)]
enum Step {
    Write { offset: usize, len: usize, cut: usize, fill: u8 },
    Mark,
    ToMark,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let write =
        (0..DISK / 512, 1..24usize, 0..5000usize, any::<u8>()).prop_map(|(sector, count, cut, fill)| {
            let offset = sector * 512;
            let len = (count * 512).min(DISK - offset);
            Step::Write { offset, len, cut: cut.min(len), fill }
        });
    prop_oneof![6 => write, 1 => Just(Step::Mark), 1 => Just(Step::ToMark), 1 => Just(Step::Reset)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_a_vector_of_bytes_that_can_go_back(steps in prop::collection::vec(step(), 1..40)) {
        let base = base();
        let overlay = Overlay::new(base.clone()).unwrap();
        let mut engine = OverlayEngine::new(overlay.clone()).unwrap();
        let ram = ram();
        let (mut now, mut mark) = (base.to_vec(), base.to_vec());
        for step in steps {
            match step {
                Step::Write { offset, len, cut, fill } => {
                    let bytes: Vec<u8> = (0..len).map(|i| fill.wrapping_add(i as u8)).collect();
                    // In two places of memory, cut anywhere.
                    ram.write_slice(&bytes[..cut], GuestAddress(0)).unwrap();
                    ram.write_slice(&bytes[cut..], GuestAddress(0x8000)).unwrap();
                    let pieces = [(0, cut), (0x8000, len - cut)];
                    let pieces: Vec<_> = pieces.into_iter().filter(|piece| piece.1 > 0).collect();
                    run(&mut engine, job(&ram, Op::Write { durable: false }, offset, &pieces)).unwrap();
                    now[offset..offset + len].copy_from_slice(&bytes);
                }
                Step::Mark => {
                    overlay.mark();
                    mark.clone_from(&now);
                }
                Step::ToMark => {
                    overlay.reset_to_mark();
                    now.clone_from(&mark);
                }
                Step::Reset => {
                    overlay.reset();
                    now = base.to_vec();
                    mark = base.to_vec();
                }
            }
            prop_assert!(read_all(&mut engine) == now);
            // Changed pieces account for every difference, and are as long as what they stand for.
            let changed = overlay.changed();
            for (number, (piece, under)) in now.chunks(PIECE).zip(base.chunks(PIECE)).enumerate() {
                match changed.get(&(number as u64)) {
                    Some(kept) => prop_assert_eq!(&**kept, piece),
                    None => prop_assert_eq!(piece, under),
                }
            }
        }
    }
}

#[test]
fn only_what_is_written_is_changed() {
    let overlay = Overlay::new(base()).unwrap();
    let mut engine = OverlayEngine::new(overlay.clone()).unwrap();
    assert_eq!(read_all(&mut engine), *base());
    assert!(overlay.changed().is_empty());
    let ram = ram();
    run(&mut engine, job(&ram, Op::Write { durable: true }, 2 * PIECE - 512, &[(0, 1024)])).unwrap();
    run(&mut engine, job(&ram, Op::Write { durable: true }, 5 * PIECE, &[(0, 512)])).unwrap();
    let lengths = |overlay: &Overlay| -> Vec<_> {
        overlay.changed().iter().map(|(number, piece)| (*number, piece.len())).collect()
    };
    assert_eq!(lengths(&overlay), [(1, PIECE), (2, PIECE), (5, 1024)]);
    // A snapshot stays what it was.
    let before = overlay.changed();
    overlay.mark();
    run(&mut engine, job(&ram, Op::Write { durable: true }, 0, &[(0, 512)])).unwrap();
    assert_eq!(lengths(&overlay).len(), 4);
    overlay.reset_to_mark();
    assert_eq!(overlay.changed(), before);
    overlay.reset();
    assert!(overlay.changed().is_empty());
    assert_eq!(read_all(&mut engine), *base());
}

#[test]
fn beyond_the_end_is_an_error() {
    let mut engine = OverlayEngine::new(Overlay::new(base()).unwrap()).unwrap();
    let ram = ram();
    for (op, offset) in [(Op::Read, DISK - 512), (Op::Write { durable: false }, DISK), (Op::Read, usize::MAX)]
    {
        let error = run(&mut engine, job(&ram, op, offset, &[(0, 1024)])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
    assert_eq!(read_all(&mut engine), *base());
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    for len in [0, 511, 513] {
        let error = Overlay::new(vec![0; len].into()).unwrap_err();
        assert!(matches!(error, OverlayError::Size(size) if size == len));
    }
    let missing = Overlay::open(Path::new("/nonexistent/image")).unwrap_err();
    assert!(matches!(missing, OverlayError::Image(ImageError::Missing { .. })));
}
