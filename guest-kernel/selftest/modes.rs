//! What the seed's system and ours do differently, in whichever of the two this is.

use refault_abi::counters::Counter;
use refault_abi::grant::{READ, State, TRY, WRITE, mark};
use refault_abi::ipc::Call;
use refault_abi::kcall::{self, privilege, rts};
use refault_abi::layout::{PAGE, pte};
use refault_abi::{Endpoint, Errno};

use crate::grants::{ABSENT, DATA, code, direct, memset_head, safecopy};
use crate::messages::counter;
use crate::world::{ARENA, Agent, World, head};
use crate::{check, same};

const NONE: Endpoint = Endpoint::NONE;

/// All cases.
pub fn run(world: &mut World, faithful: bool) {
    let granter = world.agent("granter", privilege::SERVER, 5);
    let grantee = world.agent("grantee", privilege::SERVER, 5);
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    if faithful {
        lost_mark(world, &granter, &grantee);
        memset_suspends(world, &granter, &grantee);
        suspended_without_end(world, &granter, &grantee);
    } else {
        late_mark(world, &granter, &grantee);
        late_mark_by_the_short_way(world, &granter, &grantee);
        outdated_late_mark(world, &granter, &grantee);
        suspended_with_an_end(world, &granter, &grantee);
    }
    world.remove(&granter);
    world.remove(&grantee);
    world.drain();
}

impl World {
    /// Lets the owner of an arena only read its first page, where its grants are, or write it, too.
    fn table_writable(&mut self, agent: &Agent, writable: bool) {
        let flags = pte::PRESENT | pte::USER | if writable { pte::WRITABLE } else { 0 };
        self.map(agent.root, ARENA, agent.arena, flags);
    }
}

/// A copy with TRY out of an absent page, marked while the table cannot be written.
fn faulted_copy(world: &mut World, granter: &Agent, grantee: &Agent, index: u64) -> u64 {
    let grant = direct(world, granter, index, READ | TRY, ABSENT, PAGE);
    world.table_writable(granter, false);
    let result = safecopy(world, grantee, kcall::SAFECOPYFROM, granter.endpoint, grant, [3, DATA, 8]);
    same!(result, (code(Errno::EFAULT), 0), "TRY at an absent page");
    granter.arena + index * 64
}

fn late_mark(world: &mut World, granter: &Agent, grantee: &Agent) {
    let of = |which: &[Counter; 3]| which.map(counter);
    let which = [Counter::MarksPending, Counter::MarksDelivered, Counter::MarksFailed];
    let [pending, delivered, failed] = of(&which);
    let entry = faulted_copy(world, granter, grantee, 5);
    same!(State(world.read(entry)).mark(), 0, "no mark yet");
    same!(of(&which), [pending + 1, delivered, failed], "the mark is remembered");
    // A second fault through the same grant is the same mark.
    let grant = refault_abi::GrantId::new(5, 7).0;
    safecopy(world, grantee, kcall::SAFECOPYFROM, granter.endpoint, grant, [4, DATA, 8]);
    same!(world.call(granter, kcall::NULL, &[]).result, 0, "the granter was in the kernel");
    same!(State(world.read(entry)).mark(), 0, "its page still cannot be written");
    world.table_writable(granter, true);
    same!(world.call(granter, kcall::NULL, &[]).result, 0, "and again");
    same!(State(world.read(entry)).mark(), mark::FAULTED, "now the mark is there");
    same!(world.read(entry + 40), ABSENT + 4, "with the address");
    same!(of(&which), [pending + 2, delivered + 1, failed], "delivered once");
    world.call(granter, kcall::NULL, &[]);
    same!(counter(Counter::MarksDelivered), delivered + 1, "and not again");
}

/// The granter is woken by the answer of whoever copied, which takes the shortest way there is.
fn late_mark_by_the_short_way(world: &mut World, granter: &Agent, grantee: &Agent) {
    world.settle();
    world.order(grantee, Call::Receive, NONE, Endpoint::ANY, &[]);
    world.settle();
    world.order(granter, Call::SendRec, grantee.endpoint, grantee.endpoint, &[head(0x41)]);
    same!(world.report(grantee).kind(), 0x41, "a request");
    let delivered = counter(Counter::MarksDelivered);
    let entry = faulted_copy(world, granter, grantee, 6);
    world.table_writable(granter, true);
    same!(State(world.read(entry)).mark(), 0, "no mark while the granter sleeps");
    world.settle();
    world.order(grantee, Call::ReplyReceive, granter.endpoint, Endpoint::ANY, &[head(0x42)]);
    same!(world.report(granter).kind(), 0x42, "the answer");
    same!(State(world.read(entry)).mark(), mark::FAULTED, "the mark was there before it ran");
    same!(counter(Counter::MarksDelivered), delivered + 1, "delivered");
    // The grantee waits for anybody: it gets something, so that it takes orders again.
    world.execute(granter, Call::SendNb, grantee.endpoint, NONE, &[head(0x43)]);
    same!(world.report(grantee).kind(), 0x43, "the next request");
}

fn outdated_late_mark(world: &mut World, granter: &Agent, grantee: &Agent) {
    let stale = counter(Counter::MarksStale);
    let entry = faulted_copy(world, granter, grantee, 7);
    // The slot is used again before the mark can be delivered: the next grant must not have it.
    direct(world, granter, 7, READ | TRY, ABSENT, PAGE);
    world.write(entry, world.read(entry) + (1 << 32));
    world.table_writable(granter, true);
    world.call(granter, kcall::NULL, &[]);
    same!(State(world.read(entry)).mark(), 0, "another grant has no mark");
    same!(counter(Counter::MarksStale), stale + 1, "the mark was out of date");
}

fn lost_mark(world: &mut World, granter: &Agent, grantee: &Agent) {
    let (failed, pending) = (counter(Counter::MarksFailed), counter(Counter::MarksPending));
    let entry = faulted_copy(world, granter, grantee, 5);
    world.table_writable(granter, true);
    world.call(granter, kcall::NULL, &[]);
    same!(world.read(entry + 32), u64::MAX, "the mark is lost");
    same!(
        (counter(Counter::MarksFailed), counter(Counter::MarksPending)),
        (failed + 1, pending),
        "and that is known"
    );
}

fn memset_suspends(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = direct(world, granter, 8, WRITE | TRY, ABSENT, PAGE);
    world.settle();
    world.start_call(grantee, kcall::SAFEMEMSET, &[memset_head(granter, 1), grant.cast_unsigned(), 0, 8]);
    world.settle();
    same!(world.state(grantee).0, rts::VMREQUEST, "SAFEMEMSET does not look at TRY");
    match world.memory_request() {
        Some(request) => {
            same!(world.answer_memory_request(&request, code(Errno::EFAULT)), 0, "MEMREQ_REPLY");
            same!(world.report(grantee).result, code(Errno::EFAULT), "VM's error");
        }
        None => check(false, format_args!("no request of SAFEMEMSET")),
    }
}

/// Starts a copy without TRY into an absent page and answers `rounds` times that the page is there, which it is not. How
/// often VM was asked.
fn pretend(world: &mut World, granter: &Agent, grantee: &Agent, rounds: u64) -> u64 {
    let grant = direct(world, granter, 9, READ, ABSENT, PAGE);
    world.settle();
    world.start_safecopy(grantee, kcall::SAFECOPYFROM, granter.endpoint, grant, [0, DATA, 8]);
    world.settle();
    let mut asked = 0;
    while asked < rounds {
        let Some(request) = world.memory_request() else { break };
        asked += 1;
        same!(world.answer_memory_request(&request, 0), 0, "MEMREQ_REPLY");
    }
    asked
}

fn suspended_with_an_end(world: &mut World, granter: &Agent, grantee: &Agent) {
    let given_up = counter(Counter::SuspensionsGivenUp);
    same!(pretend(world, granter, grantee, 100), 8, "VM is asked eight times");
    same!(world.report(grantee).result, code(Errno::EFAULT), "the copy is given up");
    same!(counter(Counter::SuspensionsGivenUp), given_up + 1, "which is counted");
    same!(State(world.read(granter.arena + 9 * 64)).mark(), mark::FAULTED, "and marked, TRY or not");
}

fn suspended_without_end(world: &mut World, granter: &Agent, grantee: &Agent) {
    same!(pretend(world, granter, grantee, 2000), 2000, "VM is asked again and again");
    match world.memory_request() {
        Some(request) => {
            world.answer_memory_request(&request, code(Errno::EFAULT));
            same!(world.report(grantee).result, code(Errno::EFAULT), "until it says no");
        }
        None => check(false, format_args!("the copy has ended by itself")),
    }
}
