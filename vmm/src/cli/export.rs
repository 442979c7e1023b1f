//! The verb `export`: the guest that this program contains, as files for other monitors.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::exit_code::ExitCode;
use crate::guest_image;

use super::Failure;

/// The files.
static FILES: [(&str, &[u8]); 3] = [
    ("kernel.elf", guest_image::KERNEL),
    ("boot.cpio", guest_image::BOOT_IMAGE),
    ("selftest.cpio", guest_image::SELFTEST_IMAGE),
];

/// Write the built-in kernel (ELF with a PVH note), boot image and kernel self-test (cpio) into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  refault export guest
  qemu-system-x86_64 -M microvm -kernel guest/kernel.elf -initrd guest/boot.cpio -append '-- echo hello' ...")]
pub struct Args {
    /// The directory, made if it does not exist; files of these names in it are replaced
    directory: PathBuf,
}

/// Writes the files and says where they are.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let output = |error| Failure::new(ExitCode::Output, error);
    std::fs::create_dir_all(&args.directory)
        .with_context(|| format!("{}: cannot make this directory", args.directory.display()))
        .map_err(output)?;
    for (name, bytes) in &FILES {
        let path = args.directory.join(name);
        std::fs::write(&path, bytes)
            .with_context(|| format!("{}: cannot write it", path.display()))
            .map_err(output)?;
        super::output::result(format_args!("{}: {} bytes\n", path.display(), bytes.len()))?;
    }
    Ok(0)
}
