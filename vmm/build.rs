//! Builds the guest and packs it, so that the `refault` binary contains everything it boots.
//!
//! The guest's crates are built by a cargo of their own: they need other code generation flags than the host program and
//! a target directory of their own. The servers and programs are then packed into a boot image (cpio newc).
//!
//! The one thing to hold in mind: this cargo must not inherit what the outer one was told (flags, wrappers, targets),
//! or `cargo clippy` would lint the guest instead of building it.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

#[path = "src/boot_image.rs"]
mod boot_image;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";

/// No red zone, because the kernel's interrupts use the same stack; no SSE, because neither kernel nor servers save
/// its registers, and a host that interprets ring 0 does not know it; nothing to relocate at boot.
const FLAGS: [&str; 4] =
    ["-Crelocation-model=static", "-Cno-redzone=yes", "-Ctarget-feature=-sse,-sse2", "-Cpanic=abort"];
/// The kernel lives in the top two gigabytes.
const KERNEL_FLAGS: [&str; 1] = ["-Ccode-model=kernel"];

/// Packages and their programs, by their names in the boot image.
const SERVERS: [(&str, &str); 9] = [
    ("refault-vm", "vm"),
    ("refault-vfs", "vfs"),
    ("refault-mfs", "mfs"),
    ("refault-blk", "blk"),
    ("refault-pipefs", "pipefs"),
    ("refault-pm", "pm"),
    ("refault-rs", "rs"),
    ("refault-tty", "tty"),
    ("refault-init", "init"),
];
const PROGRAMS: (&str, &[&str]) = (
    "refault-apps",
    &[
        "softread",
        "cat",
        "ls",
        "sum",
        "cp",
        "echo",
        "sh",
        "mv",
        "ln",
        "rm",
        "mkdir",
        "rmdir",
        "touch",
        "sync",
        "kill",
        "ps",
        "grants",
        "faults",
        "sys_costs",
        "sys_restart",
        "sys_retry",
        "sys_grants",
        "sys_marks",
        "sys_peer",
        "sys_hazard",
        "sys_memory",
        "sys_crash",
        "sys_poison",
        "sys_files",
        "sys_pipes",
        "sys_exercise",
    ],
);

/// The kernel's package.
const KERNEL: &str = "refault-kernel";
/// The kernel's self-test: a program that runs where servers run, from the kernel's package.
const SELFTEST: &str = "kselftest";

/// What the guest is made of, relative to the workspace.
const SOURCES: [&str; 5] =
    ["guest-kernel", "guest-servers", "Cargo.toml", "Cargo.lock", "vmm/src/boot_image.rs"];

fn main() {
    let manifest = path_from("CARGO_MANIFEST_DIR");
    let out = path_from("OUT_DIR");
    let Some(workspace) = manifest.parent() else { fail("the package is not inside its workspace") };
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", workspace.join(source).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    // Seeded bugs (`refault_abi::bugs`): the inner cargo and the compiler take the variable from the environment.
    println!("cargo:rerun-if-env-changed=REFAULT_BUGS");

    // One guest for all profiles of the host program: out is <target>/<triple>/<profile>/build/<package>/out.
    let shared = out.ancestors().nth(4).unwrap_or(&out).join("refault-guest");
    let kernel = build(workspace, &shared.join("kernel"), &[KERNEL], &["kernel"], &KERNEL_FLAGS);
    let packages: Vec<&str> =
        SERVERS.iter().map(|(package, _)| *package).chain([PROGRAMS.0, KERNEL]).collect();
    let names: Vec<&str> =
        SERVERS.iter().map(|(_, name)| *name).chain(PROGRAMS.1.iter().copied()).chain([SELFTEST]).collect();
    let programs = build(workspace, &shared.join("servers"), &packages, &names, &[]);

    let mut files = Vec::new();
    for (_, name) in SERVERS {
        files.push((name.to_owned(), read(&programs.join(name))));
    }
    for name in PROGRAMS.1 {
        files.push((format!("bin/{name}"), read(&programs.join(name))));
    }
    let image = boot_image::pack(&files).unwrap_or_else(|why| fail(&format!("the boot image: {why}")));
    write(&out.join("boot.img"), &image);
    let mut elf = read(&kernel.join("kernel"));
    if let Err(why) = refault_kernel::symbols::embed(&mut elf) {
        fail(&format!("the kernel image takes no symbols: {why:?}"));
    }
    write(&out.join("kernel.elf"), &elf);

    // The kernel's self-test takes the place of `vm`, and needs nobody else.
    let selftest = [("vm".to_owned(), read(&programs.join(SELFTEST)))];
    let image =
        boot_image::pack(&selftest).unwrap_or_else(|why| fail(&format!("the self-test's image: {why}")));
    write(&out.join("selftest.img"), &image);
}

/// Builds `programs` of `packages` and says where they are.
fn build(
    workspace: &Path,
    target_dir: &Path,
    packages: &[&str],
    programs: &[&str],
    extra: &[&str],
) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(workspace).arg("build").args(["--profile", PROFILE, "--target", TARGET]);
    command.arg("--target-dir").arg(target_dir);
    for package in packages {
        command.args(["-p", package, "--features", &format!("{package}/guest")]);
    }
    for program in programs {
        command.args(["--bin", program]);
    }
    for (name, _) in env::vars_os().filter(|(name, _)| is_outer(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    let flags: Vec<&str> = FLAGS.iter().chain(extra).copied().collect();
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    match command.status() {
        Ok(status) if status.success() => target_dir.join(TARGET).join(PROFILE),
        Ok(_) => fail("the guest does not build; the reason is above (see with `cargo build -vv`)"),
        Err(why) => fail(&format!("cargo cannot be run for the guest: {why}")),
    }
}

/// Variables by which the outer cargo would speak to the inner one. Where things are on this machine stays.
fn is_outer(name: &str) -> bool {
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const GONE: [&str; 6] = ["CARGO_", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_", "CLIPPY_", "DEP_"];
    // Also what cargo tells build scripts of the outer package, which inner build scripts must not take for theirs.
    const SCRIPT: [&str; 8] =
        ["OUT_DIR", "TARGET", "HOST", "PROFILE", "OPT_LEVEL", "DEBUG", "NUM_JOBS", "MAKEFLAGS"];
    !KEPT.iter().any(|k| name.starts_with(k))
        && (GONE.iter().any(|g| name.starts_with(g)) || SCRIPT.contains(&name))
}

fn path_from(variable: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| fail(&format!("cargo did not set {variable}")), PathBuf::from)
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|why| fail(&format!("{}: {why}", path.display())))
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|why| fail(&format!("{}: {why}", path.display())));
}

fn fail(why: &str) -> ! {
    eprintln!("error: {why}");
    exit(1)
}
