//! Names: creating, linking, renaming, removing, directories, symbolic links, two file systems.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use refault_abi::Errno;
use refault_abi::vfs::{O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC};
use refault_rt::user;

use super::{bytes, contents, fresh, settle};
use crate::check::suite::{Explain, Suite, expect, expect_error};

/// All of them.
pub fn run(suite: &mut Suite) {
    suite.check("names.create", |_| {
        let file = user::open("/new", O_RDWR | O_CREAT | O_EXCL, 0o640).explain("creating")?;
        let exists = user::open("/new", O_RDWR | O_CREAT | O_EXCL, 0o640);
        expect_error("creating what exists", exists, Errno::EEXIST)?;
        expect("its mode", user::fstat(file).explain("fstat")?.mode & 0o170777, 0o100640)?;
        expect("bytes", user::write(file, b"some").explain("write")?, 4)?;
        let again = user::open("/new", O_RDWR | O_TRUNC, 0).explain("truncating")?;
        expect("its size", user::fstat(file).explain("fstat")?.size, 0)?;
        user::close(again).explain("close")?;
        user::close(file).explain("close")?;
        user::unlink("/new").explain("unlink")?;
        expect_error("what is gone", user::stat("/new"), Errno::ENOENT)?;
        let long = format!("/{}", "n".repeat(61));
        let too_long = user::open(&long, O_RDWR | O_CREAT, 0o644);
        expect_error("a name of 61 bytes", too_long, Errno::ENAMETOOLONG)?;
        expect_error("below a file", user::stat("/hello.txt/x"), Errno::ENOTDIR)
    });
    suite.check("names.links", |_| {
        let file = fresh("/one", 0)?;
        expect("bytes", user::write(file, b"shared").explain("write")?, 6)?;
        user::link("/one", "/two").explain("link")?;
        expect("links", user::fstat(file).explain("fstat")?.links, 2)?;
        expect_error("a link that exists", user::link("/one", "/two"), Errno::EEXIST)?;
        user::unlink("/one").explain("unlink")?;
        expect("links", user::stat("/two").explain("stat")?.links, 1)?;
        user::unlink("/two").explain("unlink")?;
        // Without a name, but not without its bytes.
        expect("links", user::fstat(file).explain("fstat")?.links, 0)?;
        expect("its bytes", contents(file)?, Vec::from(*b"shared"))?;
        user::close(file).explain("close")
    });
    let outcome = rename(suite);
    suite.check("names.rename", |_| outcome);
    suite.check("names.directories", |_| directories());
    suite.check("names.symlinks", |_| symlinks());
    suite.check("names.many", |_| many());
}

fn rename(suite: &mut Suite) -> Result<(), String> {
    let (one, two) = (bytes(11, 0, 5000), bytes(12, 0, 100));
    for (path, data) in [("/from", &one), ("/to", &two)] {
        let file = fresh(path, 0)?;
        expect("bytes", user::write(file, data).explain("write")?, data.len())?;
        user::close(file).explain("close")?;
    }
    let old = user::open("/to", O_RDONLY, 0).explain("open")?;
    user::rename("/from", "/to").explain("rename over a file")?;
    expect_error("the old name", user::stat("/from"), Errno::ENOENT)?;
    expect("the file that was there", contents(old)?, two)?;
    user::close(old).explain("close")?;
    user::mkdir("/d1", 0o755).explain("mkdir")?;
    user::mkdir("/d1/inner", 0o755).explain("mkdir")?;
    user::mkdir("/d2", 0o755).explain("mkdir")?;
    user::rename("/to", "/d1/inner/moved").explain("rename into a directory")?;
    user::rename("/d1/inner", "/d2/outer").explain("rename of a directory to another")?;
    expect("links of the old parent", user::stat("/d1").explain("stat")?.links, 2)?;
    expect("links of the new parent", user::stat("/d2").explain("stat")?.links, 3)?;
    let up = user::stat("/d2/outer/..").explain("stat")?.inode;
    expect("the way up", up, user::stat("/d2").explain("stat")?.inode)?;
    let into_itself = user::rename("/d2", "/d2/outer/x");
    expect_error("a directory into itself", into_itself, Errno::EINVAL)?;
    let onto_full = user::rename("/d1", "/d2");
    expect_error("onto a directory that is not empty", onto_full, Errno::ENOTEMPTY)?;
    expect_error("what is not there", user::rename("/from", "/x"), Errno::ENOENT)?;
    settle(suite, "/d2/outer/moved", &one)
}

fn directories() -> Result<(), String> {
    user::mkdir("/m", 0o755).explain("mkdir")?;
    expect_error("again", user::mkdir("/m", 0o755), Errno::EEXIST)?;
    expect("its links", user::stat("/m").explain("stat")?.links, 2)?;
    user::close(fresh("/m/file", 0)?).explain("close")?;
    expect_error("not empty", user::rmdir("/m"), Errno::ENOTEMPTY)?;
    expect_error("no directory", user::rmdir("/m/file"), Errno::ENOTDIR)?;
    expect_error("unlinking a directory", user::unlink("/m"), Errno::EISDIR)
        .or_else(|_| expect_error("unlinking a directory", user::unlink("/m"), Errno::EPERM))?;
    user::chdir("/m").explain("chdir")?;
    user::unlink("file").explain("unlink by a relative path")?;
    user::chdir("/").explain("chdir")?;
    user::rmdir("/m").explain("rmdir")?;
    expect_error("what is gone", user::stat("/m"), Errno::ENOENT)?;
    expect_error("as a directory", user::open("/hello.txt", O_DIRECTORY, 0), Errno::ENOTDIR)
}

fn symlinks() -> Result<(), String> {
    user::symlink("/hello.txt", "/s1").explain("symlink")?;
    user::symlink("s1", "/s2").explain("symlink")?;
    let real = user::stat("/hello.txt").explain("stat")?.inode;
    expect("through two links", user::stat("/s2").explain("stat")?.inode, real)?;
    crate::ensure!(user::lstat("/s2").explain("lstat")?.inode != real, "lstat followed a link");
    user::symlink("/loop2", "/loop1").explain("symlink")?;
    user::symlink("/loop1", "/loop2").explain("symlink")?;
    expect_error("a circle", user::stat("/loop1"), Errno::ELOOP)?;
    user::symlink("/nowhere", "/dangling").explain("symlink")?;
    expect_error("a link to nowhere", user::stat("/dangling"), Errno::ENOENT)?;
    let mut target = [0; 64];
    let count = user::readlink("/dangling", &mut target).explain("readlink")?;
    expect("its target", target.get(..count), Some(b"/nowhere".as_slice()))?;
    expect_error("reading what is no link", user::readlink("/hello.txt", &mut target), Errno::EINVAL)?;
    for path in ["/s1", "/s2", "/loop1", "/loop2", "/dangling"] {
        user::unlink(path).explain(path)?;
    }
    user::stat("/hello.txt").explain("the target of a removed link").map(drop)
}

/// Enough names for several blocks of a directory, every second of which goes again.
fn many() -> Result<(), String> {
    const COUNT: usize = 150;
    user::mkdir("/many", 0o755).explain("mkdir")?;
    let name = |number: usize| format!("/many/entry-number-{number:03}");
    for number in 0..COUNT {
        user::close(fresh(&name(number), 0)?).explain("close")?;
    }
    for number in (0..COUNT).step_by(2) {
        user::unlink(&name(number)).explain("unlink")?;
    }
    let directory = user::open("/many", O_DIRECTORY, 0).explain("open")?;
    let mut names = Vec::new();
    let mut buffer = alloc::vec![0; 700];
    loop {
        let count = user::getdents(directory, &mut buffer).explain("getdents")?;
        let stored = buffer.get(..count).unwrap_or_default();
        if stored.is_empty() {
            break;
        }
        names.extend(user::Entries(stored).map(|(_, name)| String::from(name)));
    }
    user::close(directory).explain("close")?;
    names.retain(|name| name != "." && name != "..");
    names.sort();
    let wanted: Vec<String> = (1..COUNT).step_by(2).map(|n| format!("entry-number-{n:03}")).collect();
    crate::ensure!(names == wanted, "{} names instead of {}", names.len(), wanted.len());
    for name in wanted {
        user::unlink(&format!("/many/{name}")).explain("unlink")?;
    }
    user::rmdir("/many").explain("rmdir")
}

/// A second file system at `/mnt`.
pub fn mounted(suite: &mut Suite) {
    suite.check("names.mounted", |_| {
        let root = user::stat("/").explain("stat")?.device;
        let mnt = user::stat("/mnt").explain("stat")?.device;
        crate::ensure!(root != mnt, "the same device");
        expect(
            "the way up",
            user::stat("/mnt/..").explain("stat")?.inode,
            user::stat("/").explain("stat")?.inode,
        )?;
        expect_error("renaming across", user::rename("/hello.txt", "/mnt/x"), Errno::EXDEV)?;
        expect_error("linking across", user::link("/hello.txt", "/mnt/x"), Errno::EXDEV)?;
        expect_error("removing a mount point", user::rmdir("/mnt"), Errno::EBUSY)?;
        let file = fresh("/mnt/written", 0)?;
        let data = bytes(13, 0, 9999);
        expect("bytes", user::write(file, &data).explain("write")?, data.len())?;
        user::flush_caches().explain("flush")?;
        expect("read back", contents(file)?, data)?;
        user::close(file).explain("close")
    });
}
