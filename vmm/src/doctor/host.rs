//! Which host this is: the part that every JSON document of the project carries, so that figures of unlike
//! hosts are not compared.
//!
//! Names (kernel, module, processor) are recorded, never decided on; `ring0` and `mechanism` are measured.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde::Serialize;

use super::finding::Facts;
use super::uses::{Mechanism, Ring0, Uses};

/// The host, as recorded in reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// KVM's hardware module, `none` or `unknown`.
    pub kvm_module: String,
    /// Whether this host is itself a virtual machine.
    pub nested: bool,
    /// Processor model.
    pub cpu: String,
    /// How ring-0 instructions are carried out.
    pub ring0: Ring0,
    /// How pages are taken away.
    pub mechanism: Mechanism,
}

impl Host {
    /// The host with what was found out about it.
    pub fn with(facts: &Facts) -> Self {
        Self {
            kernel: kernel_release(),
            kvm_module: kvm_module(Path::new("/sys/module")),
            nested: is_nested(),
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            ring0: Ring0::of(facts.ring0_ns),
            mechanism: Uses::decide(facts).mechanism,
        }
    }

    /// This host; the two measured members are probed at the first call, in some ten milliseconds.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Host> = OnceLock::new();
        HERE.get_or_init(|| Self::with(&super::facts_for_host()))
    }
}

/// The running kernel's release.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or("unknown".into(), |s| s.trim().into())
}

/// Names of loaded modules that implement KVM, below `modules` (`/sys/module`).
fn kvm_module(modules: &Path) -> String {
    let Ok(entries) = fs::read_dir(modules) else { return "unknown".into() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| name.starts_with("kvm_"))
        .collect();
    names.sort();
    match names.is_empty() {
        true if modules.join("kvm").exists() => "kvm".into(),
        true => "none".into(),
        false => names.join("+"),
    }
}

/// The processor model in /proc/cpuinfo's text.
fn cpu_model(cpuinfo: &str) -> String {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown".into(), |(_, model)| model.trim().into())
}

/// Whether the processor says that a hypervisor is below it.
pub fn is_nested() -> bool {
    const HYPERVISOR: u32 = 1 << 31;
    core::arch::x86_64::__cpuid(1).ecx & HYPERVISOR != 0
}

/// The signature of that hypervisor, if it gives one.
pub fn hypervisor() -> Option<String> {
    if !is_nested() {
        return None;
    }
    let leaf = core::arch::x86_64::__cpuid(0x4000_0000);
    let bytes: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx].iter().flat_map(|r| r.to_le_bytes()).collect();
    let text: String = bytes.iter().map(|&b| char::from(b)).filter(|c| c.is_ascii_graphic()).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_named_and_its_absence_too() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kvm_module(dir.path()), "none");
        fs::create_dir(dir.path().join("kvm")).unwrap();
        assert_eq!(kvm_module(dir.path()), "kvm");
        fs::create_dir(dir.path().join("kvm_amd")).unwrap();
        assert_eq!(kvm_module(dir.path()), "kvm_amd");
        assert_eq!(kvm_module(&dir.path().join("absent")), "unknown");
    }

    #[test]
    fn the_processor_model_is_read() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: Other\n";
        assert_eq!(cpu_model(text), "Some CPU @ 3 GHz");
        assert_eq!(cpu_model(""), "unknown");
    }

    #[test]
    fn the_host_has_the_keys_that_documents_promise() {
        let json =
            serde_json::to_value(Host::with(&Facts { ring0_ns: Some(900.0), ..Facts::default() })).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        for key in ["kernel", "kvm_module", "nested", "cpu", "ring0", "mechanism"] {
            assert!(keys.contains(&key), "{key}");
        }
        assert_eq!(json["ring0"], "interpreted");
        assert_eq!(json["mechanism"], "none");
    }
}
