//! The programs on real disks: what the guest reads is what the host wrote, and the other way round.

mod common;

use std::io::Read as _;
use std::process::{Child, Command, ExitCode, Stdio};

use common::command::{Guest, REFAULT, collect, refault, run};
use common::disk::Image;
use common::{Need, Suite, tool};
use refault::mkfs::demo_file;

/// The regular files of the demo disk that hold bytes.
const FILES: [&str; 8] = [
    "/hello.txt",
    "/a.bin",
    "/b.bin",
    "/empty",
    "/etc/motd",
    "/dir/numbers.txt",
    "/dir/nested/deep.txt",
    "/dir/nested/deeper/deepest.txt",
];

fn main() -> ExitCode {
    let mut suite = Suite::new("programs");
    suite.kvm("cat_prints_what_the_host_wrote", cat_prints_what_the_host_wrote);
    suite.kvm("cat_goes_on_after_a_file_that_is_not_there", cat_goes_on_after_a_file_that_is_not_there);
    suite.kvm("sum_computes_what_the_host_computes", sum_computes_what_the_host_computes);
    suite.kvm("ls_lists_what_the_host_wrote", ls_lists_what_the_host_wrote);
    suite.kvm("echo_prints_its_words", echo_prints_its_words);
    suite.kvm("without_a_disk_there_is_the_demos", without_a_disk_there_is_the_demos);
    suite.kvm("cp_writes_what_the_host_reads", cp_writes_what_the_host_reads);
    suite.kvm("cp_overwrites_and_copies_into_directories", cp_overwrites_and_copies_into_directories);
    suite.kvm("cp_of_a_file_to_itself_is_refused", cp_of_a_file_to_itself_is_refused);
    suite.kvm("cp_on_a_full_disk_fails_and_harms_nothing", cp_on_a_full_disk_fails_and_harms_nothing);
    suite.kvm("a_read_only_disk_stays_as_it_is", a_read_only_disk_stays_as_it_is);
    for engine in ["threads", "uring"] {
        suite.kvm(format!("engine::{engine}"), move || engine_reads_and_writes(engine));
    }
    suite.kvm("disks_with_names", disks_with_names);
    suite.kvm("two_writers_are_refused_and_readers_share", two_writers_are_refused_and_readers_share);
    suite.test(
        "an_image_of_the_hosts_mkfs",
        &[Need::Kvm, Need::Tool("mkfs.minix")],
        an_image_of_the_hosts_mkfs,
    );
    suite.kvm("a_large_directory", a_large_directory);
    suite.kvm("a_file_beyond_its_double_indirect_zone", a_file_beyond_its_double_indirect_zone);
    suite.kvm("names_up_to_the_limit", names_up_to_the_limit);
    suite.kvm("several_processors", several_processors);
    suite.kvm("the_console_may_be_slow_or_gone", the_console_may_be_slow_or_gone);
    suite.run()
}

/// A program on an image, which must succeed and say nothing but its output.
fn output(image: &Image, program: &[&str]) -> String {
    let said = Guest::program(program.iter().copied()).disk(image.path()).say();
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{program:?}: {}", said.out);
    said.out
}

fn text(path: &str) -> String {
    String::from_utf8(demo_file(path).unwrap()).unwrap()
}

/// FNV-1a over 64 bits (draft-eastlake-fnv), computed here.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |state: u64, byte: &u8| (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A line of `sum`.
fn sum_line(path: &str, bytes: &[u8]) -> String {
    format!("{:016x} {:>10} {path}\n", fnv1a(bytes), bytes.len())
}

fn cat_prints_what_the_host_wrote() {
    let image = Image::demo();
    let paths = ["/hello.txt", "/empty", "/etc/motd", "/dir/numbers.txt", "/dir/nested/deep.txt"];
    let expected: String = paths.iter().map(|path| text(path)).collect();
    assert_eq!(output(&image, &[&["cat"], paths.as_slice()].concat()), expected);
    // By links, relative to a directory, and with more in the path than there need be.
    let expected = text("/hello.txt");
    for path in ["/greeting", "/dir/nested/up", "hello.txt", "//dir/./nested/../../hello.txt"] {
        assert_eq!(output(&image, &["cat", path]), expected, "{path}");
    }
    image.assert_unchanged();
}

fn cat_goes_on_after_a_file_that_is_not_there() {
    let image = Image::demo();
    let said =
        Guest::program(["cat", "/no-such", "/etc", "/hello.txt/x", "/hello.txt"]).disk(image.path()).say();
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("/no-such: no such file or directory (ENOENT)"), "{}", said.out);
    assert!(said.out.contains("/etc: is a directory (EISDIR)"), "{}", said.out);
    assert!(said.out.contains("/hello.txt/x: not a directory (ENOTDIR)"), "{}", said.out);
    assert!(said.out.ends_with(&text("/hello.txt")), "{}", said.out);
}

fn sum_computes_what_the_host_computes() {
    let image = Image::demo();
    let expected: String = FILES.iter().map(|path| sum_line(path, &demo_file(path).unwrap())).collect();
    assert_eq!(output(&image, &[&["sum"], FILES.as_slice()].concat()), expected);
    image.assert_unchanged();
}

fn ls_lists_what_the_host_wrote() {
    let image = Image::demo();
    let names = "..\n.\na.bin\nb.bin\ndir\nempty\netc\ngreeting\nhello.txt\n";
    let listed = output(&image, &["ls", "/"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&listed), sorted(names));
    let long = output(&image, &["ls", "-l", "/"]);
    for path in FILES.iter().filter(|path| path.matches('/').count() == 1) {
        let size = demo_file(path).unwrap().len().to_string();
        let line = long.lines().find(|line| line.ends_with(&path.replace('/', " ")) && !line.contains("->"));
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[0], words[1], words[4]), ("-rw-r--r--", "1", size.as_str()), "{line}");
    }
    assert!(long.lines().any(|line| line.starts_with("lrwx") && line.ends_with("greeting -> hello.txt")));
    assert!(long.lines().any(|line| line.starts_with("drwxr-xr-x") && line.ends_with(" dir")));
    let missing = Guest::program(["ls", "/no-such", "/etc"]).disk(image.path()).say();
    assert_eq!(missing.code, Some(1));
    assert!(missing.out.contains("ls: /no-such: no such file") && missing.out.contains("\nmotd\n"));
    image.assert_unchanged();
}

fn echo_prints_its_words() {
    let image = Image::demo();
    assert_eq!(output(&image, &["echo"]), "\n");
    assert_eq!(output(&image, &["echo", "one", "--two", "=3", "schön"]), "one --two =3 schön\n");
    image.assert_unchanged();
}

fn without_a_disk_there_is_the_demos() {
    let said = Guest::program(["sum", "/b.bin"]).say();
    assert_eq!((said.code, said.out), (Some(0), sum_line("/b.bin", &demo_file("/b.bin").unwrap())));
}

fn cp_writes_what_the_host_reads() {
    // Into the direct, the indirect and the double indirect zones.
    for path in ["/empty", "/hello.txt", "/dir/numbers.txt", "/b.bin"] {
        let image = Image::demo_of_size(8 << 20);
        assert_eq!(output(&image, &["cp", path, "/copy"]), "");
        assert_eq!(image.read("/copy"), demo_file(path), "{path}");
        for other in FILES {
            assert_eq!(image.read(other), demo_file(other), "{other} after a copy of {path}");
        }
        image.assert_sound();
        // And the guest itself, in another life.
        assert_eq!(output(&image, &["sum", "/copy"]), sum_line("/copy", &demo_file(path).unwrap()));
    }
}

fn cp_overwrites_and_copies_into_directories() {
    let image = Image::demo_of_size(8 << 20);
    // Longer over shorter, shorter over longer, and into a directory under its own name.
    output(&image, &["cp", "/dir/numbers.txt", "/hello.txt"]);
    assert_eq!(image.read("/hello.txt"), demo_file("/dir/numbers.txt"));
    output(&image, &["cp", "/etc/motd", "/b.bin"]);
    assert_eq!(image.read("/b.bin"), demo_file("/etc/motd"));
    output(&image, &["cp", "/a.bin", "/dir/nested"]);
    assert_eq!(image.read("/dir/nested/a.bin"), demo_file("/a.bin"));
    // Through a link: to the file that it names.
    output(&image, &["cp", "/etc/motd", "/dir/nested/up"]);
    assert_eq!(image.read("/hello.txt"), demo_file("/etc/motd"));
    image.assert_sound();
}

fn cp_of_a_file_to_itself_is_refused() {
    let image = Image::demo();
    for target in ["/hello.txt", "/greeting", "/"] {
        let said = Guest::program(["cp", "/hello.txt", target]).disk(image.path()).say();
        assert_eq!(said.code, Some(1), "{target}: {}", said.out);
        assert!(said.out.contains("file exists (EEXIST)"), "{}", said.out);
    }
    assert_eq!(image.read("/hello.txt"), demo_file("/hello.txt"));
    image.assert_sound();
}

fn cp_on_a_full_disk_fails_and_harms_nothing() {
    let image = Image::demo();
    let said = Guest::program(["cp", "/b.bin", "/one"]).disk(image.path()).say();
    assert_eq!(said.code, Some(0), "{}", said.out);
    let said = Guest::program(["cp", "/b.bin", "/two"]).disk(image.path()).say();
    assert_eq!(said.code, Some(1), "{}", said.out);
    assert!(said.out.contains("cp: /two: no space left on device (ENOSPC)"), "{}", said.out);
    assert_eq!(image.read("/one"), demo_file("/b.bin"));
    let part = image.read("/two").unwrap();
    assert_eq!(part, demo_file("/b.bin").unwrap()[..part.len()]);
    for path in FILES {
        assert_eq!(image.read(path), demo_file(path), "{path}");
    }
    image.assert_sound();
}

fn a_read_only_disk_stays_as_it_is() {
    let image = Image::demo();
    for target in ["/new", "/hello.txt", "/etc"] {
        let said = Guest::program(["cp", "/a.bin", target]).disk_with(image.path(), ",readonly=on").say();
        assert_eq!(said.code, Some(1), "{}", said.out);
        assert!(said.out.contains("read-only file system (EROFS)"), "{target}: {}", said.out);
        image.assert_unchanged();
    }
    let said = Guest::program(["cat", "/hello.txt"]).disk_with(image.path(), ",readonly=on").say();
    assert_eq!((said.code, said.out), (Some(0), text("/hello.txt")));
    image.assert_unchanged();
}

fn engine_reads_and_writes(engine: &'static str) {
    let image = Image::demo_of_size(8 << 20);
    let option = format!(",engine={engine}");
    let guest = Guest::program(["cp", "/b.bin", "/copy"]).disk_with(image.path(), &option);
    if engine == "uring" {
        let said = guest.say();
        if said.code == Some(162) && said.err.contains("io_uring") {
            // A host where it is switched off says so, which is all that can be asked.
            assert!(said.err.contains("engine=threads"), "{}", said.err);
            image.assert_unchanged();
            return;
        }
    }
    let ran = guest.run();
    ran.assert_code(0);
    let disk = &ran.document["stats"]["disks"][0];
    assert_eq!((&disk["engine"], &disk["errors"]), (&engine.into(), &0.into()));
    assert!(disk["bytes_written"].as_u64() >= Some(demo_file("/b.bin").unwrap().len() as u64), "{disk}");
    assert_eq!(image.read("/copy"), demo_file("/b.bin"));
    image.assert_sound();
}

fn disks_with_names() {
    let (first, second) = (Image::demo(), Image::of(vec![0; 4096]));
    let ran = Guest::program(["cat", "/hello.txt"])
        .disk_with(first.path(), ",serial=FIRST")
        .disk_with(second.path(), ",serial=a-name-of-20-letters,readonly=on")
        .run();
    ran.assert_code(0);
    assert!(ran.said.out.ends_with(&text("/hello.txt")), "{}", ran.said.out);
    assert_eq!(ran.document["stats"]["disks"].as_array().unwrap().len(), 2);
    second.assert_unchanged();
}

/// A machine that has the image, says so, and lives until it is killed: nothing in it ever ends.
fn holder(image: &Image, options: &str) -> Child {
    let kernel = image.directory().join("endless");
    // mov $0x3f8, %dx; mov $'r', %al; out %al, %dx; jmp . (32-bit code, as PVH enters a kernel).
    let code = [0x66, 0xba, 0xf8, 0x03, 0xb0, b'r', 0xee, 0xeb, 0xfe];
    std::fs::write(&kernel, refault::micro::elf(&code, 0x10_0000, 0x10_0000)).unwrap();
    let mut command = Command::new(REFAULT);
    command.args(["run", "--timeout", "280s", "--kernel"]).arg(&kernel);
    command.arg("--disk").arg(format!("{}{options}", image.path().display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Its first letter comes after the image was locked; should it end instead, so does its output.
    let mut letter = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut letter).unwrap();
    child
}

fn two_writers_are_refused_and_readers_share() {
    let image = Image::demo();
    let said = |options| Guest::program(["cat", "/hello.txt"]).disk_with(image.path(), options).say();

    let mut writer = holder(&image, "");
    for options in ["", ",readonly=on"] {
        let refused = said(options);
        assert_eq!(refused.code, Some(162), "{}", refused.all());
        let name = image.path().display().to_string();
        assert!(refused.err.contains(&name) && refused.err.contains("another machine"), "{}", refused.err);
        assert!(refused.err.contains("readonly=on"), "{}", refused.err);
    }
    writer.kill().unwrap();
    collect(writer, "the writer");

    let mut reader = holder(&image, ",readonly=on");
    let shared = said(",readonly=on");
    assert_eq!((shared.code, shared.out), (Some(0), text("/hello.txt")), "{}", shared.err);
    let refused = said("");
    assert_eq!(refused.code, Some(162), "{}", refused.all());
    assert!(refused.err.contains("in use by another machine"), "{}", refused.err);
    reader.kill().unwrap();
    collect(reader, "the reader");

    // The lock goes with the process, however that ended.
    let alone = said("");
    assert_eq!((alone.code, alone.out), (Some(0), text("/hello.txt")), "{}", alone.err);
}

fn an_image_of_the_hosts_mkfs() {
    let image = Image::of(vec![0; 4 << 20]);
    let mut mkfs = Command::new(tool("mkfs.minix").unwrap());
    mkfs.arg("-3").arg(image.path());
    assert_eq!(run(mkfs, b"").code, Some(0));
    assert_eq!(output(&image, &["ls", "/"]), ".\n..\n");
    let contents = demo_file("/dir/numbers.txt").unwrap();
    image.add("/seed", &contents);
    image.assert_sound();
    output(&image, &["cp", "/seed", "/copy"]);
    assert_eq!(output(&image, &["ls", "/"]), ".\n..\ncopy\nseed\n");
    assert_eq!(image.read("/copy"), Some(contents));
    image.assert_sound();
    let said = Guest::program(["cp", "/nothing", "/x"]).disk(image.path()).say();
    assert_eq!(said.code, Some(1));
    assert_eq!(image.read("/x"), None, "a copy of nothing has left something");
    image.assert_sound();
}

/// An image made by `refault mkfs --from` of a directory that `fill` has filled.
fn image_from(fill: impl FnOnce(&std::path::Path), more: &[&str]) -> Image {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to.img"));
    std::fs::create_dir(&from).unwrap();
    fill(&from);
    let mut arguments =
        vec!["mkfs".into(), to.clone().into_os_string(), "--from".into(), from.into_os_string()];
    arguments.extend(more.iter().map(Into::into));
    let said = refault(arguments);
    assert_eq!(said.code, Some(0), "{}", said.all());
    let image = Image::of(std::fs::read(to).unwrap());
    image.assert_sound();
    image
}

fn a_large_directory() {
    const COUNT: usize = 300;
    let name = |n: usize| format!("file-number-{n:05}");
    let image = image_from(
        |from| {
            for n in 0..COUNT {
                std::fs::write(from.join(name(n)), format!("{n}\n")).unwrap();
            }
        },
        &["--size", "8M"],
    );
    let listed = output(&image, &["ls", "/"]);
    let expected: Vec<String> =
        [".".to_owned(), "..".to_owned()].into_iter().chain((0..COUNT).map(name)).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    assert_eq!(output(&image, &["cat", &format!("/{}", name(COUNT - 1))]), format!("{}\n", COUNT - 1));
    image.assert_unchanged();
    // One more entry, at the end of a directory that reaches its indirect zone.
    output(&image, &["cp", &format!("/{}", name(7)), "/zz-new"]);
    assert_eq!(image.read("/zz-new").as_deref(), Some(b"7\n".as_slice()));
    image.assert_sound();
}

/// Seven direct zones, 256 through the indirect one, 65,536 through the double indirect one, and then some, with
/// holes: the file is large but the image is not.
fn a_file_beyond_its_double_indirect_zone() {
    use refault_abi::pattern::{FILE_A, FILE_B, fill};
    let piece = |id, offset: u64| {
        let mut bytes = vec![0; 3_000];
        fill(id, offset, &mut bytes);
        bytes
    };
    // Around the borders of 7, 263 and 263 + 256 blocks, and a megabyte further on.
    let places = [6_000_u64, 268_000, 530_000, 1_600_000];
    let whole = {
        let mut whole = vec![0; 1_600_000 + 3_000];
        for place in places {
            let bytes = piece(FILE_B, place);
            whole[place as usize..place as usize + bytes.len()].copy_from_slice(&bytes);
        }
        whole
    };
    let contents = whole.clone();
    let image = image_from(
        move |from| {
            std::fs::write(from.join("large"), contents).unwrap();
            std::fs::write(from.join("small"), piece(FILE_A, 0)).unwrap();
        },
        &["--size", "8M"],
    );
    assert_eq!(output(&image, &["sum", "/large"]), sum_line("/large", &whole));
    output(&image, &["cp", "/large", "/copy"]);
    assert_eq!(image.read("/copy"), Some(whole));
    image.assert_sound();
}

fn names_up_to_the_limit() {
    // 60 bytes, 30 letters.
    let name = "ä".repeat(30);
    let file = name.clone();
    let image = image_from(|from| std::fs::write(from.join(file), "here\n").unwrap(), &["--size", "1M"]);
    assert_eq!(output(&image, &["cat", &format!("/{name}")]), "here\n");
    assert_eq!(output(&image, &["ls", "/"]), format!(".\n..\n{name}\n"));
    let longer = format!("/{name}x");
    let said = Guest::program(["cp", &format!("/{name}"), &longer]).disk(image.path()).say();
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("ENAMETOOLONG"), "{}", said.out);
    image.assert_sound();
}

fn several_processors() {
    let image = Image::demo();
    let expected = sum_line("/b.bin", &demo_file("/b.bin").unwrap());
    let said = Guest::program(["sum", "/b.bin"]).disk(image.path()).option("--cpus", "4").say();
    assert_eq!((said.code, said.out), (Some(0), expected), "{}", said.err);
}

/// Output that nobody takes must not hold up the guest.
fn the_console_may_be_slow_or_gone() {
    let image = Image::demo();
    let mut command = Command::new(REFAULT);
    command.args(["run", "--timeout", "240s", "--disk"]).arg(image.path()).args([
        "--",
        "cat",
        "/dir/numbers.txt",
    ]);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::from(full()));
    let said = collect(command.spawn().unwrap(), "a guest whose output cannot be written");
    assert_eq!(said.code, Some(0), "{}", said.err);
    image.assert_unchanged();
}

/// A file that takes nothing.
fn full() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/full").unwrap()
}
