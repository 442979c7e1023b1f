//! Bad input, case by case: the exit code, the words that must be in the message (what, where, what to do), and
//! nothing changed.
//!
//! Each case gets a directory of its own. Afterwards everything in it must be as it was, to the byte, and nothing may
//! have been added: neither the image nor anything beside it is touched by a run that is refused.
//!
//! The one thing to hold in mind: a message nobody can act on is a failure, too. So cases name words, not only codes.

#[path = "bad_input/boot.rs"]
mod boot;
mod common;
#[path = "bad_input/file_systems.rs"]
mod file_systems;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use common::command::{Guest, REFAULT, Said, refault, run};
use common::disk::Image;
use common::{Need, Suite};
use refault::guest_image::{BOOT_IMAGE, KERNEL};
use refault::micro;
use refault_abi::layout::KERNEL_END;
use tempfile::TempDir;

/// Exit codes, as documented in `refault run --help`.
mod code {
    pub const USAGE: i32 = 160;
    pub const KERNEL: i32 = 161;
    pub const DISK: i32 = 162;
    pub const RULE: i32 = 163;
    pub const NO_KVM: i32 = 164;
    pub const KVM_PERMISSION: i32 = 165;
    pub const MKFS: i32 = 168;
    pub const OUTPUT: i32 = 169;
    pub const PANIC: i32 = 170;
    pub const CRASH: i32 = 171;
    pub const TIMEOUT: i32 = 172;
}

fn main() -> ExitCode {
    let mut suite = Suite::new("bad_input");
    usage(&mut suite);
    hosts(&mut suite);
    boot::kernels(&mut suite);
    boot::boot_images(&mut suite);
    disks(&mut suite);
    rules(&mut suite);
    file_systems::file_systems(&mut suite);
    guests(&mut suite);
    files_to_write(&mut suite);
    suite.run()
}

/// The directory of a case.
struct Place(TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> OsString {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name).into_os_string()
    }

    /// A good disk.
    fn disk(&self) -> OsString {
        let path = self.path("demo.img");
        refault::mkfs::make_demo_image(&path, false).unwrap();
        path.into_os_string()
    }

    /// Names and contents of everything in it.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn visit(directory: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => visit(&path, found),
                    false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
                }
            }
        }
        let mut found = BTreeMap::new();
        visit(self.0.path(), &mut found);
        found
    }
}

/// A case: `make` prepares its directory and gives the arguments.
fn refused<const N: usize>(
    suite: &mut Suite,
    name: &str,
    needs: &[Need],
    code: i32,
    words: &'static [&'static str],
    make: impl FnOnce(&Place) -> [OsString; N] + Send + 'static,
) {
    suite.test(name, needs, move || {
        let place = Place(tempfile::tempdir().unwrap());
        let arguments = make(&place);
        let before = place.contents();
        let said = refault(arguments.clone());
        judge(&said, code, words);
        assert!(place.contents() == before, "{arguments:?} has changed a file, or made one");
        // What the command itself refuses is said on standard error only, and begins with its name.
        if (code::USAGE..code::OUTPUT).contains(&code) {
            assert_eq!(said.out, "", "{}", said.err);
            assert!(said.err.starts_with("refault: ") || said.err.starts_with("error: "), "{}", said.err);
        }
    });
}

fn judge(said: &Said, code: i32, words: &[&str]) {
    let all = said.all();
    assert_eq!(said.code, Some(code), "{all}");
    for word in words {
        assert!(all.contains(word), "no word of {word:?} in:\n{all}");
    }
    assert!(!all.contains("panicked at"), "{all}");
}

/// `refault run` with an option, and `echo` as the program.
fn option(name: &str, value: impl Into<OsString>) -> [OsString; 5] {
    ["run".into(), name.into(), value.into(), "--".into(), "echo".into()]
}

fn usage(suite: &mut Suite) {
    type Case = (&'static str, &'static [&'static str], &'static [&'static str]);
    let on_any_host: [Case; 11] = [
        ("verb", &["rnu"], &["rnu", "--help"]),
        ("option", &["run", "--dsk", "x"], &["--dsk", "--disk"]),
        ("memory_without_number", &["run", "--mem", "lots"], &["--mem", "lots", "64M"]),
        ("no_processor", &["run", "--cpus", "0"], &["--cpus", "1..=16"]),
        ("seventeen_processors", &["run", "--cpus", "17"], &["--cpus", "1..=16"]),
        ("no_time", &["run", "--timeout", "0"], &["--timeout", "30s"]),
        ("time_without_unit", &["run", "--timeout", "3 parsecs"], &["--timeout", "parsec", "30s"]),
        ("mechanism", &["run", "--mechanism", "magic"], &["magic", "poison", "protnone"]),
        ("terminal_without_input", &["run", "-t", "--", "echo"], &["--interactive"]),
        ("list_and_document", &["test", "--list", "--json", "x"], &["--list", "--json"]),
        ("demo_and_directory", &["mkfs", "x", "--demo", "--from", "y"], &["--demo", "--from"]),
    ];
    for (name, arguments, words) in on_any_host {
        refused_words(suite, &format!("usage::{name}"), &[], arguments, words);
    }
    let with_machines: [Case; 9] = [
        ("little_memory", &["run", "--mem", "1000", "--", "echo"], &["1000", "2097152", "--mem", "64M"]),
        ("odd_memory", &["run", "--mem", "5000000", "--", "echo"], &["5000000", "multiple of 4096", "--mem"]),
        ("more_memory_than_there_is", &["run", "--mem", "100T", "--", "echo"], &["109951162777600", "--mem"]),
        ("little_memory_for_the_demo", &["run", "--mem", "1000"], &["1000", "--mem"]),
        ("argument_with_space", &["run", "--", "echo", "a b"], &["\"a b\"", "white space"]),
        ("empty_argument", &["run", "--", "echo", ""], &["\"\"", "empty"]),
        (
            "retry",
            &["run", "--cmdline", "retry=foo", "--", "echo"],
            &["retry=foo", "efault, mark or hardened"],
        ),
        (
            "fs",
            &["run", "--cmdline", "fs=half", "--", "echo"],
            &["fs=half", "whole, partial, swallow, restart or efault"],
        ),
        ("copylock", &["run", "--cmdline", "copylock=?", "--", "echo"], &["copylock=?", "held or dropped"]),
    ];
    for (name, arguments, words) in with_machines {
        refused_words(suite, &format!("usage::{name}"), &[Need::Kvm], arguments, words);
    }
}

fn refused_words(
    suite: &mut Suite,
    name: &str,
    needs: &[Need],
    arguments: &'static [&'static str],
    words: &'static [&'static str],
) {
    suite.test(name, needs, move || {
        let said = refault(arguments.iter().copied());
        judge(&said, code::USAGE, words);
        assert_eq!(said.out, "");
    });
}

/// `refault` in a name space of its own, after `prepare` has changed what it sees.
fn elsewhere(prepare: &str, arguments: &str) -> Said {
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("set -e; {prepare}; exec {REFAULT} {arguments}")]);
    run(command, b"")
}

fn hosts(suite: &mut Suite) {
    if refault::host::open_kvm().is_err() {
        // Elsewhere this is what the cases below are for.
        suite.host("host::without_kvm", || {
            let said = refault(["run", "--", "echo"]);
            assert!((code::NO_KVM..=166).contains(&said.code.unwrap()), "{}", said.all());
            judge(&said, said.code.unwrap(), &["/dev/kvm"]);
            assert_eq!(refault::<&str>([]).code, said.code, "the demo says it, too");
        });
    }
    let tools = [Need::Root, Need::Tool("unshare"), Need::Tool("setpriv")];
    for (name, arguments) in [("program", "run -- echo"), ("demo", "")] {
        suite.test(format!("host::no_such_device::{name}"), &tools, move || {
            let said = elsewhere("mount -t tmpfs none /dev", arguments);
            judge(&said, code::NO_KVM, &["/dev/kvm does not exist", "kvm_intel or kvm_amd", "nested"]);
        });
    }
    suite.test("host::no_permission", &tools, || {
        let place = Place(tempfile::tempdir().unwrap());
        std::fs::set_permissions(place.0.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (device, program) = (place.path("kvm"), place.path("refault"));
        std::fs::write(&device, b"").unwrap();
        std::fs::set_permissions(&device, std::fs::Permissions::from_mode(0o600)).unwrap();
        // The other user may not be able to reach the directory that the program was built in.
        std::fs::copy(REFAULT, &program).unwrap();
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c"]).arg(format!(
            "set -e; test -e /dev/kvm || mount -t tmpfs none /dev; : >> /dev/kvm; mount --bind {} /dev/kvm; \
             exec setpriv --reuid 65534 --regid 65534 --clear-groups {} run -- echo",
            device.display(),
            program.display(),
        ));
        judge(&run(command, b""), code::KVM_PERMISSION, &["/dev/kvm", "usermod -aG kvm"]);
    });
    suite.test("host::another_device", &tools, || {
        let said = elsewhere("mount --bind /dev/null /dev/kvm", "run -- echo");
        judge(&said, 166, &["/dev/kvm", "API version"]);
    });
}

/// Code that ends with status 3.
const THREE: [u8; 11] = [0xb8, 3, 0, 0, 0, 0x66, 0xba, 0xf4, 0, 0xef, 0xf4];

fn disks(suite: &mut Suite) {
    let mut case = |name: &str, words, make: fn(&Place) -> OsString| {
        let name = format!("disk::{name}");
        refused(suite, &name, &[Need::Kvm], code::DISK, words, move |place| option("--disk", make(place)));
    };
    case("missing", &["nowhere.img", "refault mkfs", "--size"], |place| place.path("nowhere.img").into());
    case("directory", &["is a directory", "--from"], |place| place.0.path().into());
    case("empty", &["the.img", "empty", "512"], |place| place.file("the.img", b""));
    case("part_of_a_sector", &["the.img", "1000 bytes", "512", "truncate"], |place| {
        place.file("the.img", &[7; 1000])
    });
    case("device", &["/dev/null", "character device"], |_| "/dev/null".into());
    case("read_only", &["demo.img", "read-only", "readonly=on"], |place| {
        let disk = place.disk();
        std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o444)).unwrap();
        disk
    });
    fn with(place: &Place, more: &str) -> OsString {
        let mut disk = place.disk();
        disk.push(more);
        disk
    }
    case("no_path", &["names no image", "--disk PATH"], |_| ",readonly=on".into());
    case("option", &["\"cache=on\"", "readonly=on|off", "engine=uring|threads"], |place| {
        with(place, ",cache=on")
    });
    case("option_without_value", &["\"ro\"", "readonly=on|off"], |place| with(place, ",ro"));
    case("no_option", &["\"\"", "readonly=on|off"], |place| with(place, ",,readonly=on"));
    case("value", &["readonly=\"yes\"", "readonly=on"], |place| with(place, ",readonly=yes"));
    case("engine", &["\"aio\"", "engine=threads"], |place| with(place, ",engine=aio"));
    case("long_serial", &["1 to 20", "aaaaaaaaaabbbbbbbbbbc"], |place| {
        with(place, ",serial=aaaaaaaaaabbbbbbbbbbc")
    });
    case("twice", &["\"readonly\"", "twice"], |place| with(place, ",readonly=on,readonly=on"));
    case("locked", &["demo.img", "another machine", "readonly=on"], |place| {
        let disk = place.disk();
        let held = refault_devices::virtio::blk::image::Image::open(Path::new(&disk), false).unwrap();
        // Until the end of this process.
        std::mem::forget(held);
        disk
    });
    let needs = [Need::Kvm, Need::Root, Need::Tool("setpriv")];
    suite.test("disk::no_permission", &needs, || {
        let place = Place(tempfile::tempdir().unwrap());
        let disk = place.disk();
        std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::set_permissions(place.0.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = place.path("refault");
        std::fs::copy(REFAULT, &program).unwrap();
        let before = place.contents();
        let mut command = Command::new("setpriv");
        // With the group of /dev/kvm, so that only the image is forbidden.
        let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/dev/kvm").unwrap());
        command.args(["--reuid", "65534", "--regid", &group.to_string(), "--clear-groups"]);
        command.arg(program).args(["run", "--disk"]).arg(disk).args(["--", "echo"]);
        let said = run(command, b"");
        if said.code == Some(code::KVM_PERMISSION) {
            // The device is for root alone here; that was said, and there is no more to see.
            return;
        }
        judge(&said, code::DISK, &["No permission", "demo.img", "owner and mode"]);
        assert!(place.contents() == before);
    });
}

fn rules(suite: &mut Suite) {
    for (rule, place, expected) in [
        ("raed page=1: reflect", "^^^^", "an operation (read, write"),
        ("read pge=1: reflect", "     ^^^", "one of the keys"),
        ("read page=x: reflect", "          ^", "a page number from 0 up or `last`"),
        ("read page=1,: reflect", "            ^", "a page number"),
        ("read page=1", "           ^", "`:` and an action"),
        ("read page=1: explode", "             ^^^^^^^", "reflect*forever"),
        ("read side=left: reflect", "          ^^^^", "granter (the lender's memory) or grantee"),
        ("read page=1: reflect*0", "                     ^", "from 1"),
        ("read page=99999999999: reflect", "          ^^^^^^^^^^^", "a page number"),
        ("", "^", "`:` and an action"),
    ] {
        suite.host(format!("rule::{rule}"), move || {
            let said = refault(["run", "--inject", rule, "--", "echo"]);
            judge(&said, code::RULE, &[expected]);
            let lines: Vec<&str> = said.err.lines().collect();
            assert_eq!(lines[1], format!("    {rule}"));
            assert_eq!(lines[2], format!("    {place}"), "{}", said.err);
        });
    }
}

fn guests(suite: &mut Suite) {
    let kvm = [Need::Kvm];
    for (name, code, words, program) in [
        (
            "unknown_program",
            127,
            &["`nosuch`", "softread cat ls sum cp echo"] as &[&str],
            &["nosuch"] as &[&str],
        ),
        ("path_as_program", 127, &["`/bin/cat`", "programs:"], &["/bin/cat", "/hello.txt"]),
        ("programs_own_usage", 2, &["usage: cp SOURCE DESTINATION"], &["cp", "/hello.txt"]),
        ("programs_own_option", 2, &["ls: -q: unknown option", "usage: ls"], &["ls", "-q"]),
        (
            "programs_own_value",
            2,
            &["bad argument \"third-stage\"", "usage: softread"],
            &["softread", "--case", "third-stage"],
        ),
        ("more_than_the_file", 1, &["/b.bin", "needed"], &["softread", "--offset", "1200000"]),
    ] {
        suite.kvm(format!("guest::{name}"), move || {
            let image = Image::demo();
            let said = Guest::program(program.iter().copied()).disk(image.path()).say();
            judge(&said, code, words);
            image.assert_unchanged();
        });
    }
    suite.kvm("guest::no_program", || {
        let image = Image::demo();
        let said = refault(["run".into(), "--disk".into(), image.path().as_os_str().to_owned()]);
        judge(&said, 0, &["no program given", "-- PROGRAM", "softread cat ls sum cp echo"]);
        image.assert_unchanged();
    });

    let timeout = |kernel: OsString| -> [OsString; 5] {
        ["run".into(), "--kernel".into(), kernel, "--timeout".into(), "500ms".into()]
    };
    refused(
        suite,
        "guest::never_ends",
        &kvm,
        code::TIMEOUT,
        &["had not ended after 500ms", "--timeout"],
        move |place| timeout(place.file("kernel", &micro::elf(&[0xeb, 0xfe], 0x10_0000, 0x10_0000))),
    );
    refused(
        suite,
        "guest::sleeps_for_ever",
        &kvm,
        code::TIMEOUT,
        &["had not ended after 500ms"],
        move |place| {
            // sti; hlt; jmp back: asleep in the kernel's hands, and nothing comes.
            timeout(place.file("kernel", &micro::elf(&[0xf4, 0xeb, 0xfd], 0x10_0000, 0x10_0000)))
        },
    );
    refused(suite, "guest::triple_fault", &kvm, code::CRASH, &["triple-faulted at 0x100000"], |place| {
        // ud2 without a descriptor table.
        let kernel = place.file("kernel", &micro::elf(&[0x0f, 0x0b], 0x10_0000, 0x10_0000));
        ["run".into(), "--kernel".into(), kernel]
    });
    refused(suite, "guest::status_of_another_kernel", &kvm, 3, &[], |place| {
        ["run".into(), "--kernel".into(), place.file("kernel", &micro::elf(&THREE, 0x10_0000, 0x10_0000))]
    });
    refused(
        suite,
        "guest::panic_on_a_word_it_does_not_know",
        &kvm,
        code::PANIC,
        &["kernel panic: boot: bad option `retry=foo`", "kernel_start", "refault: the guest kernel panicked"],
        |place| {
            // Through --kernel nobody checks the words beforehand.
            let kernel = place.file("kernel.elf", KERNEL);
            let boot = place.file("boot.cpio", BOOT_IMAGE);
            ["run".into(), "--kernel".into(), kernel, "--initrd".into(), boot, "--cmdline=retry=foo".into()]
        },
    );
    refused(suite, "guest::too_little_memory_to_run", &kvm, 1, &["vm:", "not enough RAM"], |_| {
        // The kernel's part, the boot image, and less than VM needs for itself.
        let bytes = KERNEL_END + BOOT_IMAGE.len() as u64 + (1 << 20);
        option("--mem", bytes.next_multiple_of(1 << 20).to_string())
    });
}

fn files_to_write(suite: &mut Suite) {
    let kvm = [Need::Kvm];
    suite.test("json::directory_that_is_not_there", &kvm, || {
        let said = refault(["run", "--json", "/no-such-directory/x.json", "--", "echo", "said"]);
        judge(&said, code::OUTPUT, &["said\n", "/no-such-directory/x.json", "No such file"]);
    });
    suite.test("json::full", &kvm, || {
        let said = refault(["run", "--json", "/dev/full", "--", "echo", "said"]);
        judge(&said, code::OUTPUT, &["said\n", "/dev/full", "No space left"]);
    });
    suite.test("json::of_the_demo", &kvm, || {
        let said = refault(["run", "--json", "/no-such-directory/x.json"]);
        // What was found out is printed all the same.
        judge(&said, code::OUTPUT, &["/no-such-directory/x.json", "SHORT", "RETRIED"]);
    });
    let mut case = |name: &str, words, make: fn(&Place) -> [OsString; 4]| {
        refused(suite, &format!("mkfs::{name}"), &[], code::MKFS, words, move |place| {
            let [image, option, value, last] = make(place);
            ["mkfs".into(), image, option, value, last]
        });
    };
    case("exists", &["old.img", "exists", "--force"], |place| {
        [place.file("old.img", b"precious"), "--size".into(), "1M".into(), "--json=-".into()]
    });
    case("target_is_a_directory", &["is not a regular file"], |place| {
        [place.0.path().into(), "--size".into(), "1M".into(), "--force".into()]
    });
    case("no_such_directory", &["cannot", "No such file"], |place| {
        [place.path("no/such/new.img").into(), "--size".into(), "1M".into(), "--force".into()]
    });
    case("too_small", &["too small", "--size"], |place| {
        [place.path("new.img").into(), "--size".into(), "1000".into(), "--force".into()]
    });
    case("too_large", &["more than this file system can have", "--size"], |place| {
        [place.path("new.img").into(), "--size".into(), "100T".into(), "--force".into()]
    });
    case("source_missing", &["nowhere", "No such file"], |place| {
        [place.path("new.img").into(), "--from".into(), place.path("nowhere").into(), "--force".into()]
    });
    case("source_is_a_file", &["not a directory", "--from"], |place| {
        [place.path("new.img").into(), "--from".into(), place.file("file", b"x"), "--force".into()]
    });
    case("size_too_small_for_the_files", &["too small", "at least", "--size"], |place| {
        std::fs::create_dir(place.path("from")).unwrap();
        place.file("from/large", &[1; 300_000]);
        [place.path("new.img").into(), "--from".into(), place.path("from").into(), "--size=100K".into()]
    });
    case("long_name", &["61 bytes", "allows 60", "rename"], |place| {
        std::fs::create_dir(place.path("from")).unwrap();
        place.file(&format!("from/{}", "n".repeat(61)), b"");
        [place.path("new.img").into(), "--from".into(), place.path("from").into(), "--force".into()]
    });
    suite.host("export::into_a_file", || {
        let place = Place(tempfile::tempdir().unwrap());
        let file = place.file("file", b"x");
        let before = place.contents();
        judge(&refault(["export".into(), file]), code::OUTPUT, &["file", "cannot make this directory"]);
        assert!(place.contents() == before);
    });
}
