//! The seeded mistakes, in builds that have them: each shows. `REFAULT_BUGS=all cargo test -p refault-vfs seeded`.

use refault_abi::bugs::Bug;
use refault_abi::options::Options;

use super::*;

fn with(bug: Bug, flags: u32) -> Option<World> {
    if !Bug::COMPILED_IN {
        std::println!("skipped: no bugs compiled in (REFAULT_BUGS)");
        return None;
    }
    let world = World::with(Options { bug: Some(bug), ..Options::parse("").unwrap() });
    world.state.borrow_mut().add("b.bin", Inode::File(pattern(2, 0, BYTES)));
    world.settle();
    assert_eq!(world.open("/b.bin", flags), Ok(3));
    world.state.borrow_mut().site = 0;
    Some(world)
}

/// A read that meets one fault in the middle, or two.
fn faulted(bug: Bug, sites: &[u64]) -> Option<(refault_abi::Result<u64>, u64)> {
    let world = with(bug, O_RDWR)?;
    let answer = read_under(&world, sites, false);
    Some((answer, buffer_prefix(&world)))
}

#[test]
fn partial_is_final() {
    let Some((answer, _)) = faulted(Bug::PartialIsFinal, &[5]) else { return };
    assert!(answer.is_ok_and(|count| count < BYTES));
}

#[test]
fn stale_position() {
    let Some((_, right)) = faulted(Bug::StalePosition, &[5]) else { return };
    assert!(right < BYTES);
}

#[test]
fn repeat_without_mapping() {
    let Some((answer, _)) = faulted(Bug::RepeatWithoutMapping, &[5]) else { return };
    assert_eq!(answer, Err(Errno::EFAULT));
}

#[test]
fn retry_once() {
    let Some((answer, _)) = faulted(Bug::RetryOnce, &[5]) else { return };
    assert_eq!(answer, Ok(BYTES), "one fault does not show it");
    let Some((answer, _)) = faulted(Bug::RetryOnce, &[5, 12]) else { return };
    assert!(answer != Ok(BYTES));
}

#[test]
fn recomputed_append() {
    let Some(world) = with(Bug::RecomputedAppend, O_WRONLY | O_APPEND) else { return };
    world.state.borrow_mut().inject = BTreeSet::from([5]);
    assert_eq!(world.io(vfs::WRITE, 3, BUFFER, BYTES, 0), Ok(BYTES));
    let Inode::File(data) = &world.state.borrow().inodes[&2] else { panic!() };
    assert!(data.len() as u64 > 2 * BYTES);
}

#[test]
fn leak_on_error() {
    let Some(world) = with(Bug::LeakOnError, O_RDWR) else { return };
    let grants = world.grants();
    world.state.borrow_mut().mode = FsReply::Efault;
    assert_eq!(world.io(vfs::READ, 3, BUFFER, 10, 0), Err(Errno::EFAULT));
    assert_eq!(world.grants(), grants + 1);
}

#[test]
fn symlink_repeated() {
    let Some(world) = with(Bug::SymlinkRepeated, O_RDWR) else { return };
    world.put(0, b"/link");
    let path = vfs::Path { address: 0, length: 5, buffer: 8000, bytes: 6, ..vfs::Path::default() };
    world.state.borrow_mut().absent.insert(1);
    assert_eq!(world.call(USER, Message::new(vfs::SYMLINK, &path)), Err(Errno::EEXIST));
}
