//! `echo [WORD]...`: the words, and a line end.
#![no_std]
#![no_main]

use refault_rt::start::Args;

refault_rt::entry!(main);

fn main(args: Args) -> i32 {
    for (index, word) in args.skip(1).enumerate() {
        refault_rt::print!("{}{word}", if index > 0 { " " } else { "" });
    }
    refault_rt::println!();
    refault_apps::DONE
}
