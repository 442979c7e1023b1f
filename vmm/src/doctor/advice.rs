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

/// userfaultfd is not permitted.
pub fn userfaultfd(place: Place) -> String {
    let container = if place.container {
        "; in a container, one of them plus `--device /dev/userfaultfd` or a seccomp profile that permits it"
    } else {
        ""
    };
    format!(
        "any one of these: give access to the device (`sudo setfacl -m u:$USER:rw /dev/userfaultfd`); \
         `sudo sysctl vm.unprivileged_userfaultfd=1`; give the program the capability \
         (`sudo setcap cap_sys_ptrace+ep $(which refault)`) or run it as root{container}"
    )
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
    fn userfaultfd_has_three_remedies() {
        let text = userfaultfd(BARE);
        for remedy in ["/dev/userfaultfd", "vm.unprivileged_userfaultfd=1", "cap_sys_ptrace"] {
            assert!(text.contains(remedy), "{remedy}");
        }
        assert!(userfaultfd(CONTAINER).contains("seccomp"));
    }

    #[test]
    fn without_io_uring_nothing_has_to_be_done() {
        for errno in [Some(libc::EPERM), Some(libc::ENOMEM), Some(libc::ENOSYS), None] {
            assert!(io_uring(errno).starts_with("nothing has to be done, threads are used"));
        }
    }
}
