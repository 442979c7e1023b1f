//! `grants`: every memory grant there is at this moment: whose, for whom, over what, with CPF_TRY or not, marked or not.
#![no_std]
#![no_main]

use refault_abi::endpoint::NR_PROCS;
use refault_apps::DONE;
use refault_apps::procs::{Peer, grant_text};
use refault_rt::start::Args;
use refault_rt::{Endpoint, kernel, println};

refault_rt::entry!(main);

fn main(_args: Args) -> i32 {
    println!("GRANTER GRANTEE   INDEX KIND   USE  OF            START       BYTES");
    let mut found = 0u32;
    for slot in 0..NR_PROCS as i32 {
        // A free slot, or a process without a table, has none.
        if let Ok(info) = kernel::proc_info(slot) {
            found += list(Endpoint::from_raw(info.endpoint));
        }
    }
    println!("{found} grants");
    DONE
}

/// Shows one process's grants; answers how many.
fn list(granter: Endpoint) -> u32 {
    let mut found = 0;
    let mut index = 0u32;
    // An entry that cannot be read ends the table: it has none, or the process is gone.
    while let Ok(entry) = kernel::grant_info(granter, index) {
        if let Some(text) = grant_text(entry.state) {
            let text = core::str::from_utf8(&text).unwrap_or("?");
            println!(
                "{:>7} {:>7} {index:>7} {text} {:>5} {:>14x} {:>11}",
                granter.raw(),
                Peer(entry.grantee),
                Peer(entry.other),
                entry.start,
                entry.length
            );
            found += 1;
        }
        index += 1;
        if u64::from(index) >= entry.entries {
            break;
        }
    }
    found
}
