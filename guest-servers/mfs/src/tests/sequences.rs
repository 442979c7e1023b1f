//! Random writes, reads, cuts, faults and flushes on two files, next to plain byte vectors, with caches so small that
//! everything is evicted all the time.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use refault_abi::fs;
use refault_abi::options::FsReply;

use super::world::{Client, DATA, ROOT, User, fsck, image};
use crate::mount::Limits;

#[derive(Debug, Clone)]
enum Step {
    /// Position, length, and the user's pages that are absent.
    Write(usize, u32, u16, Vec<usize>),
    Read(usize, u32, u16, Vec<usize>),
    Truncate(usize, u32),
    Peek(usize, u32),
    Flush,
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let position = prop_oneof![0u32..30_000, 260_000u32..280_000, Just(7 * 1024u32), Just(263 * 1024u32)];
    let absent = prop_oneof![Just(Vec::new()), prop::collection::vec(0usize..6, 1..3)];
    prop_oneof![
        5 => (0..2usize, position.clone(), 1u16..20_000, absent.clone()).prop_map(|(f, p, l, a)| Step::Write(f, p, l, a)),
        3 => (0..2usize, position.clone(), 1u16..20_000, absent).prop_map(|(f, p, l, a)| Step::Read(f, p, l, a)),
        2 => (0..2usize, position.clone()).prop_map(|(f, p)| Step::Truncate(f, p)),
        1 => (0..2usize, position).prop_map(|(f, p)| Step::Peek(f, p)),
        1 => Just(Step::Flush),
        1 => Just(Step::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn files_are_what_was_written(
        steps in prop::collection::vec(step(), 1..60),
        partial: bool,
        (buffers, pages) in (1usize..20, 1usize..40),
    ) {
        let mode = if partial { FsReply::Partial } else { FsReply::Whole };
        let mut client = Client::mounted(image(1440), mode, Limits { buffers, pages });
        let files = [client.create("one"), client.create("two")];
        let mut models = [Vec::new(), Vec::new()];
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Write(file, position, length, absent) => {
                    let length = usize::from(*length);
                    let data: Vec<u8> = (0..length).map(|n| (n as u8).wrapping_mul(7) ^ index as u8).collect();
                    let absent = absent.iter().copied().collect();
                    client.world().users.insert(DATA, User { memory: data.clone(), odd: 1013, absent });
                    let first = client.transfer(fs::WRITE, files[*file], (*position).into(), length as u64);
                    let model: &mut Vec<u8> = &mut models[*file];
                    let size = client.lookup(ROOT, ["one", "two"][*file]).unwrap().size as usize;
                    // The size follows the count, and nothing else.
                    let count = first.map_or(0, |done| done.result as usize);
                    let end = if count > 0 { *position as usize + count } else { 0 };
                    prop_assert_eq!(size, model.len().max(end));
                    // VFS repeats a request whose grant was marked; this is the repetition.
                    client.world().users.get_mut(&DATA).unwrap().absent.clear();
                    let again = client.transfer(fs::WRITE, files[*file], (*position).into(), length as u64);
                    prop_assert_eq!(again.unwrap().result, length as i64);
                    let end = *position as usize + length;
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[*position as usize..end].copy_from_slice(&data);
                }
                Step::Read(file, position, length, absent) => {
                    let length = usize::from(*length);
                    let absent = absent.iter().copied().collect();
                    client.world().users.insert(DATA, User { memory: vec![0; length], odd: 77, absent });
                    let start = (*position as usize).min(models[*file].len());
                    let expected = &models[*file][start..(start + length).min(models[*file].len())];
                    let first = client.transfer(fs::READ, files[*file], (*position).into(), length as u64);
                    let got = first.map_or(0, |done| done.result as usize);
                    prop_assert!(got <= expected.len());
                    prop_assert!(client.world().users[&DATA].memory[..got] == expected[..got]);
                    let whole = client.read(files[*file], (*position).into(), length as u64).unwrap();
                    prop_assert!(whole == expected);
                }
                Step::Truncate(file, size) => {
                    client.truncate(files[*file], (*size).into()).unwrap();
                    models[*file].resize(*size as usize, 0);
                }
                Step::Peek(file, position) => {
                    let behind = *position as usize >= models[*file].len();
                    let pages = client.peek(files[*file], (*position).into(), 4096).unwrap();
                    prop_assert_eq!(pages == 0, behind);
                }
                Step::Flush => drop(client.bare(fs::FLUSH).unwrap()),
                Step::Sync => drop(client.bare(fs::SYNC).unwrap()),
            }
        }
        for (file, model) in files.iter().zip(&models) {
            prop_assert!(client.read(*file, 0, model.len() as u64 + 10).unwrap() == *model);
        }
        client.bare(fs::UNMOUNT).unwrap();
        let bytes = client.disk().borrow().bytes.clone();
        fsck(&bytes);
        // And again from what is on the disk.
        let mut client = Client::mounted(bytes, mode, Limits::default());
        for (name, model) in ["one", "two"].into_iter().zip(&models) {
            let file = client.lookup(ROOT, name).unwrap().inode;
            prop_assert!(client.read(file, 0, model.len() as u64 + 10).unwrap() == *model);
        }
    }
}
