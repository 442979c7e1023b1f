//! What to do about it: the sentences a user acts on. Pure.

use super::device::Place;
use super::microguest::LabError;

/// /dev/kvm cannot be opened.
pub fn open_kvm(errno: Option<i32>, place: Place) -> String {
    match errno {
        Some(libc::EACCES | libc::EPERM) if place.container => {
            "run the container with `--device /dev/kvm`, and with `--group-add` of the group that owns the \
             device if the container's user is not root"
                .into()
        }
        Some(libc::EACCES | libc::EPERM) => {
            "join the group that owns /dev/kvm: `sudo usermod -aG kvm $USER`, then log in again; for this \
             session only: `sudo setfacl -m u:$USER:rw /dev/kvm`"
                .into()
        }
        Some(libc::ENOENT) if place.container => {
            "run the container with `--device /dev/kvm` (the host itself needs KVM too)".into()
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) if place.virtual_machine => {
            "this is a virtual machine: switch on nested virtualisation for it (on the host: module parameter \
             `nested=1` of kvm_intel or kvm_amd, CPU model `host`), then `sudo modprobe kvm_intel` or `kvm_amd`"
                .into()
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "switch on VT-x or SVM in the firmware and load the module: `sudo modprobe kvm_intel` or \
             `sudo modprobe kvm_amd`"
                .into()
        }
        _ => "see `sudo dmesg | grep -i kvm` for the reason".into(),
    }
}

/// A virtual machine cannot be made.
pub fn make_machine(error: &LabError, place: Place) -> String {
    let refused_by = |wanted: i32| matches!(error, LabError::Kvm { source, .. } if source.errno() == wanted);
    if refused_by(libc::EBUSY) {
        "another hypervisor (VirtualBox, VMware) holds the processor's virtualisation; stop it".into()
    } else if refused_by(libc::ENOMEM) || matches!(error, LabError::Memory(_)) {
        "the host is short of memory, or a limit (`ulimit -l`, a container's memory limit) is too low".into()
    } else if place.container {
        "the container's seccomp profile or device rules may forbid it: try `--device /dev/kvm` with \
         `--security-opt seccomp=unconfined`"
            .into()
    } else {
        "see `sudo dmesg | grep -i kvm` for the reason".into()
    }
}

/// userfaultfd cannot be had in any form. Only `restricted`, the failure of the form that needs no privileges, tells
/// why: every kernel that has userfaultfd gives it to every user.
pub fn userfaultfd(restricted: Option<i32>, place: Place) -> String {
    const UNTIL_THEN: &str = "without it, guest pages are taken away by PROT_NONE";
    match restricted {
        Some(libc::EPERM | libc::EACCES) if place.container => format!(
            "run the container with `--device /dev/userfaultfd`, or with a seccomp profile that permits `userfaultfd`; \
             {UNTIL_THEN}"
        ),
        Some(libc::EPERM | libc::EACCES) => format!(
            "something filters system calls (a service's SystemCallFilter, a security module): permit `userfaultfd` \
             there, or give access to the device (`sudo setfacl -m u:$USER:rw /dev/userfaultfd`); {UNTIL_THEN}"
        ),
        _ => format!("a kernel with CONFIG_USERFAULTFD, Linux 6.6 or later for poison, has it; {UNTIL_THEN}"),
    }
}

/// io_uring does not work.
pub fn io_uring(errno: Option<i32>) -> String {
    match errno {
        Some(libc::EPERM | libc::EACCES) => "nothing has to be done, threads are used; to use io_uring: \
             `sudo sysctl kernel.io_uring_disabled=0`, or in a container a seccomp profile that permits it"
            .into(),
        Some(libc::ENOMEM) => {
            "nothing has to be done, threads are used; `ulimit -l` is too low for io_uring".into()
        }
        _ => "nothing has to be done, threads are used; a kernel from 5.10 on has io_uring".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Place = Place { container: false, virtual_machine: false };
    const CONTAINER: Place = Place { container: true, virtual_machine: true };
    const VM: Place = Place { container: false, virtual_machine: true };

    #[test]
    fn each_failure_of_the_device_has_its_own_advice() {
        assert!(open_kvm(Some(libc::EACCES), BARE).contains("usermod -aG kvm"));
        assert!(open_kvm(Some(libc::EACCES), CONTAINER).contains("--group-add"));
        assert!(open_kvm(Some(libc::ENOENT), BARE).contains("modprobe kvm_intel"));
        assert!(open_kvm(Some(libc::ENOENT), VM).contains("nested"));
        assert!(open_kvm(Some(libc::ENOENT), CONTAINER).contains("--device /dev/kvm"));
        assert!(open_kvm(Some(libc::EIO), BARE).contains("dmesg"));
    }

    #[test]
    fn a_busy_processor_is_told_from_a_lack_of_memory() {
        let failed = |errno| LabError::Kvm { call: "KVM_CREATE_VM", source: kvm_ioctls::Error::new(errno) };
        assert!(make_machine(&failed(libc::EBUSY), BARE).contains("another hypervisor"));
        assert!(make_machine(&failed(libc::ENOMEM), BARE).contains("memory"));
        assert!(make_machine(&failed(libc::EPERM), CONTAINER).contains("seccomp"));
    }

    #[test]
    fn userfaultfd_is_advised_where_it_is_denied() {
        let denied = Some(libc::EPERM);
        assert!(userfaultfd(denied, BARE).contains("setfacl -m u:$USER:rw /dev/userfaultfd"));
        assert!(userfaultfd(denied, CONTAINER).contains("seccomp"));
        assert!(userfaultfd(denied, CONTAINER).contains("--device /dev/userfaultfd"));
        assert!(userfaultfd(Some(libc::ENOSYS), BARE).contains("CONFIG_USERFAULTFD"));
        for place in [BARE, CONTAINER, VM] {
            // Neither makes a difference: the form that needs no privileges does not ask for them.
            let text = userfaultfd(denied, place);
            assert!(!text.contains("sysctl") && !text.contains("cap_sys_ptrace"), "{text}");
        }
    }

    #[test]
    fn without_io_uring_nothing_has_to_be_done() {
        for errno in [Some(libc::EPERM), Some(libc::ENOMEM), Some(libc::ENOSYS), None] {
            assert!(io_uring(errno).starts_with("nothing has to be done, threads are used"));
        }
    }
}
