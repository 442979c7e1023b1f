//! Images are judged by the host's checker and read back with the library, and nothing is left of a failure.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use refault_minixfs::{Access, FileKind, MemoryStore, ROOT_INODE, Superblock, Volume};

use super::*;
use refault_abi::pattern;

type Memory = Volume<MemoryStore>;

fn open(path: &Path) -> Memory {
    let bytes = fs::read(path).unwrap();
    let superblock = Superblock::parse(&bytes[1024..], bytes.len() as u64).unwrap();
    Volume::mount(MemoryStore::new(bytes, 1024), superblock, Access::ReadOnly).unwrap()
}

fn read(volume: &mut Memory, path: &str) -> Vec<u8> {
    use refault_minixfs::BlockStore as _;
    let inode = walk(volume, path);
    let length = volume.inode(inode).unwrap().size as usize;
    let mut data = Vec::new();
    for block in 0..length.div_ceil(1024) {
        let zone = volume.map(inode, block as u32).unwrap().expect("no holes are made");
        data.extend_from_slice(volume.store_mut().block(zone).unwrap());
    }
    assert!(data[length..].iter().all(|&byte| byte == 0), "behind the end of {path}");
    data.truncate(length);
    data
}

fn walk(volume: &mut Memory, path: &str) -> u32 {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.fold(ROOT_INODE, |directory, name| volume.lookup(directory, name.as_bytes()).unwrap())
}

fn fsck(path: &Path) {
    let program =
        ["/usr/sbin/fsck.minix", "/sbin/fsck.minix"].iter().find(|program| Path::new(program).exists());
    let Some(program) = program else {
        eprintln!("SKIPPED: fsck.minix is not installed, so nothing but refault itself judged the image");
        return;
    };
    let output = Command::new(program).arg("-f").arg(path).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let complains = said.lines().any(|line| !line.trim().is_empty() && !line.starts_with("Forcing"));
    assert!(output.status.success() && !complains, "fsck.minix says:\n{said}");
}

/// Everything in the directory an image is made in: a failure must leave it as it was.
fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn the_demo_disk_is_right_and_always_the_same() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("demo.img");
    let summary = make_demo_image(&image, false).unwrap();
    assert_eq!((summary.files, summary.directories, summary.links), (8, 4, 2));
    assert_eq!(summary.bytes, fs::metadata(&image).unwrap().len());
    fsck(&image);

    let mut volume = open(&image);
    for (name, id, length) in
        [("a.bin", pattern::FILE_A, 200 << 10), ("b.bin", pattern::FILE_B, (1200 << 10) + 333)]
    {
        let data = read(&mut volume, name);
        assert_eq!(data.len(), length);
        assert_eq!(pattern::matching_prefix(id, 0, &data), length, "{name}");
    }
    for path in ["/hello.txt", "/b.bin", "/dir/nested/deeper/deepest.txt", "/empty"] {
        assert!(Some(read(&mut volume, path)) == demo_file(path), "{path}");
    }
    assert_eq!((demo_file("/dir"), demo_file("/greeting"), demo_file("/hello.txt/x")), (None, None, None));
    let link = walk(&mut volume, "/greeting");
    let mut target = [0; 20];
    assert_eq!(volume.readlink(link, &mut target), Ok(9));
    assert_eq!(&target[..9], b"hello.txt");

    let again = place.path().join("again.img");
    make_demo_image(&again, false).unwrap();
    assert!(fs::read(&image).unwrap() == fs::read(&again).unwrap(), "two demo disks differ");
}

#[test]
fn a_directory_is_copied_with_modes_and_dates() {
    let place = tempfile::tempdir().unwrap();
    let from = place.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    let big: Vec<u8> = (0..700_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    fs::write(from.join("sub/big"), &big).unwrap();
    fs::write(from.join(format!("{:0<60}", "longest")), b"x").unwrap();
    symlink("sub/big", from.join("link")).unwrap();
    fs::set_permissions(from.join("sub/big"), fs::Permissions::from_mode(0o4750)).unwrap();
    let date = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    for file in ["sub/big", "sub"] {
        let times = fs::FileTimes::new().set_modified(date);
        fs::File::open(from.join(file)).unwrap().set_times(times).unwrap();
    }

    let image = place.path().join("image");
    let options = Options { from: Some(from), ..Options::default() };
    let summary = make_image(&image, &options).unwrap();
    assert_eq!((summary.files, summary.directories, summary.links), (2, 2, 1));
    assert_eq!(summary.data_bytes, 700_001);
    assert!(summary.free_bytes >= 1 << 20);
    fsck(&image);
    let mut volume = open(&image);
    assert!(read(&mut volume, "sub/big") == big);
    let number = walk(&mut volume, "sub/big");
    let inode = volume.inode(number).unwrap();
    assert_eq!((inode.permissions, inode.modified), (0o4750, 1_234_567_890));
    let number = walk(&mut volume, "sub");
    assert_eq!(volume.inode(number).unwrap().modified, 1_234_567_890);
    let number = walk(&mut volume, "sub/empty");
    assert_eq!(volume.inode(number).unwrap().kind, FileKind::Directory);
}

#[test]
fn sizes_hold_exactly_what_they_say() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    let make = |root: &Node, size| make_image_of(&image, root, size, true);
    let empty = Node::directory("", Vec::new());
    for size in [10 << 10, 64 << 10, 1_474_560, (3 << 20) + 511] {
        let summary = make(&empty, Some(size)).unwrap();
        assert_eq!(summary.bytes, size / 1024 * 1024);
        fsck(&image);
    }
    // Contents right at each border of the zone tree; the size named in the error is one that works.
    for blocks in [7u64, 8, 263, 264, 519, 520] {
        let root = Node::directory("", vec![Node::pattern("f", 9, blocks * 1024)]);
        let Err(MkfsError::TooSmall { needed, .. }) = make(&root, Some(10 << 10)) else {
            panic!("10 KiB suffice?")
        };
        let summary = make(&root, Some(needed)).unwrap();
        assert_eq!(summary.data_bytes, blocks * 1024);
        fsck(&image);
        make(&root, None).unwrap();
        fsck(&image);
    }
    // Many small files: inodes, not blocks, are what runs out first.
    let many = (0..3000).map(|n| Node::file(&format!("file{n}"), "")).collect();
    let root = Node::directory("", many);
    let summary = make(&root, None).unwrap();
    assert!(summary.inodes >= 3001);
    fsck(&image);
    let Err(MkfsError::TooSmall { needed, .. }) = make(&root, Some(64 << 10)) else {
        panic!("64 KiB suffice?")
    };
    make(&root, Some(needed)).unwrap();
    fsck(&image);
}

#[test]
fn large_images_are_sparse_and_valid() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    // Beyond 3 GiB the usual number of inodes no longer fits the format and is cut.
    let summary = make_image(&image, &Options { size: Some(5 << 30), ..Options::default() }).unwrap();
    assert_eq!(summary.bytes, 5 << 30);
    assert!(summary.inodes > 1_000_000 / 2);
    fsck(&image);
    let too_large = make_image(&image, &Options { size: Some(1 << 40), force: true, ..Options::default() });
    assert!(matches!(too_large, Err(MkfsError::TooLarge { .. })));
}

#[test]
fn nothing_is_overwritten_unasked() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    fs::write(&image, "precious").unwrap();
    let error = make_image(&image, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(fs::read(&image).unwrap(), b"precious");
    assert_eq!(names(place.path()), std::slice::from_ref(&image));
    make_image(&image, &Options { force: true, ..Options::default() }).unwrap();
    assert_eq!(fs::metadata(&image).unwrap().len(), DEFAULT_SIZE);
    // An empty file may be replaced: that is what `mktemp` leaves.
    fs::write(&image, "").unwrap();
    make_image(&image, &Options::default()).unwrap();
    let directory = make_image(place.path(), &Options { force: true, ..Options::default() });
    assert!(matches!(directory, Err(MkfsError::NotAFile { .. })));
    assert_eq!(names(place.path()), [image]);
}

#[test]
fn what_cannot_be_copied_is_named() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    let refusal = |prepare: &dyn Fn(&Path)| {
        let from = tempfile::tempdir().unwrap();
        prepare(from.path());
        let error = make_image(&image, &Options { from: Some(from.path().into()), ..Options::default() });
        assert!(!image.exists());
        assert!(names(place.path()).is_empty(), "a failed run left something behind");
        error.unwrap_err()
    };
    let long = "n".repeat(61);
    let error = refusal(&|from| fs::write(from.join(&long), "").unwrap());
    assert!(matches!(error, MkfsError::NameTooLong { length: 61, .. }) && error.to_string().contains(&long));
    let error = refusal(&|from| {
        std::os::unix::net::UnixListener::bind(from.join("sock")).unwrap();
    });
    assert!(error.to_string().contains("a socket"), "{error}");
    let error = refusal(&|from| {
        fs::File::create(from.join("huge")).unwrap().set_len(1 << 31).unwrap();
    });
    assert!(matches!(error, MkfsError::FileTooLarge { bytes: 0x8000_0000, .. }), "{error}");
    let error = refusal(&|from| symlink("t".repeat(1024), from.join("link")).unwrap());
    assert!(matches!(error, MkfsError::TargetTooLong { length: 1024, .. }), "{error}");

    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let not_a_directory = make_image(&image, &Options { from: Some(file), ..Options::default() });
    assert!(matches!(not_a_directory, Err(MkfsError::NotADirectory { .. })));
    let missing =
        make_image(&image, &Options { from: Some(place.path().join("none")), ..Options::default() });
    assert!(missing.unwrap_err().to_string().contains("No such file"));
    let nowhere = make_image(&place.path().join("no/such/image"), &Options::default()).unwrap_err();
    assert!(nowhere.to_string().starts_with("cannot create a file in"), "{nowhere}");
    let tiny = make_image(&image, &Options { size: Some(5000), ..Options::default() });
    assert!(matches!(tiny, Err(MkfsError::TooSmall { given: 5000, needed: 10_240 })), "{tiny:?}");
}
