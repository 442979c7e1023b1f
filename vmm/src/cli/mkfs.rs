//! The verb `mkfs`.

use std::path::PathBuf;

use crate::exit_code::ExitCode;
use crate::mkfs::{Options, make_demo_image, make_image};

use super::{Failure, output, report, size};

/// Make a MINIX v3 disk image that this project's guest and the host's own tools can read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  refault mkfs disk.img --size 16M --from ./files")]
pub struct Args {
    /// The image to make
    image: PathBuf,
    /// Its size, as in 16M; the default is what the files need and some room
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
    /// Copy the contents of this directory into it
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Make the demo's disk instead, as `refault run` does
    #[arg(long, conflicts_with_all = ["size", "from"])]
    demo: bool,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Also write what was made as JSON (schema refault.mkfs/1); `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Makes the image and says what is in it.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let made = if args.demo {
        make_demo_image(&args.image, args.force)
    } else {
        make_image(&args.image, &Options { size: args.size, from: args.from.clone(), force: args.force })
    };
    let made = made.map_err(|e| Failure::new(ExitCode::Mkfs, e))?;
    match &args.json {
        Some(file) => {
            report::write_json(file, &serde_json::json!({"schema": "refault.mkfs/1", "image": made}))?
        }
        None => output::result(format_args!(
            "{}: {} bytes, {} files ({} bytes), {} directories, {} links, {} bytes free\n",
            args.image.display(),
            made.bytes,
            made.files,
            made.data_bytes,
            made.directories,
            made.links,
            made.free_bytes
        ))?,
    }
    Ok(0)
}
