use refault_abi::kcall::{PhysRange, privilege};
use refault_abi::layout::MMAP_START;

use super::*;
use crate::cache::Key;
use crate::frames::Frames;
use crate::memory::{Access, Outcome};
use crate::ram::test::VecRam;
use crate::regions::{Region, Regions};

const WRITE: Access = Access { write: true, fetch: false };

fn server(memory: &mut Memory<'_, VecRam>, endpoint: Endpoint) -> (Process, u64) {
    let root = memory.create_root().unwrap();
    let mut process = Process { endpoint, privilege: privilege::DRIVER, root, regions: Regions::new() };
    let end = MMAP_START + 4 * PAGE;
    let region = Region { start: MMAP_START, end, protection: 3, backing: Backing::Anonymous };
    memory.add_region(&mut process, region).unwrap();
    let Outcome::Ready { frame, .. } = memory.resolve(&process, MMAP_START, WRITE, false) else {
        panic!("no page");
    };
    (process, frame)
}

#[test]
fn what_a_device_may_write_to_is_nobodys_until_it_is_retired() {
    let mut counters = [0; 32];
    let frames = Frames::new(&mut counters, &[PhysRange { address: PAGE, bytes: 31 * PAGE }], &[]);
    let mut memory = Memory::new(VecRam::new(32), frames, true, None);
    let dead = Endpoint::new(2, Endpoint::BLK.slot());
    let (mut driver, ring) = server(&mut memory, dead);
    let (mut other, _) = server(&mut memory, Endpoint::MFS);
    memory.quarantine(&driver);
    let _ = memory.destroy(&mut driver);
    assert_eq!((memory.quarantine.len(), memory.frames.references(ring)), (1, 1));
    while let Some(frame) = memory.frames.allocate() {
        assert_ne!(frame, ring);
    }
    let of_slot = |memory: &Memory<'_, VecRam>| memory.quarantine.of_slot(3).collect::<Vec<_>>();
    assert_eq!(of_slot(&memory), [dead]);
    assert!(!memory.retire(Endpoint::BLK), "another incarnation");
    assert!(memory.retire(dead));
    assert!(!memory.retire(dead));
    assert_eq!((memory.frames.references(ring), of_slot(&memory).len()), (0, 0));
    assert_eq!(memory.frames.allocate(), Some(ring));
    let _ = memory.destroy(&mut other);
}

#[test]
fn the_pages_of_a_dead_file_system_are_forgotten_but_not_reused() {
    let mut counters = [0; 32];
    let frames = Frames::new(&mut counters, &[PhysRange { address: PAGE, bytes: 31 * PAGE }], &[]);
    let mut memory = Memory::new(VecRam::new(32), frames, true, None);
    let (mut fs, page) = server(&mut memory, Endpoint::MFS);
    let (mut second, other_page) = server(&mut memory, Endpoint::MFS2);
    let key = Key { device: 1, inode: 0, offset: 0 };
    memory.announce(&fs, 10, key, MMAP_START, false).unwrap();
    memory.announce(&second, 4, Key { device: 2, ..key }, MMAP_START, false).unwrap();
    memory.quarantine(&fs);
    memory.forget_owner(10);
    let _ = memory.destroy(&mut fs);
    assert_eq!(memory.cache.get(key), None);
    assert_eq!(memory.frames.references(page), 1);
    assert_eq!(memory.cache.get(Key { device: 2, ..key }).map(|page| page.frame), Some(other_page));
    assert!(memory.retire(Endpoint::MFS));
    memory.forget_owner(4);
    let _ = memory.destroy(&mut second);
    assert_eq!(memory.frames.free(), memory.frames.total());
}
