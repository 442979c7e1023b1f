//! Workload 14: a process's own memory, touched page after page in an order that the seed gives, for as many faults as can be had.
//!
//! Where the monitor lets a guest take pages of its own away, all of them go before each round. The one thing to hold in mind: every
//! touch of a page that is away is a trap, a page fault of a process, a message to VM, and a write at the doorbell; nothing else
//! is done between two of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::layout::PAGE;
use refault_abi::vfs::{O_CREAT, O_RDWR, O_TRUNC};
use refault_abi::{Errno, pattern};
use refault_rt::{kernel, user};

use super::gauges::Gauges;
use super::random::Random;
use super::requests::DIRECTORY;
use super::trouble::{Defined, Step, Trouble, whole};
use crate::check::area::Area;

/// Pages of anonymous memory.
const ANONYMOUS: u64 = 256;
/// Pages of a file, mapped privately.
const MAPPED: u64 = 32;
/// The file's pattern.
const FILE: u32 = 0x3000;

/// The value of a page's words: one at its beginning, one at its end.
fn word(page: u64, generation: u64) -> u8 {
    (page.wrapping_mul(31) ^ generation.wrapping_mul(101)).to_le_bytes()[0]
}

/// So many rounds over all pages.
pub fn run(seed: u32, rounds: u16, since: &Gauges) -> Step {
    let path = format!("{DIRECTORY}/mapped");
    let file = user::open(&path, O_RDWR | O_CREAT | O_TRUNC, 0o644).defined(since, &path)?;
    let mut bytes = alloc::vec![0; (MAPPED * PAGE) as usize];
    pattern::fill(FILE, 0, &mut bytes);
    let count = user::pwrite(file, &bytes, 0).defined(since, "preparing")?;
    whole("preparing", count as u64, bytes.len() as u64)?;
    let (plain, mapped) = (Area::anonymous(ANONYMOUS)?, Area::of_file(file, MAPPED)?);
    let mut order: Vec<u64> = (0..ANONYMOUS + MAPPED).collect();
    let mut random = Random::new(seed, 0);
    let mut generations = alloc::vec![0u64; order.len()];
    let done = (0..u64::from(rounds)).try_for_each(|round| {
        if round > 0 {
            away(plain, ANONYMOUS)?;
            away(mapped, MAPPED)?;
        }
        for left in (1..order.len()).rev() {
            order.swap(left, random.below(left as u64 + 1) as usize);
        }
        for page in &order {
            let generation = generations.get_mut(*page as usize).ok_or_else(String::new)?;
            if *page < ANONYMOUS {
                touch_plain(plain, *page, generation, random.below(2) == 0)?;
            } else {
                touch_mapped(mapped, *page - ANONYMOUS, generation, random.below(4) == 0)?;
            }
        }
        Ok(())
    });
    plain.unmap()?;
    mapped.unmap()?;
    user::close(file).defined(since, "close")?;
    user::unlink(&path).defined(since, "unlink")?;
    done
}

/// Has all pages of an area taken away for one access each, where the monitor does such a thing.
fn away(area: Area, pages: u64) -> Step {
    match kernel::away_pages(area.address, pages, 1) {
        Ok(()) | Err(Errno::ENXIO) => Ok(()),
        Err(error) => Err(format!("AWAY: {error}").into()),
    }
}

fn wrong(what: &str, page: u64) -> Trouble {
    Trouble::corrupt(format!("page {page} of the {what} memory"))
}

fn touch_plain(area: Area, page: u64, generation: &mut u64, write: bool) -> Step {
    let at = page * PAGE;
    let wanted = if *generation == 0 { 0 } else { word(page, *generation) };
    // A page that is away may be met by a write first.
    if write {
        *generation += 1;
        area.set(at, word(page, *generation));
        let right = area.get(at + PAGE - 1) == wanted;
        area.set(at + PAGE - 1, word(page, *generation));
        return if right { Ok(()) } else { Err(wrong("anonymous", page)) };
    }
    let right = area.get(at) == wanted && area.get(at + PAGE - 1) == wanted;
    if right { Ok(()) } else { Err(wrong("anonymous", page)) }
}

fn touch_mapped(area: Area, page: u64, generation: &mut u64, write: bool) -> Step {
    let at = page * PAGE;
    let wanted = if *generation == 0 { pattern::pattern_byte(FILE, at) } else { word(page, *generation) };
    let last = at + PAGE - 1;
    if area.get(at) != wanted || area.get(last) != pattern::pattern_byte(FILE, last) {
        return Err(wrong("mapped", page));
    }
    if write {
        *generation += 1;
        area.set(at, word(page, *generation));
    }
    Ok(())
}
