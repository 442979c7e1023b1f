//! /dev/kvm itself: there, permitted, the right version, able to make a machine that runs.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use kvm_ioctls::Kvm;

use crate::host::{HostError, open_kvm};

use super::finding::{Fact, Finding};
use super::microguest::{Event, Lab, LabError, Ring, programs};
use super::{advice, traps};

/// Where the device is.
pub const KVM_DEVICE: &str = "/dev/kvm";

/// Probe: the device can be opened.
pub fn open() -> Finding {
    open_at(Path::new(KVM_DEVICE), Place::here())
}

fn open_at(device: &Path, place: Place) -> Finding {
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Finding::ok("opened for reading and writing"),
        Err(error) => {
            Finding::missing(opening_failed(&error)).advise(advice::open_kvm(error.raw_os_error(), place))
        }
    }
}

fn opening_failed(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => format!("{KVM_DEVICE} does not exist"),
        Some(libc::EACCES | libc::EPERM) => format!("this user may not open {KVM_DEVICE}"),
        _ => format!("{KVM_DEVICE} cannot be opened: {error}"),
    }
}

/// Surroundings that change the advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// In a container.
    pub container: bool,
    /// In a virtual machine.
    pub virtual_machine: bool,
}

impl Place {
    /// This process's surroundings.
    pub fn here() -> Self {
        Self {
            container: ["/.dockerenv", "/run/.containerenv"].iter().any(|p| Path::new(p).exists()),
            virtual_machine: super::host::is_nested(),
        }
    }
}

/// Probe: the API version and the capabilities that every machine needs.
pub fn api() -> Finding {
    match open_kvm() {
        Ok(kvm) => Finding::ok(format!("version {}, all needed capabilities", kvm.get_api_version())),
        Err(HostError::NoKvm | HostError::NoPermission | HostError::Open(_)) => {
            Finding::missing(super::NOT_TRIED)
        }
        Err(error) => Finding::missing(error.to_string())
            .advise("use a Linux kernel from 5.10 on, with its own KVM module"),
    }
}

/// Probe: a virtual machine can be made, and its first instruction runs.
pub fn machine(kvm: &Kvm) -> Result<Finding, LabError> {
    let mut lab = match Lab::new(kvm, Ring::Three, programs::NOTHING) {
        Ok(lab) => lab,
        Err(error) => {
            let advice = advice::make_machine(&error, Place::here());
            return Ok(Finding::missing(error.to_string()).advise(advice));
        }
    };
    Ok(match lab.run()? {
        Event::Port { port: programs::DONE, cpl: 3 } => {
            Finding::ok("made; its first instruction ran").knowing(Fact::Kvm)
        }
        other => Finding::missing(format!("made, but it does not run: {}", traps::words(other))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::State;

    #[test]
    fn an_absent_device_is_told_from_a_forbidden_one() {
        let dir = tempfile::tempdir().unwrap();
        let absent = open_at(&dir.path().join("kvm"), Place::default());
        assert_eq!((absent.state, absent.detail.as_str()), (State::Missing, "/dev/kvm does not exist"));
        assert!(absent.advice.is_some_and(|a| a.contains("modprobe")));
        let forbidden = opening_failed(&io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(forbidden, "this user may not open /dev/kvm");
        assert_eq!(open_at(dir.path(), Place::default()).state, State::Missing);
    }
}
