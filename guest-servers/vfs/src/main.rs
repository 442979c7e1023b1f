//! The `vfs` server's program: the receive loop.
#![no_std]
#![no_main]

use refault_rt::abi::ipc::Call;
use refault_rt::abi::options::virtio_mmio;
use refault_rt::abi::{Endpoint, rs};
use refault_rt::start::Args;
use refault_rt::{asyncsend, diag, info};
use refault_vfs::guest::GuestKernel;
use refault_vfs::server::Vfs;

refault_rt::entry!(main);

/// Exit status after a bad command line.
const BAD_OPTIONS: i32 = 2;

fn main(_: Args) -> i32 {
    let Some(options) = info::options() else { return BAD_OPTIONS };
    let second_disk = virtio_mmio(info::info().cmdline(), 1).is_some();
    let vfs = Vfs::new(GuestKernel::default(), options, second_disk);
    loop {
        let received = vfs.kernel.next();
        let message = &received.message;
        if message.kind() == rs::RESTARTED && message.sender() == Endpoint::RS {
            // What never reached the dead one can be asked of its successor: that has to be known before it is given up. Fails
            // for a table that the kernel does not accept, and that was sent with before.
            let _ = asyncsend::look_again();
        }
        while let Some(failed) = asyncsend::take_failed() {
            diag!("vfs: no delivery to {:?}: {}", failed.destination, failed.error);
            vfs.not_delivered(failed.destination, &failed.message);
        }
        // Notifications only say that there is something to look at, and that has been done.
        if !received.delivery.is_notify() {
            vfs.take(message, received.delivery.call() == Call::SendRec as u64);
        }
    }
}
