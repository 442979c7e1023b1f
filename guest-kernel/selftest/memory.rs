//! Page faults of processes, raw copies, physical addresses.

use refault_abi::ipc::{Call, Delivery};
use refault_abi::kcall::{self, COPY_TRY, Copy, VmCtl, VuMap, privilege, rts, vmctl};
use refault_abi::layout::{PAGE, pte};
use refault_abi::vm::{self, PageFault};
use refault_abi::{Endpoint, Errno, Message};
use zerocopy::FromZeros;

use crate::trap::{kernel_call, primitive};
use crate::world::{ARENA, ARENA_PRESENT, World};
use crate::{agent, check, same};

const ABSENT: u64 = ARENA + ARENA_PRESENT * PAGE;

fn code(error: Errno) -> i64 {
    i64::from(error.code())
}

/// All cases.
pub fn run(world: &mut World) {
    page_fault(world);
    raw_copies(world);
    physical(world);
}

fn page_fault(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    world.settle();
    world.order_raw(&a, agent::TOUCH, [ABSENT + 9, 1, 0x5a, 0, 0, 0, 0]);
    let mut message = Message::default();
    let (result, status) = primitive(Call::Receive, Endpoint::NONE, Endpoint::ANY, &mut message);
    same!((result, message.kind(), message.sender()), (0, vm::PAGEFAULT, a.endpoint), "PAGEFAULT");
    check(Delivery(status).from_kernel(), format_args!("PAGEFAULT is from the kernel"));
    let fault: PageFault = message.get();
    same!((fault.address, fault.error & 7, fault.flags), (ABSENT + 9, 6, 0), "what faulted");
    same!(world.state(&a), (rts::PAGEFAULT, Endpoint::VM), "the process waits");
    world.map(a.root, ABSENT, a.arena + ARENA_PRESENT * PAGE, pte::PRESENT | pte::USER | pte::WRITABLE);
    let mut clear = VmCtl::new_zeroed();
    clear.operation = vmctl::CLEAR_PAGEFAULT;
    clear.endpoint = a.endpoint.raw();
    same!(kernel_call(kcall::VMCTL, &clear).0, 0, "CLEAR_PAGEFAULT");
    same!(world.report(&a).result, 0x5a, "the access goes on");
    same!(kernel_call(kcall::VMCTL, &clear).0, code(Errno::EINVAL), "nothing to clear");
    world.remove(&a);
}

fn raw_copies(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    world.write(a.arena + 16, 0xdead_beef);
    let mut buffer = [0u64; 2];
    let mut request = Copy {
        from: a.endpoint.raw(),
        to: Endpoint::SELF.raw(),
        source: ARENA + 16,
        destination: buffer.as_mut_ptr() as u64,
        bytes: 8,
        flags: COPY_TRY,
        fault: 0,
    };
    let (result, message) = kernel_call(kcall::VIRCOPY, &request);
    let first = core::hint::black_box(&buffer)[0];
    same!((result, message.get::<Copy>().bytes, first), (0, 8, 0xdead_beef), "VIRCOPY");
    request.source = ABSENT - 4;
    let (result, message) = kernel_call(kcall::VIRCOPY, &request);
    let answer: Copy = message.get();
    same!(
        (result, answer.bytes, answer.fault),
        (code(Errno::EFAULT), 4, ABSENT),
        "VIRCOPY over an absent page"
    );
    request.flags = 0;
    same!(kernel_call(kcall::VIRCOPY, &request).0, code(Errno::EFAULT), "VM is never suspended");
    request.bytes = 0;
    same!(kernel_call(kcall::VIRCOPY, &request).0, code(Errno::EDOM), "VIRCOPY of nothing");
    request.from = 63;
    same!(kernel_call(kcall::VIRCOPY, &request).0, code(Errno::ESRCH), "VIRCOPY from nobody");
    world.remove(&a);
}

fn physical(world: &mut World) {
    let driver = world.agent("driver", privilege::DRIVER, 5);
    let own = u64::from(Endpoint::SELF.raw() as u32);
    // Three pages of the arena, contiguous in RAM; the answer lies in the arena's first page.
    const { assert!(size_of::<VuMap>() == 48) };
    let mut order = [0u64; 7];
    order[1..].copy_from_slice(&[kcall_head(), own | 4 << 32, u64::MAX, ARENA + PAGE + 16, 2 * PAGE, 1]);
    // The output address is the seventh word, which an order has no room for: it stays 0, so the answer is
    // refused. What is tested is the way there; the blk driver tests the rest.
    world.settle();
    world.order_raw(&driver, agent::ORDER + Call::Kernel as u16, order);
    let request = loop {
        if let Some(request) = world.memory_request() {
            break request;
        }
        world.settle();
    };
    same!((request.address, request.bytes, request.value), (0, 16, 1), "VUMAP's output range is asked for");
    same!(world.answer_memory_request(&request, code(Errno::EFAULT)), 0, "refused");
    same!(world.report(&driver).result, code(Errno::EFAULT), "VUMAP fails");
    same!(
        world.call(&driver, kcall::IRQCTL, &[1 | 99 << 32]).result,
        code(Errno::EINVAL),
        "a line that does not exist"
    );
    same!(world.call(&driver, kcall::IRQCTL, &[2 | 5 << 32]).result, code(Errno::EPERM), "a line of nobody");
    same!(world.call(&driver, kcall::IRQCTL, &[1 | 5 << 32]).result, 0, "a line");
    same!(
        world.call(&driver, kcall::DEVIO_OUT, &[0x80, ARENA, 1]).result,
        code(Errno::EPERM),
        "another port"
    );
    same!(
        world.call(&driver, kcall::DEVIO_OUT, &[0x3f8, ARENA, 4097]).result,
        code(Errno::EINVAL),
        "too much text"
    );
    world.remove(&driver);
    let mut message = Message::default();
    let (_, _) = primitive(Call::ReceiveNb, Endpoint::NONE, Endpoint::ANY, &mut message);
}

fn kcall_head() -> u64 {
    crate::world::head(kcall::VUMAP)
}
