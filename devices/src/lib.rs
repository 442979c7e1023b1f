//! The devices a Refault machine is made of, and the buses that find them.
//!
//! Two kinds of thread meet in this crate. **vCPU threads** bring port and MMIO accesses through a
//! [`bus::Bus`]; whatever an access asks of the virtual machine monitor comes back as a value, never as a
//! call. **The device loop**, one thread running an `event_manager::EventManager`, owns everything that is
//! woken by a file descriptor: queue kicks, finished disk requests, console input. Devices are shared between
//! the two behind one lock each.
//!
//! The one thing to hold in mind: everything that arrives here was chosen by the guest. A bad access is an
//! answer ([`bus::Refusal`]) or a device that needs a reset, never a panic.
//!
//! What this crate is not: it knows no KVM. Interrupts leave through event descriptors that the monitor
//! registers as irqfds, and the notify register is described so that the
//! monitor can register it as an ioeventfd; all of it runs and is tested on a host without virtualisation.

pub mod bus;
pub mod exit_port;
pub mod serial;
mod sync;
pub mod virtio;
