//! Pages taken away at the second stage: needs a monitor with a doorbell and the rules named here.
//!
//! Run with `selftest=second-stage` on the command line and
//! `--inject 'read request=1 page=1 side=granter: reflect' --inject 'read request=2 page=0 side=grantee: reflect'`
//! `--inject 'write request=3 page=0 side=granter: reflect' --inject 'read request=4 page=0 side=granter: reflect'`.
//! Each case's grant carries its number as the request of its tag, so each rule strikes where it should.

use refault_abi::counters::Counter;
use refault_abi::doorbell::reg;
use refault_abi::grant::{DIRECT, GrantId, READ, State, TRY, Tag, USED, VALID, WRITE, mark};
use refault_abi::ipc::Call;
use refault_abi::kcall::{self, VmCtl, privilege, rts, vmctl};
use refault_abi::layout::PAGE;
use refault_abi::vm::{self, FAULT_SECOND_STAGE, PageFault};
use refault_abi::{Endpoint, Errno, Message, fs};
use zerocopy::FromZeros;

use crate::messages::counter;
use crate::trap::{kernel_call, primitive};
use crate::world::{ARENA, Agent, World};
use crate::{agent, check, same};

const DATA: u64 = ARENA + PAGE;
const BUFFER: u64 = ARENA + PAGE;

impl World {
    /// Asks the monitor for a page.
    fn page_back(&self, gpa: u64) {
        self.write(self.info().doorbell + reg::PAGE_BACK, gpa);
    }
}

/// Makes grant `request`, over `pages` pages from `start` on, tagged as the first attempt of that request.
fn grant(
    world: &World,
    granter: &Agent,
    flags: u16,
    operation: u16,
    request: u32,
    start: u64,
    pages: u64,
) -> i64 {
    let at = granter.arena + u64::from(request) * 64;
    world.write(at + 8, u64::from(Endpoint::ANY.raw() as u32));
    world.write(at + 16, start);
    world.write(at + 24, pages * PAGE);
    world.write(at + 32, u64::MAX);
    world.write(at + 40, 0);
    world.write(at + 48, Tag::new(operation, 1, request).0);
    world.write(at, State::new(USED | VALID | DIRECT | flags, 0, 1).0);
    GrantId::new(request, 1).0
}

fn words(granter: &Agent, grant: i64, offset: u64, bytes: u64) -> [u64; 5] {
    [u64::from(granter.endpoint.raw() as u32), grant.cast_unsigned(), offset, BUFFER, bytes]
}

/// Fills the data pages of an arena.
fn fill(world: &World, agent: &Agent) {
    for word in 0..3 * 512 {
        world.write(agent.arena + PAGE + word * 8, word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

/// All cases.
pub fn run(world: &mut World) {
    check(world.info().doorbell != 0, format_args!("no doorbell: this needs `refault run`"));
    if world.info().doorbell == 0 {
        return;
    }
    let granter = world.agent("granter", privilege::SERVER, 5);
    let grantee = world.agent("grantee", privilege::SERVER, 5);
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 16]).result, 0, "SETGRANT");
    fill(world, &granter);
    granted_side(world, &granter, &grantee);
    grantee_side(world, &granter, &grantee);
    suspension(world, &granter, &grantee);
    own_entry(world, &granter, &grantee);
    world.remove(&granter);
    world.remove(&grantee);
}

fn efault() -> i64 {
    i64::from(Errno::EFAULT.code())
}

fn granted_side(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = grant(world, granter, READ | TRY, fs::READ, 1, DATA, 3);
    let state = granter.arena + 64;
    let faults = counter(Counter::SoftFaultsSecondStage);
    let call = words(granter, grant, 100, 2 * PAGE);
    let report = world.call(grantee, kcall::SAFECOPYFROM, &call);
    same!((report.result, report.words[5]), (efault(), PAGE - 100), "copy up to a page that is away");
    same!(State(world.read(state)).mark(), mark::FAULTED | mark::SECOND_STAGE, "mark");
    same!(world.read(state + 40), DATA + PAGE, "address of the mark");
    same!(counter(Counter::SoftFaultsSecondStage), faults + 1, "counted as a second-stage fault");
    let report = world.call(grantee, kcall::SAFECOPYFROM, &call);
    same!((report.result, report.words[5]), (efault(), PAGE - 100), "it stays away");
    // Ring 3 meets it too: the granter, whose page it is.
    world.settle();
    world.order_raw(granter, agent::TOUCH, [DATA + PAGE + 8, 0, 0, 0, 0, 0, 0]);
    let mut message = Message::default();
    let (result, _) = primitive(Call::Receive, Endpoint::NONE, Endpoint::ANY, &mut message);
    let fault: PageFault = message.get();
    same!((result, message.kind(), fault.address), (0, vm::PAGEFAULT, DATA + PAGE + 8), "PAGEFAULT");
    same!(fault.flags, u64::from(FAULT_SECOND_STAGE), "from the second stage");
    same!(world.state(granter).0, rts::PAGEFAULT, "the process waits");
    world.page_back(granter.arena + 2 * PAGE);
    let mut clear = VmCtl::new_zeroed();
    (clear.operation, clear.endpoint) = (vmctl::CLEAR_PAGEFAULT, granter.endpoint.raw());
    same!(kernel_call(kcall::VMCTL, &clear).0, 0, "CLEAR_PAGEFAULT");
    same!(
        world.report(granter).result & 0xff,
        (513u64.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xff) as i64,
        "and goes on"
    );
    let report = world.call(grantee, kcall::SAFECOPYFROM, &call);
    same!((report.result, report.words[5]), (0, 2 * PAGE), "copy after the page is back");
    let right = (0..2 * PAGE).all(|at| {
        // SAFETY: both bytes are RAM the test owns.
        unsafe {
            *world.window::<u8>(granter.arena + PAGE + 100 + at)
                == *world.window::<u8>(grantee.arena + PAGE + at)
        }
    });
    check(right, format_args!("bytes of the copy"));
}

fn grantee_side(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = grant(world, granter, READ | TRY, fs::READ, 2, DATA, 1);
    let report = world.call(grantee, kcall::SAFECOPYFROM, &words(granter, grant, 0, 64));
    same!((report.result, report.words[5]), (efault(), 0), "the grantee's buffer is away");
    let expected = mark::FAULTED | mark::SECOND_STAGE | mark::GRANTEE_SIDE | mark::WRITE_ACCESS;
    same!(State(world.read(granter.arena + 2 * 64)).mark(), expected, "mark of the grantee's side");
    // VM itself meets it, through its window: nobody but the kernel can ask for it then.
    let reflected = counter(Counter::ReflectedUser);
    same!(
        world.read(grantee.arena + PAGE),
        world.read(granter.arena + PAGE + 100),
        "VM's own access goes on"
    );
    same!(counter(Counter::ReflectedUser), reflected + 1, "by the kernel's hand");
    let report = world.call(grantee, kcall::SAFECOPYFROM, &words(granter, grant, 0, 64));
    same!((report.result, report.words[5]), (0, 64), "and the page is back");
}

fn suspension(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = grant(world, granter, WRITE, fs::WRITE, 3, DATA, 1);
    world.settle();
    world.start_call(grantee, kcall::SAFECOPYTO, &words(granter, grant, 8, 64));
    world.settle();
    same!(world.state(grantee).0, rts::VMREQUEST, "suspended");
    let Some(request) = world.memory_request() else { return check(false, format_args!("no request")) };
    same!((request.address, request.bytes, request.value), (DATA + 8, 64, 1), "what is needed");
    same!(request.flags, FAULT_SECOND_STAGE, "at the second stage");
    // Answered without the page being asked back: the call meets it again.
    same!(world.answer_memory_request(&request, 0), 0, "MEMREQ_REPLY");
    let Some(request) = world.memory_request() else {
        return check(false, format_args!("no second request"));
    };
    world.page_back(granter.arena + PAGE);
    same!(world.answer_memory_request(&request, 0), 0, "MEMREQ_REPLY");
    same!(world.report(grantee).result, 0, "the copy ends well");
    let mut message = Message::default();
    primitive(Call::ReceiveNb, Endpoint::NONE, Endpoint::ANY, &mut message);
}

/// The page that is away is the one that holds the grant's own entry, so the kernel meets it when it marks.
fn own_entry(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = grant(world, granter, READ | TRY, fs::READ, 4, ARENA, 1);
    let report = world.call(grantee, kcall::SAFECOPYFROM, &words(granter, grant, 0, 64));
    same!((report.result, report.words[5]), (efault(), 0), "the table's own page is away");
    let state = State(world.read(granter.arena + 4 * 64));
    same!(state.mark(), mark::FAULTED | mark::SECOND_STAGE, "the mark is there all the same");
    let report = world.call(grantee, kcall::SAFECOPYFROM, &words(granter, grant, 0, 64));
    same!(report.result, 0, "and the page, which the kernel needed");
}
