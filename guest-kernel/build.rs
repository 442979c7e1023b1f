//! Links the kernel image and its self-test with their own scripts, and nothing else: no C start files, no libraries.

use std::path::Path;

fn main() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed=kernel.ld");
    println!("cargo:rerun-if-changed=build.rs");
    // The assembly files are included by the compiler, which does not tell cargo about changes in all of them.
    println!("cargo:rerun-if-changed=src/arch/x86_64");
    if std::env::var_os("CARGO_FEATURE_GUEST").is_none() {
        return;
    }
    println!("cargo:rerun-if-changed=selftest/selftest.ld");
    for (binary, script) in [("kernel", "kernel.ld"), ("kselftest", "selftest/selftest.ld")] {
        let script = Path::new(&manifest).join(script);
        for argument in [
            format!("-T{}", script.display()),
            "-nostdlib".into(),
            "-nostartfiles".into(),
            "-static".into(),
            "-no-pie".into(),
            "-Wl,-z,max-page-size=4096".into(),
            "-Wl,-z,norelro".into(),
            "-Wl,--build-id=none".into(),
        ] {
            println!("cargo:rustc-link-arg-bin={binary}={argument}");
        }
    }
}
