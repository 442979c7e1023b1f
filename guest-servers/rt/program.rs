//! Build script of every package with guest programs: links them with `program.ld`.
//!
//! A library cannot pass link arguments to its dependents, so each package names this file as its
//! build script instead. Nothing happens without the feature `guest`.

use std::path::Path;

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let script = Path::new(&manifest).join("../rt/program.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    if std::env::var_os("CARGO_FEATURE_GUEST").is_none() {
        return;
    }
    for argument in [
        format!("-T{}", script.display()),
        "-nostdlib".into(),
        "-static".into(),
        "-no-pie".into(),
        "-Wl,-z,max-page-size=4096".into(),
        "-Wl,--build-id=none".into(),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
