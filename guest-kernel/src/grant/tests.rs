//! Every refusal of the specification, in its order, and the mark's arithmetic.

use std::collections::BTreeMap;

use proptest::prelude::*;
use refault_abi::grant::{READ, WRITE};

use super::*;

const TABLE: u64 = 0x10_0000;
const GRANTER: Endpoint = Endpoint::MFS;
const GRANTEE: Endpoint = Endpoint::BLK;
const READY: u16 = USED | VALID;

#[derive(Default)]
struct Fake {
    tables: BTreeMap<i32, GrantTable>,
    entries: BTreeMap<(usize, u64), Entry>,
    reads: usize,
    any_sequence: bool,
}

fn slot_of(granter: Endpoint) -> usize {
    granter.index().unwrap()
}

impl Granters for Fake {
    fn table(&self, granter: Endpoint) -> Option<(usize, GrantTable)> {
        self.tables.get(&granter.raw()).map(|table| (slot_of(granter), *table))
    }
    fn entry(&mut self, slot: usize, address: u64) -> Option<Entry> {
        self.reads += 1;
        self.entries.get(&(slot, address)).copied()
    }
    fn any_sequence(&self) -> bool {
        self.any_sequence
    }
}

impl Fake {
    fn put(&mut self, granter: Endpoint, index: u32, entry: Entry) {
        self.tables.insert(granter.raw(), GrantTable { address: TABLE, entries: 64, owner: granter });
        self.entries.insert((slot_of(granter), TABLE + u64::from(index) * 64), entry);
    }
}

fn entry(flags: u16, sequence: u32, start: u64, length: u64) -> Entry {
    let state = State::new(flags, 0, sequence).0;
    Entry {
        state,
        grantee: GRANTEE.raw(),
        other: 0,
        start,
        length,
        mark_id: -1,
        tag: 0x77,
        ..Entry::default()
    }
}

fn access(bits: u16, offset: u64, bytes: u64) -> Access {
    Access { grantee: GRANTEE, bits, offset, bytes }
}

fn good() -> Fake {
    let mut fake = Fake::default();
    fake.put(GRANTER, 3, entry(READY | DIRECT | READ | TRY, 9, 0x5000, 0x2000));
    fake
}

const ID: GrantId = GrantId::new(3, 9);

#[test]
fn a_direct_grant() {
    let found = verify(&mut good(), GRANTER, ID, access(READ, 0x10, 0x1ff0)).unwrap();
    assert_eq!(
        found,
        Verified {
            target: GRANTER,
            address: 0x5010,
            base: 0x5000,
            length: 0x2000,
            no_suspend: true,
            granter: GRANTER,
            slot: slot_of(GRANTER),
            id: ID,
            entry: TABLE + 3 * 64,
            tag: 0x77,
        }
    );
}

#[test]
fn refusals_before_the_entry_is_read() {
    let cases = [
        (Endpoint::new(0, 33), ID, Errno::EINVAL),
        // The endpoint is looked at before the id.
        (Endpoint::new(0, 33), GrantId::NONE, Errno::EINVAL),
        (GRANTER, GrantId::NONE, Errno::EINVAL),
        (GRANTER, GrantId(i64::MIN), Errno::EINVAL),
        (GRANTER, GrantId(i64::MAX), Errno::EINVAL),
        (GRANTER, GrantId::new(64, 9), Errno::EPERM),
        (Endpoint::TTY, ID, Errno::EPERM),
    ];
    for (granter, id, error) in cases {
        let mut fake = good();
        fake.tables.insert(Endpoint::TTY.raw(), GrantTable::NONE);
        assert_eq!(verify(&mut fake, granter, id, access(READ, 0, 8)), Err(error), "{granter:?} {id:?}");
        assert_eq!(fake.reads, 0);
    }
    // Unreadable: indistinguishable from a bad id.
    assert_eq!(verify(&mut good(), GRANTER, GrantId::new(4, 0), access(READ, 0, 8)), Err(Errno::EPERM));
}

#[test]
fn a_table_that_is_another_process_s() {
    let mut fake = good();
    let table = |entries, owner| GrantTable { address: TABLE, entries, owner };
    for (entries, owner, expected) in [
        (64, GRANTEE, Ok(0x5000)),
        (64, Endpoint::TTY, Err(Errno::ENOTREADY)),
        // Announced, and not there yet: for nobody, not even the owner.
        (0, GRANTEE, Err(Errno::ENOTREADY)),
        (0, GRANTER, Err(Errno::EPERM)),
    ] {
        fake.tables.insert(GRANTER.raw(), table(entries, owner));
        let found = verify(&mut fake, GRANTER, ID, access(READ, 0, 8)).map(|found| found.address);
        assert_eq!(found, expected, "{entries} entries of {owner:?}");
    }
    // Looked at behind the id, and before the index.
    fake.tables.insert(GRANTER.raw(), table(64, Endpoint::TTY));
    assert_eq!(verify(&mut fake, GRANTER, GrantId::NONE, access(READ, 0, 8)), Err(Errno::EINVAL));
    assert_eq!(verify(&mut fake, GRANTER, GrantId::new(64, 0), access(READ, 0, 8)), Err(Errno::ENOTREADY));
}

#[test]
fn the_seeded_bug_takes_any_sequence() {
    let outdated = GrantId::new(3, 8);
    assert_eq!(verify(&mut good(), GRANTER, outdated, access(READ, 0, 8)), Err(Errno::EPERM));
    let mut fake = Fake { any_sequence: true, ..good() };
    assert!(verify(&mut fake, GRANTER, outdated, access(READ, 0, 8)).is_ok());
}

#[test]
fn refusals_by_the_entry() {
    let ok = READY | DIRECT | READ;
    let cases: &[(u16, u32, u64, u64)] = &[
        (USED | DIRECT | READ, 9, 0x5000, 0x2000),
        (VALID | DIRECT | READ, 9, 0x5000, 0x2000),
        (ok, 10, 0x5000, 0x2000),
        (READY | DIRECT | WRITE, 9, 0x5000, 0x2000),
        (READY | READ, 9, 0x5000, 0x2000),
        (READY | DIRECT | MAGIC | READ, 9, 0x5000, 0x2000),
        (READY | MAGIC | READ, 9, 0x5000, 0x2000),
        (ok, 9, 0x5000, 7),
        (ok, 9, u64::MAX - 3, 0x2000),
    ];
    for (flags, sequence, start, length) in cases {
        let mut fake = Fake::default();
        fake.put(GRANTER, 3, entry(*flags, *sequence, *start, *length));
        assert_eq!(verify(&mut fake, GRANTER, ID, access(READ, 0, 8)), Err(Errno::EPERM), "{flags:#x}");
    }
    for (offset, bytes) in [(0x2000, 1), (0x1fff, 2), (u64::MAX, 1), (1, u64::MAX), (0, 0x2001)] {
        assert_eq!(verify(&mut good(), GRANTER, ID, access(READ, offset, bytes)), Err(Errno::EPERM));
    }
    assert!(verify(&mut good(), GRANTER, ID, access(READ, 0x2000, 0)).is_ok());
    let other = Access { grantee: Endpoint::TTY, ..access(READ, 0, 8) };
    assert_eq!(verify(&mut good(), GRANTER, ID, other), Err(Errno::EPERM));
}

#[test]
fn anybody_as_grantee() {
    for kind in [DIRECT, INDIRECT, MAGIC] {
        let mut fake = good();
        let mut any = entry(READY | kind | READ, 1, 0x5000, 0x2000);
        any.grantee = Endpoint::ANY.raw();
        any.other = GRANTER.raw();
        if kind == INDIRECT {
            any.start = ID.0.cast_unsigned();
            // The grant behind it is made to VFS.
            let mut behind = entry(READY | DIRECT | READ, 9, 0x5000, 0x2000);
            behind.grantee = Endpoint::VFS.raw();
            fake.put(GRANTER, 3, behind);
        }
        fake.put(Endpoint::VFS, 5, any);
        let stranger = Access { grantee: Endpoint::TTY, ..access(READ, 0, 8) };
        let found = verify(&mut fake, Endpoint::VFS, GrantId::new(5, 1), stranger);
        assert_eq!(found.map(|found| found.target), Ok(if kind == DIRECT { Endpoint::VFS } else { GRANTER }));
    }
}

#[test]
fn magic_is_for_vfs_only() {
    for (granter, expected) in [(Endpoint::VFS, Ok(Endpoint::INIT)), (Endpoint::PM, Err(Errno::EPERM))] {
        let mut fake = Fake::default();
        let magic = Entry { other: Endpoint::INIT.raw(), ..entry(READY | MAGIC | READ, 0, 0x9000, 16) };
        fake.put(granter, 0, magic);
        let found = verify(&mut fake, granter, GrantId::new(0, 0), access(READ, 4, 12));
        assert_eq!(found.map(|found| found.target), expected);
    }
}

/// A chain of `hops` indirect grants over a direct one, all made by processes 20, 21, ... to one another.
fn chain(hops: u32) -> (Fake, Endpoint, GrantId) {
    let owner = |hop: u32| Endpoint::new(0, 20 + hop as i32);
    let mut fake = Fake::default();
    let to = |hop: u32| if hop == hops { GRANTEE } else { owner(hop + 1) };
    let direct = entry(READY | DIRECT | READ | TRY, 2, 0x5000, 0x2000);
    fake.put(owner(0), 1, Entry { grantee: to(0).raw(), ..direct });
    let mut id = GrantId::new(1, 2);
    for hop in 1..=hops {
        let start = id.0.cast_unsigned();
        let indirect = entry(READY | INDIRECT, hop, start, 0);
        fake.put(owner(hop), hop, Entry { grantee: to(hop).raw(), other: owner(hop - 1).raw(), ..indirect });
        id = GrantId::new(hop, hop);
    }
    (fake, owner(hops), id)
}

#[test]
fn five_hops_and_no_more() {
    for hops in 0..=MAX_HOPS as u32 {
        let (mut fake, granter, id) = chain(hops);
        let found = verify(&mut fake, granter, id, access(READ, 0, 8)).unwrap();
        assert_eq!(
            (found.target, found.granter),
            (Endpoint::new(0, 20), Endpoint::new(0, 20)),
            "{hops} hops"
        );
        assert_eq!((found.id, found.no_suspend), (GrantId::new(1, 2), true));
    }
    let (mut fake, granter, id) = chain(MAX_HOPS as u32 + 1);
    assert_eq!(verify(&mut fake, granter, id, access(READ, 0, 8)), Err(Errno::ELOOP));
    // A grant that refers to itself.
    let mut fake = Fake::default();
    let round = Entry {
        other: GRANTER.raw(),
        grantee: Endpoint::ANY.raw(),
        ..entry(READY | INDIRECT, 9, ID.0 as u64, 0)
    };
    fake.put(GRANTER, 3, round);
    assert_eq!(verify(&mut fake, GRANTER, ID, access(READ, 0, 8)), Err(Errno::ELOOP));
    assert_eq!(fake.reads, MAX_HOPS + 1);
}

#[test]
fn each_link_is_for_its_own_grantee() {
    for link in 0..=3 {
        let (mut fake, granter, id) = chain(3);
        for ((owner, _), entry) in &mut fake.entries {
            if *owner == 20 + link {
                entry.grantee = Endpoint::TTY.raw();
            }
        }
        assert_eq!(verify(&mut fake, granter, id, access(READ, 0, 8)), Err(Errno::EPERM), "link {link}");
    }
}

#[test]
fn marks() {
    use refault_abi::grant::mark::{FAULTED, GRANTEE_SIDE, SECOND_STAGE, WRITE_ACCESS};
    let fault = |end, second_stage| SoftFault { end, address: 1, second_stage };
    assert_eq!(mark_bits(&fault(End::From, false), End::From), FAULTED);
    assert_eq!(mark_bits(&fault(End::To, false), End::From), FAULTED | GRANTEE_SIDE | WRITE_ACCESS);
    assert_eq!(mark_bits(&fault(End::To, true), End::To), FAULTED | WRITE_ACCESS | SECOND_STAGE);
    assert_eq!(mark_bits(&fault(End::From, true), End::To), FAULTED | GRANTEE_SIDE | SECOND_STAGE);
    let state = State::new(READY | DIRECT, 0, 9);
    assert_eq!(marked(state, ID, FAULTED), Some(State::new(READY | DIRECT, FAULTED, 9)));
    assert_eq!(marked(State::new(READY | DIRECT, 0, 10), ID, FAULTED), None, "used again");
    assert_eq!(marked(State::new(0, 0, 9), ID, FAULTED), None, "revoked");
}

proptest! {
    /// Whatever a granter writes into its table, a copy stays inside user memory arithmetic and inside the entry.
    #[test]
    fn no_entry_leads_outside_its_range(
        state: u64, grantee in 0..16i32, other in -4..40000i32, start: u64, length: u64,
        id: i64, index in 0..8u32, bits in 1..4u16, offset: u64, bytes: u64,
    ) {
        let mut fake = Fake::default();
        let hostile = Entry { state, grantee, other, start, length, ..Entry::default() };
        for at in 0..8 {
            fake.put(Endpoint::VFS, at, hostile);
        }
        for id in [GrantId(id), GrantId::new(index, State(state).sequence())] {
            if let Ok(found) = verify(&mut fake, Endpoint::VFS, id, access(bits, offset, bytes)) {
                prop_assert!(found.address >= start);
                prop_assert!(u128::from(found.address) + u128::from(bytes) <= u128::from(start) + u128::from(length));
                prop_assert_eq!(State(state).flags() & bits, bits);
            }
        }
    }
}
