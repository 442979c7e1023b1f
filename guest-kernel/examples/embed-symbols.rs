//! Puts the symbol table into a kernel image: `embed-symbols IMAGE`.

fn main() {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: embed-symbols IMAGE");
        std::process::exit(2);
    };
    let result = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|mut image| {
        let count = refault_kernel::symbols::embed(&mut image).map_err(|refused| format!("{refused:?}"))?;
        std::fs::write(&path, image).map_err(|error| error.to_string())?;
        Ok(count)
    });
    match result {
        Ok(count) => println!("{count} symbols"),
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            std::process::exit(1);
        }
    }
}
