//! `sys_costs [SAMPLES]`: performs operations between marks, so that a monitor can count what ring 0 retires for each.
//!
//! The monitor counts from the first kernel entry after MEASURE_BEGIN to the write of MEASURE_END, so every
//! measurement contains the kernel call that ends it; [`Measured::Empty`] is that call alone, for subtracting. What the
//! guest counts itself (messages, copies) is read before and after, and printed as a line `@cost {json}` for each sample.
//!
//! The one thing to hold in mind: what is counted is the repeated case. Everything is performed beforehand, so that
//! caches, tables and heaps have what they need, and only the page that a measurement is about is absent. A sample whose
//! faults are not the ones meant is an error; one into which a heartbeat fell is said to be disturbed, and taken again.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;

use refault_abi::counters::Counter;
use refault_abi::doorbell::{Measured, event};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Errno, Message, Result, pm, vfs};
use refault_apps::mapping::Mapping;
use refault_rt::grants::Grant;
use refault_rt::start::Args;
use refault_rt::user::{self, Descriptor};
use refault_rt::{kernel, println};

refault_rt::entry!(main);

/// Samples of each operation, unless told otherwise.
const SAMPLES: u64 = 3;
/// Most samples of one operation: each takes a page of `/a.bin`, and its first page stays out of it.
const SAMPLES_MAX: u64 = 15;
/// Bytes of each transfer.
const BYTES: usize = PAGE as usize;
/// The file whose pages are mapped.
const MAPPED: &str = "/a.bin";
/// The file that is read.
const READ: &str = "/b.bin";
/// The file that is written; gone afterwards.
const WRITTEN: &str = "/costs.tmp";
/// The symbolic link that is made; gone afterwards.
const LINK: &str = "/costs.lnk";
/// A symbolic link that every disk of ours has.
const OLD_LINK: &str = "/greeting";
/// The disk as a file.
const DISK: &str = "/dev/disk0";

#[repr(C, align(4096))]
struct Page([u8; BYTES]);

fn main(mut args: Args) -> i32 {
    let samples = match args.nth(1).map(str::parse::<u64>) {
        None => SAMPLES,
        Some(Ok(samples @ 1..=SAMPLES_MAX)) => samples,
        Some(_) => {
            refault_rt::eprintln!("usage: sys_costs [SAMPLES], from 1 to {SAMPLES_MAX}");
            return refault_apps::USAGE;
        }
    };
    match all(samples) {
        Ok(()) => refault_apps::DONE,
        Err(why) => {
            refault_rt::eprintln!("sys_costs: {why}");
            refault_apps::FAILED
        }
    }
}

fn all(samples: u64) -> Failable {
    let mut bench = Bench { samples, overhead: Counts::default() };
    bench.basic()?;
    bench.reads()?;
    bench.writes()?;
    bench.names()?;
    bench.pipes()?;
    bench.disk()
}

/// Success, or a sentence.
type Failable<T = ()> = core::result::Result<T, String>;

/// Says what was being done.
trait Doing<T> {
    fn doing(self, what: &str) -> Failable<T>;
}

impl<T> Doing<T> for Result<T> {
    fn doing(self, what: &str) -> Failable<T> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

/// What the guest counts of an operation.
#[derive(Clone, Copy, Default)]
struct Counts([u64; COUNTED.len()]);

/// Which counters, with their names in `@cost` lines.
const COUNTED: [(Counter, &str); 9] = [
    (Counter::KernelTraps, "traps"),
    (Counter::Messages, "messages"),
    (Counter::Notifications, "notifications"),
    (Counter::Copies, "copies"),
    (Counter::CopyBytes, "copy_bytes"),
    (Counter::SoftFaultsFirstStage, "faults"),
    (Counter::VfsRepeats, "repeats"),
    (Counter::VmFilePages, "file_pages"),
    (Counter::FsRequests, "fs_requests"),
];

impl Counts {
    fn now() -> Result<Counts> {
        let mut counts = Counts::default();
        for ((which, _), count) in COUNTED.iter().zip(&mut counts.0) {
            *count = kernel::counter(*which)?;
        }
        Ok(counts)
    }

    fn less(&self, other: &Counts) -> Counts {
        let mut counts = *self;
        counts.0.iter_mut().zip(&other.0).for_each(|(count, less)| *count = count.wrapping_sub(*less));
        counts
    }

    fn of(&self, which: Counter) -> u64 {
        let found = COUNTED.iter().zip(&self.0).find(|((counter, _), _)| *counter == which);
        found.map_or(0, |(_, count)| *count)
    }
}

/// What has to happen in an operation for it to be the one that was meant.
#[derive(Clone, Copy, Default)]
struct Meant {
    faults: u64,
    file_pages: u64,
}

struct Bench {
    samples: u64,
    overhead: Counts,
}

impl Bench {
    /// Takes samples of an operation. `prepare` gets the sample's number, from 0, and makes what `operation` uses up.
    fn measure<T>(
        &self,
        what: Measured,
        meant: Meant,
        mut prepare: impl FnMut(u64) -> Failable<T>,
        mut operation: impl FnMut(&mut T) -> Result<()>,
    ) -> Failable {
        let (_, name) = Measured::ALL.get(what as usize).ok_or("an operation without a name")?;
        // Once unmeasured; then a disturbed sample may be taken again as long as there are pages to use up.
        let mut taken = 0;
        for number in 0..=SAMPLES_MAX {
            let mut with = prepare(number)?;
            if number == 0 {
                operation(&mut with).doing(name)?;
                continue;
            }
            let counts = self.sample(what, || operation(&mut with)).doing(name)?;
            let (faults, pages) = (counts.of(Counter::SoftFaultsFirstStage), counts.of(Counter::VmFilePages));
            if (faults, pages) != (meant.faults, meant.file_pages) {
                return Err(format!(
                    "{name}: {faults} faults and {pages} pages of files brought in, not {} and {}",
                    meant.faults, meant.file_pages
                ));
            }
            let disturbed = counts.of(Counter::Notifications) != 0;
            print(what, &counts, disturbed);
            taken += u64::from(!disturbed);
            if taken == self.samples {
                break;
            }
        }
        Ok(())
    }

    /// One sample: what the guest counted, without the counting.
    fn sample(&self, what: Measured, operation: impl FnOnce() -> Result<()>) -> Result<Counts> {
        let before = Counts::now()?;
        kernel::event(event::MEASURE_BEGIN, what as u32)?;
        let result = operation();
        kernel::event(event::MEASURE_END, what as u32)?;
        let after = Counts::now()?;
        result.map(|()| after.less(&before).less(&self.overhead))
    }

    /// An operation that uses nothing up.
    fn repeated(&self, what: Measured, mut operation: impl FnMut() -> Result<()>) -> Failable {
        self.measure(what, Meant::default(), |_| Ok(()), |()| operation())
    }

    fn basic(&mut self) -> Failable {
        self.sample(Measured::Empty, || Ok(())).doing("nothing")?;
        self.overhead = self.sample(Measured::Empty, || Ok(())).doing("nothing")?;
        self.repeated(Measured::NullCall, kernel::null)?;
        self.repeated(Measured::RoundTrip, || {
            // PM answers this without asking anybody: one message there, one back.
            refault_rt::ipc::sendrec(Endpoint::PM, &Message::bare(pm::GETPID)).map(drop)
        })?;
        let source = Page([7; BYTES]);
        let mut target = Page([0; BYTES]);
        let me = user::getpid().doing("GETPID")?;
        let grant = Grant::of_bytes(me, &source.0).make().doing("a grant")?;
        self.repeated(Measured::SafeCopy, || {
            kernel::safecopy_from(me, grant.id(), 0, &mut target.0).whole().map(drop)
        })?;
        // Nothing was away: a mark could only be a mistake of the kernel.
        match grant.revoke().fault {
            None if target.0 == source.0 => Ok(()),
            _ => Err("a safecopy went wrong".into()),
        }
    }

    fn reads(&self) -> Failable {
        let file = open(READ, vfs::O_RDONLY)?;
        let mapped = open(MAPPED, vfs::O_RDONLY)?;
        let read = |(target, page): &mut (Mapping, u64)| whole(target.read(file, *page * PAGE, PAGE)?);
        let rewound = |target: Mapping, page: u64| {
            user::lseek(file, 0, vfs::SEEK_SET).doing("lseek").map(|_| (target, page))
        };
        // A mapping with everything present but the sample's page.
        let all_but = |target: Failable<Mapping>, page: u64, absent: bool| {
            let mut target = target?;
            for other in (0..=SAMPLES_MAX).filter(|other| !absent || *other != page) {
                target.touch(other);
            }
            rewound(target, page)
        };
        let length = (SAMPLES_MAX + 1) * PAGE;
        let of_file = || Mapping::of_file(mapped, length).doing(MAPPED);
        let anonymous = || Mapping::anonymous(length).doing("anonymous memory");

        self.measure(Measured::Read, Meant::default(), |page| all_but(of_file(), page, false), read)?;
        if !refault_rt::info::options().is_some_and(|options| options.cpf_try) {
            // Without CPF_TRY the file system would wait for VM, and VM for the file system.
            return close(file).and(close(mapped));
        }
        let fault = Meant { faults: 1, file_pages: 0 };
        // VM has every page of the file because another mapping of it is in use.
        let others = of_file()?;
        look_at(&others);
        self.measure(Measured::ReadFaultMapped, fault, |page| all_but(of_file(), page, true), read)?;
        drop(others);
        self.measure(Measured::ReadFaultAnonymous, fault, |page| all_but(anonymous(), page, true), read)?;
        let prepare = |page| {
            let target = all_but(of_file(), page, true)?;
            user::flush_caches().doing("flushing the caches")?;
            let mut scratch = Page([0; BYTES]);
            whole_count(user::pread(mapped, &mut scratch.0, page * PAGE)).doing(MAPPED)?;
            whole_count(user::pread(file, &mut scratch.0, 0)).doing(READ)?;
            Ok(target)
        };
        self.measure(Measured::ReadFaultFile, Meant { faults: 1, file_pages: 1 }, prepare, read)?;
        close(file).and(close(mapped))
    }

    fn writes(&self) -> Failable {
        let file = open(WRITTEN, vfs::O_WRONLY | vfs::O_CREAT)?;
        let source = Page([9; BYTES]);
        self.repeated(Measured::Write, || whole_count(user::pwrite(file, &source.0, 0)))?;
        if refault_rt::info::options().is_some_and(|options| options.cpf_try) {
            let mapped = open(MAPPED, vfs::O_RDONLY)?;
            let of_file = || Mapping::of_file(mapped, (SAMPLES_MAX + 1) * PAGE).doing(MAPPED);
            let others = of_file()?;
            look_at(&others);
            let prepare = |page| {
                let mut source = of_file()?;
                for other in (0..=SAMPLES_MAX).filter(|other| *other != page) {
                    source.touch(other);
                }
                user::lseek(file, 0, vfs::SEEK_SET).doing("lseek").map(|_| (source, page))
            };
            let write =
                |(source, page): &mut (Mapping, u64)| whole(source.write(file, *page * PAGE, PAGE)?);
            let fault = Meant { faults: 1, file_pages: 0 };
            self.measure(Measured::WriteFaultMapped, fault, prepare, write)?;
            close(mapped)?;
        }
        close(file)?;
        user::unlink(WRITTEN).doing(WRITTEN)
    }

    fn names(&self) -> Failable {
        self.repeated(Measured::Stat, || user::stat(READ).map(drop))?;
        let root = open("/", vfs::O_RDONLY)?;
        let mut entries = Page([0; BYTES]);
        let rewind = |_| user::lseek(root, 0, vfs::SEEK_SET).doing("lseek").map(drop);
        let list = |(): &mut ()| match user::getdents(root, &mut entries.0)? {
            0 => Err(Errno::EIO),
            _ => Ok(()),
        };
        self.measure(Measured::Getdents, Meant::default(), rewind, list)?;
        close(root)?;
        let mut target = [0; 64];
        self.repeated(Measured::Readlink, || user::readlink(OLD_LINK, &mut target).map(drop))?;
        let absent = |_| match user::unlink(LINK) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error).doing(LINK),
        };
        self.measure(Measured::Symlink, Meant::default(), absent, |()| user::symlink("hello.txt", LINK))?;
        user::unlink(LINK).doing(LINK)
    }

    fn pipes(&self) -> Failable {
        let (from, to) = user::pipe().doing("pipe")?;
        let text = Page([3; BYTES]);
        let mut back = Page([0; BYTES]);
        let empty = |number| match number {
            0 => Ok(()),
            _ => whole_count(user::read(from, &mut back.0)).doing("emptying the pipe"),
        };
        let fill = |(): &mut ()| whole_count(user::write(to, &text.0));
        self.measure(Measured::PipeWrite, Meant::default(), empty, fill)?;
        let filled = |number| match number {
            // The last sample is still in it.
            0 => Ok(()),
            _ => whole_count(user::write(to, &text.0)).doing("filling the pipe"),
        };
        let mut target = Page([0; BYTES]);
        let read = |(): &mut ()| whole_count(user::read(from, &mut target.0));
        self.measure(Measured::PipeRead, Meant::default(), filled, read)?;
        close(from).and(close(to))
    }

    fn disk(&self) -> Failable {
        let disk = open(DISK, vfs::O_RDONLY)?;
        let mut target = Page([0; BYTES]);
        self.repeated(Measured::BlockRead, || whole_count(user::pread(disk, &mut target.0, 0)))?;
        close(disk)
    }
}

/// Prints a sample for the host.
fn print(what: Measured, counts: &Counts, disturbed: bool) {
    let mut line = format!("@cost {{\"id\":{},\"disturbed\":{disturbed}", what as u32);
    for ((_, name), count) in COUNTED.iter().zip(&counts.0) {
        line.push_str(&format!(",\"{name}\":{count}"));
    }
    println!("{line}}}");
}

/// A transfer that had to be of a whole page.
fn whole(moved: u64) -> Result<()> {
    if moved == PAGE { Ok(()) } else { Err(Errno::EIO) }
}

fn whole_count(moved: Result<usize>) -> Result<()> {
    moved.and_then(|moved| if moved == BYTES { Ok(()) } else { Err(Errno::EIO) })
}

/// Reads a byte of every page.
fn look_at(mapping: &Mapping) {
    let sum = mapping.bytes().iter().step_by(BYTES).fold(0u8, |sum, byte| sum ^ byte);
    core::hint::black_box(sum);
}

fn open(path: &str, flags: u32) -> Failable<Descriptor> {
    user::open(path, flags, 0o644).doing(path)
}

fn close(descriptor: Descriptor) -> Failable {
    user::close(descriptor).doing("close")
}
