//! Copies over a small machine of arrays: bytes, progress, faults of both kinds, fault sites.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use refault_abi::layout::pte;

use super::*;

const ALL: u64 = pte::PRESENT | pte::USER | pte::WRITABLE;
const RAM: u64 = 0x3_0000;
/// Kernel addresses of the fake direct map: physical address plus this.
const DIRECT: u64 = 0x8000_0000;
/// Roots of the two address spaces; each maps its pages through tables at fixed places.
const ROOTS: [u64; 2] = [0x1000, 0x2000];
const BASE: u64 = 0x40_0000;
const PAGES: u64 = 8;

struct Fake {
    ram: Vec<u8>,
    tables: BTreeMap<u64, u64>,
    /// Physical pages taken away at the second stage.
    away: BTreeSet<u64>,
    /// Poisoned physical pages.
    poisoned: BTreeSet<u64>,
    sites: Vec<Site>,
    wanted: bool,
}

/// Physical page behind page `page` of address space `space`.
fn frame(space: usize, page: u64) -> u64 {
    // Not contiguous, so that a wrong translation shows.
    0x1_0000 + (space as u64 * PAGES + (page * 5) % PAGES) * PAGE
}

fn fake() -> Fake {
    let mut fake = Fake {
        ram: vec![0; RAM as usize],
        tables: BTreeMap::new(),
        away: BTreeSet::new(),
        poisoned: BTreeSet::new(),
        sites: vec![],
        wanted: false,
    };
    for (space, root) in ROOTS.into_iter().enumerate() {
        let own = 0x3000 + space as u64 * 0x3000;
        fake.tables.insert(root, own | ALL);
        fake.tables.insert(own, (own + 0x1000) | ALL);
        fake.tables.insert(own + 0x1000 + (BASE >> 21) * 8, (own + 0x2000) | ALL);
        for page in 0..PAGES {
            fake.tables.insert(own + 0x2000 + page * 8, frame(space, page) | ALL);
        }
    }
    for (index, byte) in fake.ram.iter_mut().enumerate() {
        *byte = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[7];
    }
    fake
}

impl Fake {
    fn page_entry(&mut self, space: usize, page: u64) -> &mut u64 {
        self.tables.get_mut(&(0x3000 + space as u64 * 0x3000 + 0x2000 + page * 8)).unwrap()
    }

    fn byte(&self, space: usize, address: u64) -> u8 {
        let offset = address - BASE;
        self.ram[(frame(space, offset / PAGE) + offset % PAGE) as usize]
    }

    fn first_away(&self, at: u64) -> Option<(u64, Lost)> {
        let page = (at - DIRECT) & !(PAGE - 1);
        let lost = |pages: &BTreeSet<u64>, how| pages.contains(&page).then_some((at, how));
        lost(&self.poisoned, Lost::Poisoned).or(lost(&self.away, Lost::Away))
    }
}

impl Tables for Fake {
    fn entry(&self, address: u64) -> Option<u64> {
        (address < RAM).then(|| self.tables.get(&address).copied().unwrap_or(0))
    }
}

impl Memory for Fake {
    fn direct(&self, physical: u64) -> Option<u64> {
        (physical < RAM).then_some(DIRECT + physical)
    }
    fn physical(&self, direct: u64) -> u64 {
        direct - DIRECT
    }
    fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Moved {
        assert!(bytes > 0 && bytes <= PAGE);
        assert_eq!(from / PAGE, (from + bytes - 1) / PAGE, "a page was crossed");
        assert_eq!(to / PAGE, (to + bytes - 1) / PAGE, "a page was crossed");
        if let Some(fault) = self.first_away(from).or(self.first_away(to)) {
            return Moved { bytes: 0, fault: Some(fault) };
        }
        for index in 0..bytes {
            self.ram[(to - DIRECT + index) as usize] = self.ram[(from - DIRECT + index) as usize];
        }
        Moved { bytes, fault: None }
    }
    fn fill(&mut self, to: u64, byte: u8, bytes: u64) -> Moved {
        if let Some(fault) = self.first_away(to) {
            return Moved { bytes: 0, fault: Some(fault) };
        }
        self.ram[(to - DIRECT) as usize..][..bytes as usize].fill(byte);
        Moved { bytes, fault: None }
    }
    fn sites_wanted(&self) -> bool {
        self.wanted
    }
    fn site(&mut self, site: &Site) {
        self.sites.push(*site);
    }
}

fn at(space: usize, offset: u64) -> Place {
    Place::User { root: ROOTS[space], address: BASE + offset }
}

fn whole(bytes: u64) -> Progress {
    Progress { bytes, stopped: None }
}

fn soft(bytes: u64, end: End, address: u64, second_stage: bool) -> Progress {
    Progress { bytes, stopped: Some(Stopped::Soft(SoftFault { end, address, second_stage })) }
}

#[test]
fn first_stage_faults_are_exact() {
    let mut machine = fake();
    *machine.page_entry(0, 2) = 0;
    assert_eq!(
        transfer(&mut machine, at(0, PAGE + 1), at(1, 5), 3 * PAGE, None),
        soft(PAGE - 1, End::From, BASE + 2 * PAGE, false)
    );
    *machine.page_entry(1, 3) &= !pte::WRITABLE;
    assert_eq!(
        transfer(&mut machine, at(0, 4 * PAGE), at(1, 3 * PAGE - 1), 10, None),
        soft(1, End::To, BASE + 3 * PAGE, false)
    );
    assert_eq!(
        transfer(&mut machine, at(1, 3 * PAGE), at(0, 0), 10, None),
        whole(10),
        "a read-only source is fine"
    );
    *machine.page_entry(1, 4) &= !pte::USER;
    assert_eq!(
        transfer(&mut machine, at(1, 4 * PAGE), at(0, 0), 10, None),
        soft(0, End::From, BASE + 4 * PAGE, false)
    );
}

#[test]
fn second_stage_faults_are_exact() {
    let mut machine = fake();
    machine.away.insert(frame(1, 2));
    let fault = soft(PAGE + 7, End::To, BASE + 2 * PAGE, true);
    assert_eq!(transfer(&mut machine, at(0, 0), at(1, PAGE - 7), 3 * PAGE, None), fault);
    machine.away = BTreeSet::from([frame(0, 0)]);
    assert_eq!(transfer(&mut machine, at(0, 99), at(1, 0), 8, None), soft(0, End::From, BASE + 99, true));
}

#[test]
fn poison_ends_a_copy_exactly_and_names_the_page() {
    let mut machine = fake();
    machine.poisoned.insert(frame(1, 2));
    let poison = |bytes, end, address, page| Progress {
        bytes,
        stopped: Some(Stopped::Poison(Poison { end, address, page })),
    };
    // A copy that ends where both its pages do, and one that stores bytes.
    let target = |bytes| poison(bytes, End::To, BASE + 2 * PAGE, frame(1, 2));
    assert_eq!(transfer(&mut machine, at(0, 0), at(1, PAGE - 7), 3 * PAGE, None), target(PAGE + 7));
    assert_eq!(transfer(&mut machine, Place::Fill(1), at(1, PAGE - 7), 3 * PAGE, None), target(PAGE + 7));
    machine.poisoned.insert(frame(0, 3));
    let source = poison(1, End::From, BASE + 3 * PAGE, frame(0, 3));
    assert_eq!(transfer(&mut machine, at(0, 3 * PAGE - 1), at(1, 0), 8, None), source);
}

#[test]
fn what_is_not_user_memory_is_not_a_soft_fault() {
    let mut machine = fake();
    let outside = Progress { bytes: 0, stopped: Some(Stopped::Outside) };
    for address in [USER_END - 4, u64::MAX - 3, 0xffff_8000_0000_0000, u64::MAX] {
        let place = Place::User { root: ROOTS[0], address };
        assert_eq!(transfer(&mut machine, place, at(1, 0), 8, None), outside, "{address:#x}");
        assert_eq!(transfer(&mut machine, at(1, 0), place, 8, None), outside, "{address:#x}");
    }
    assert_eq!(transfer(&mut machine, at(0, 0), at(1, 0), u64::MAX, None), outside);
    // Device memory mapped by a driver.
    *machine.page_entry(0, 1) = 0xd000_0000 | ALL;
    assert_eq!(transfer(&mut machine, at(0, PAGE - 4), at(1, 0), 8, None), Progress { bytes: 4, ..outside });
}

#[test]
fn sites_name_each_page_once_and_the_granter_first() {
    let mut machine = fake();
    machine.wanted = true;
    let sites = Sites {
        granted: End::To,
        copy: 3,
        tag: 0x99,
        granter: Endpoint::VFS,
        grantee: Endpoint::MFS,
        base: BASE + 100,
        length: 5 * PAGE,
    };
    // Grant from 100 on, the copy begins 300 bytes into it; the grantee's buffer starts a page later.
    assert_eq!(transfer(&mut machine, at(0, PAGE + 10), at(1, 400), 2 * PAGE, Some(&sites)), whole(2 * PAGE));
    let seen: Vec<_> = machine
        .sites
        .iter()
        .map(|site| (site.side, site.access, site.page, site.pages, site.address - BASE))
        .collect();
    let expected = [
        (0, 1, 0, 6, 400),
        (1, 0, 0, 3, PAGE + 10),
        (0, 1, 1, 6, PAGE),
        (1, 0, 1, 3, 2 * PAGE),
        (0, 1, 2, 6, 2 * PAGE),
        (1, 0, 2, 3, 3 * PAGE),
    ];
    let order = |list: &[(u32, u32, u32, u32, u64)]| {
        list.iter().map(|site| (site.0, site.2)).collect::<BTreeSet<_>>()
    };
    assert_eq!(order(&seen), order(&expected));
    assert_eq!(seen[..2], expected[..2]);
    assert!(seen.iter().all(|site| expected.contains(site)), "{seen:?}");
    for site in &machine.sites {
        assert_eq!((site.gva, site.tag, site.copy), (DIRECT + site.gpa, 0x99, 3));
        let space = usize::from(site.side == 0);
        let offset = site.address - BASE;
        assert_eq!(site.gpa, frame(space, offset / PAGE) + offset % PAGE);
        assert_eq!((site.granter, site.grantee), (Endpoint::VFS.raw(), Endpoint::MFS.raw()));
    }
}

proptest! {
    /// Copies move exactly the bytes they say, and nothing else changes, whatever pages are missing.
    #[test]
    fn copies_are_exact(
        from in 0..3 * PAGE, to in 0..3 * PAGE, bytes in 1..4 * PAGE,
        absent in prop::option::of((0..2usize, 0..PAGES)), away in prop::option::of((0..2usize, 0..PAGES)),
    ) {
        let mut machine = fake();
        let before = machine.ram.clone();
        if let Some((space, page)) = absent {
            *machine.page_entry(space, page) = 0;
        }
        if let Some((space, page)) = away {
            machine.away.insert(frame(space, page));
        }
        let progress = transfer(&mut machine, at(0, from), at(1, to), bytes, None);
        // The first byte that cannot be copied, looked for one by one.
        let gone = |list: Option<(usize, u64)>, space: usize, offset: u64| list == Some((space, offset / PAGE));
        let limit = (0..bytes).find(|done| {
            [(0, from + done), (1, to + done)].into_iter().any(|(space, offset)| gone(absent, space, offset) || gone(away, space, offset))
        });
        prop_assert_eq!(progress.bytes, limit.unwrap_or(bytes));
        prop_assert_eq!(progress.stopped.is_none(), limit.is_none());
        let reference = Fake { ram: before, ..fake() };
        for offset in 0..PAGES * PAGE {
            let moved = offset.checked_sub(to).filter(|done| *done < progress.bytes);
            let expected = match moved {
                Some(done) => reference.byte(0, BASE + from + done),
                None => reference.byte(1, BASE + offset),
            };
            prop_assert_eq!(machine.byte(1, BASE + offset), expected, "offset {:#x}", offset);
        }
    }

    #[test]
    fn fills_are_exact(to in 0..3 * PAGE, bytes in 1..4 * PAGE) {
        let mut machine = fake();
        prop_assert_eq!(transfer(&mut machine, Place::Fill(0xa5), at(1, to), bytes, None), whole(bytes));
        for offset in 0..bytes {
            prop_assert_eq!(machine.byte(1, BASE + to + offset), 0xa5);
        }
    }
}
