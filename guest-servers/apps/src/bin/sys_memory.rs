//! `sys_memory`: what programs may expect of their memory: fork, copy on write, mappings of files and disks, the ends of things,
//! programs from files, and that nothing of it is ever lost.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::counters::Counter;
use refault_abi::layout::{PAGE, STACK_MAX, STACK_TOP};
use refault_abi::options::Mode;
use refault_abi::pattern::{self, pattern_byte};
use refault_abi::pm::{SIGBUS, SIGSEGV};
use refault_abi::vfs::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC};
use refault_abi::vm::{MAP_ANONYMOUS, PROT_READ};
use refault_apps::check::area::Area;
use refault_apps::check::family::{Child, all_good};
use refault_apps::check::program::{PROGRAM_STATUS, make_program};
use refault_apps::check::suite::{Explain, Suite, expect};
use refault_rt::start::Args;
use refault_rt::user;
use refault_rt::{Errno, kernel};

refault_rt::entry!(main);

/// Pages of the memory that families share.
const PAGES: u64 = 12;
/// A file of whole pages with a known pattern.
const WHOLE: &str = "/a.bin";
/// A file that ends in the middle of a page: its pattern and its bytes.
const ODD: (&str, u32, u64) = ("/odd.bin", 3, 100 * 1024 + 333);

fn main(_args: Args) -> i32 {
    let mut suite = Suite::new();
    let faithful = suite.options().mode == Mode::Faithful;
    // The seed does not look for the reason of a missing page.
    let past_end = if faithful { SIGSEGV } else { SIGBUS };
    suite.check("V1.fork.family", |_| family());
    suite.check("V2.fork.copies", |_| copies());
    suite.check("V3.fork.private-mapping", |_| private_mapping());
    suite.check("V4.signals", |_| signals(past_end));
    suite.check("V5.tail", |_| tail());
    suite.check("V6.grown", |_| grown());
    suite.check("V7.hole", |_| hole());
    suite.check("V8.device", |_| device());
    suite.check("V9.exec", |_| exec());
    suite.check("V10.together", |_| together(faithful));
    suite.check("V11.nothing-lost", |_| nothing_lost());
    suite.end()
}

/// Byte `at` of memory in a generation.
fn marked(at: u64, generation: u8) -> u8 {
    ((at / PAGE) as u8).wrapping_mul(3).wrapping_add((at % 7) as u8).wrapping_add(generation)
}

/// Complains unless an area is all of one generation.
fn whole(area: Area, generation: u8, who: &str) -> Result<(), String> {
    match area.first_wrong(|at| marked(at, generation)) {
        None => Ok(()),
        Some(at) => Err(format!("{who}: byte {at} is {} of generation {generation}", area.get(at))),
    }
}

/// Children of children, each of which sees its parent's memory as it was and writes its own.
fn family() -> Result<(), String> {
    let area = Area::anonymous(PAGES)?;
    area.fill(|at| marked(at, 1));
    generation(area, 3, 1)?;
    whole(area, 1, "the eldest")?;
    area.unmap()
}

fn generation(area: Area, depth: u8, number: u8) -> Result<(), String> {
    whole(area, number, "at first")?;
    if depth > 0 {
        let twins = [
            Child::run(|| generation(area, depth - 1, number))?,
            Child::run(|| {
                area.fill(|at| marked(at, number + 40));
                generation(area, depth - 1, number + 40)
            })?,
        ];
        // Meanwhile the parent writes as well, and back.
        area.fill(|at| marked(at, number + 90));
        all_good(&twins)?;
        whole(area, number + 90, "a parent")?;
    }
    area.fill(|at| marked(at, number));
    whole(area, number, "at last")
}

/// What a fork shares, and what a write then copies, is counted in pages.
fn copies() -> Result<(), String> {
    let area = Area::anonymous(PAGES)?;
    area.fill(|at| marked(at, 5));
    let count = |which| kernel::counter(which).explain("COUNTER");
    let (shared, copied) = (count(Counter::VmForkShared)?, count(Counter::VmCopyOnWrite)?);
    Child::run(|| {
        (0..PAGES).for_each(|page| area.set(page * PAGE, 9));
        Ok(())
    })?
    .good()?;
    let (shared, copied) = (count(Counter::VmForkShared)? - shared, count(Counter::VmCopyOnWrite)? - copied);
    if shared < PAGES || copied < PAGES {
        return Err(format!("{shared} pages shared and {copied} copied of at least {PAGES}"));
    }
    whole(area, 5, "the parent")?;
    // Alone again: these are not copies.
    let before = count(Counter::VmCopyOnWrite)?;
    area.fill(|at| marked(at, 6));
    let again = count(Counter::VmCopyOnWrite)? - before;
    area.unmap()?;
    if again < PAGES { Ok(()) } else { Err(format!("{again} copies of pages that nobody shares")) }
}

/// A file's page is written to by nobody: not by its mapper, not by the mapper's child.
fn private_mapping() -> Result<(), String> {
    let file = user::open(WHOLE, O_RDONLY, 0).explain(WHOLE)?;
    let area = Area::of_file(file, 4)?;
    let original = |at: u64| pattern_byte(pattern::FILE_A, at);
    area.set(PAGE, !original(PAGE));
    Child::run(|| {
        expect("the parent's own byte", area.get(PAGE), !original(PAGE))?;
        area.set(PAGE, 1);
        area.set(0, !original(0));
        expect("the child's own byte", area.get(0), !original(0))
    })?
    .good()?;
    expect("the parent's byte", area.get(PAGE), !original(PAGE))?;
    expect("a byte only the child wrote", area.get(0), original(0))?;
    let mut bytes = vec![0; 2 * PAGE as usize];
    user::pread(file, &mut bytes, 0).explain("pread")?;
    let wrong = bytes.iter().enumerate().find(|(at, byte)| **byte != original(*at as u64));
    expect("the file", wrong, None)?;
    area.unmap()?;
    user::close(file).explain("close")
}

/// How accesses end that cannot be.
fn signals(past_end: u32) -> Result<(), String> {
    let died = |what: &str, signal: u32, access: &dyn Fn()| {
        let child = Child::with_status(|| {
            access();
            0
        })?;
        expect(what, child.status()?, 128 + i64::from(signal))
    };
    let file = user::open(ODD.0, O_RDONLY, 0).explain(ODD.0)?;
    let pages = ODD.2.div_ceil(PAGE);
    let mapping = Area::of_file(file, pages + 2)?;
    let constant = Area::map(1, PROT_READ, MAP_ANONYMOUS, -1)?;
    let gone = Area::anonymous(1)?;
    gone.unmap()?;
    died("unmapped", SIGSEGV, &|| _ = gone.get(0))?;
    died("read-only", SIGSEGV, &|| constant.set(0, 1))?;
    died("below the stack", SIGSEGV, &|| {
        let _ = Area { address: STACK_TOP - STACK_MAX - PAGE, bytes: PAGE }.get(0);
    })?;
    died("the kernel", SIGSEGV, &|| {
        let _ = Area { address: 0xffff_8000_0000_0000, bytes: PAGE }.get(0);
    })?;
    died("behind the end", past_end, &|| _ = mapping.get(pages * PAGE))?;
    died("writing behind the end", past_end, &|| mapping.set((pages + 1) * PAGE, 1))?;
    expect("constant zeros", constant.get(1), 0)?;
    constant.unmap()?;
    mapping.unmap()?;
    user::close(file).explain("close")
}

/// The last page of a file goes on with zeros.
fn tail() -> Result<(), String> {
    let (name, id, size) = ODD;
    let file = user::open(name, O_RDONLY, 0).explain(name)?;
    let area = Area::of_file(file, size.div_ceil(PAGE))?;
    let wanted = |at: u64| if at < size { pattern_byte(id, at) } else { 0 };
    expect("the first wrong byte", area.first_wrong(wanted), None)?;
    area.unmap()?;
    user::close(file).explain("close")
}

/// A file that grows behind a mapping's back is there.
fn grown() -> Result<(), String> {
    let file = user::open("/grown", O_RDWR | O_CREAT | O_TRUNC, 0o644).explain("/grown")?;
    user::pwrite(file, &[1; 10], 0).explain("pwrite")?;
    let area = Area::of_file(file, 3)?;
    user::pwrite(file, &[7; 100], 2 * PAGE).explain("pwrite")?;
    expect("new bytes", (area.get(2 * PAGE), area.get(2 * PAGE + 100), area.get(PAGE)), (7, 0, 0))?;
    area.unmap()?;
    user::close(file).explain("close")?;
    user::unlink("/grown").explain("unlink")
}

/// Holes are zeros that cost the file system nothing: each of their pages serves once.
fn hole() -> Result<(), String> {
    let file = user::open("/holes", O_RDWR | O_CREAT | O_TRUNC, 0o644).explain("/holes")?;
    user::ftruncate(file, PAGES * PAGE).explain("ftruncate")?;
    let before = kernel::counter(Counter::VmOneShot).explain("COUNTER")?;
    let area = Area::of_file(file, PAGES)?;
    expect("the first byte that is not zero", area.first_wrong(|_| 0), None)?;
    let used = kernel::counter(Counter::VmOneShot).explain("COUNTER")? - before;
    if used < PAGES {
        return Err(format!("{used} one-shot pages for {PAGES} pages of holes"));
    }
    area.set(3, 3);
    let other = Area::of_file(file, 1)?;
    expect("the hole of another mapping", other.get(3), 0)?;
    other.unmap()?;
    area.unmap()?;
    user::close(file).explain("close")?;
    user::unlink("/holes").explain("unlink")
}

/// A disk's pages can be mapped like a file's.
fn device() -> Result<(), String> {
    let disk = user::open("/dev/disk0", O_RDONLY, 0).explain("/dev/disk0")?;
    user::flush_caches().explain("flush")?;
    let area = Area::of_file(disk, PAGES)?;
    let mapped: Vec<u8> = (0..area.bytes).map(|at| area.get(at)).collect();
    let mut read = vec![0; area.bytes as usize];
    expect("bytes read", user::pread(disk, &mut read, 0).explain("pread")?, read.len())?;
    let wrong = mapped.iter().zip(&read).position(|(one, other)| one != other);
    expect("the first difference", wrong, None)?;
    // The superblock's magic number, 24 bytes into the second kilobyte.
    expect("the magic number", read.get(1024 + 24..1024 + 26), Some(&[0x5a, 0x4d][..]))?;
    area.unmap()?;
    user::close(disk).explain("close")
}

/// Programs from the disk and from the boot image, and what is none.
fn exec() -> Result<(), String> {
    make_program("/tiny")?;
    let garbage = user::open("/garbage", O_RDWR | O_CREAT | O_TRUNC, 0o755).explain("/garbage")?;
    user::pwrite(garbage, &[0x7f; 300], 0).explain("pwrite")?;
    user::close(garbage).explain("close")?;
    // Twice: the second time its pages are in the cache.
    for (words, wanted) in [
        (&["/tiny"][..], Ok(PROGRAM_STATUS)),
        (&["/tiny", "with", "arguments"][..], Ok(PROGRAM_STATUS)),
        (&["echo"][..], Ok(0)),
        (&["no-such-program"][..], Err(Errno::ENOENT)),
        (&["/no-such-program"][..], Err(Errno::ENOENT)),
        (&["/garbage"][..], Err(Errno::ENOEXEC)),
        (&[WHOLE][..], Err(Errno::EACCES)),
    ] {
        let child = Child::with_status(|| 100 - user::exec(words.iter().copied()).code())?;
        let wanted = wanted.unwrap_or_else(|error: Errno| 100 - i64::from(error.code()));
        expect(words[0], child.status()?, wanted)?;
    }
    user::unlink("/tiny").explain("unlink")?;
    user::unlink("/garbage").explain("unlink")
}

/// Many processes want the same absent pages at once: ours asks for each page once.
fn together(faithful: bool) -> Result<(), String> {
    const CHILDREN: u64 = 10;
    let file = user::open(WHOLE, O_RDONLY, 0).explain(WHOLE)?;
    let area = Area::of_file(file, PAGES)?;
    user::flush_caches().explain("flush")?;
    let asked = kernel::counter(Counter::VmFilePages).explain("COUNTER")?;
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        children.push(Child::run(|| {
            expect("the first wrong byte", area.first_wrong(|at| pattern_byte(pattern::FILE_A, at)), None)
        })?);
    }
    all_good(&children)?;
    let asked = kernel::counter(Counter::VmFilePages).explain("COUNTER")? - asked;
    area.unmap()?;
    user::close(file).explain("close")?;
    let most = if faithful { PAGES * CHILDREN } else { PAGES };
    if (PAGES..=most).contains(&asked) { Ok(()) } else { Err(format!("{asked} pages asked for {PAGES}")) }
}

/// After everything has been done once, doing it again costs no memory.
fn nothing_lost() -> Result<(), String> {
    let free = || kernel::counter(Counter::VmFramesFree).explain("COUNTER");
    let mut seen = Vec::new();
    for _ in 0..4 {
        family()?;
        private_mapping()?;
        signals_quietly()?;
        exec()?;
        user::flush_caches().explain("flush")?;
        seen.push(free()?);
    }
    let (first, rest) = seen.split_first().ok_or("no rounds")?;
    // The first rounds may leave servers with more memory of their own; what is lost is lost in every round.
    let falling = rest.windows(2).all(|pair| matches!(pair, [one, other] if other < one));
    if falling && rest.last() < Some(first) {
        Err(format!("frames free after each round: {seen:?}"))
    } else {
        Ok(())
    }
}

/// A child that ends by a fault, with memory of all kinds.
fn signals_quietly() -> Result<(), String> {
    let child = Child::with_status(|| {
        let Ok(area) = Area::anonymous(PAGES) else { return 1 };
        area.fill(|_| 1);
        let _ = area.unmap();
        i32::from(area.get(0))
    })?;
    expect("a child that ends by a fault", child.status()?, 128 + i64::from(SIGSEGV))
}
