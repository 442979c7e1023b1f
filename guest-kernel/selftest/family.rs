//! Fork, and what becomes of calls and grants when a process dies.

use refault_abi::counters::Counter;
use refault_abi::grant::READ;
use refault_abi::ipc::Call;
use refault_abi::kcall::{self, ProcFork, privilege, rts};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Errno, GrantId};

use crate::grants::{ABSENT, DATA, code, direct, entry_for, put, safecopy};
use crate::messages::counter;
use crate::trap::kernel_call;
use crate::world::{ARENA, Agent, World, head};
use crate::{check, same};

const NONE: Endpoint = Endpoint::NONE;
const ANY: Endpoint = Endpoint::ANY;

/// All cases.
pub fn run(world: &mut World) {
    fork(world);
    deaths(world);
    generations(world);
    world.drain();
}

fn fork_of(parent: Endpoint, root: u64) -> (i64, Endpoint) {
    let (result, message) = kernel_call(kcall::PROC_FORK, &ProcFork { parent: parent.raw(), child: 0, root });
    (result, Endpoint::from_raw(message.get::<ProcFork>().child))
}

fn fork(world: &mut World) {
    let pm = world.agent_in(Endpoint::PM.slot(), "pm", privilege::SERVER, 5);
    let parent = world.agent("parent", privilege::TEST, 6);
    world.settle();
    let (root, arena) = world.twin(&parent);
    same!(fork_of(parent.endpoint, root).0, code(Errno::EINVAL), "fork of one that waits for VM");
    world.order(&parent, Call::SendRec, Endpoint::PM, Endpoint::PM, &[head(0x31), 5]);
    world.settle();
    same!(fork_of(parent.endpoint, root).0, code(Errno::EINVAL), "fork of one that is not heard yet");
    same!(world.execute(&pm, Call::Receive, NONE, ANY, &[]).kind(), 0x31, "PM hears it");
    // What the parent's stack holds now is what the child shall go on with.
    world.copy_memory(&parent, root);
    same!(fork_of(parent.endpoint, 0x1000).0, code(Errno::EINVAL), "fork with the kernel's page as a table");
    same!(fork_of(parent.endpoint, root + 8).0, code(Errno::EINVAL), "fork with half a page as a table");
    same!(fork_of(Endpoint::new(5, 40), root).0, code(Errno::ESRCH), "fork of nobody");
    same!(fork_of(Endpoint::VM, root).0, code(Errno::EPERM), "fork of VM");
    same!(world.call(&pm, kcall::PROC_FORK, &[0, 0]).result, code(Errno::ECALLDENIED), "fork is VM's");
    let forks = counter(Counter::Forks);
    let (result, endpoint) = fork_of(parent.endpoint, root);
    same!((result, counter(Counter::Forks)), (0, forks + 1), "fork");
    let child = Agent { endpoint, root, arena };
    check(endpoint != parent.endpoint, format_args!("the child is another process"));
    same!(world.state(&child), (rts::RECEIVING, Endpoint::PM), "the child waits for PM");
    same!(world.state(&parent), (rts::RECEIVING, Endpoint::PM), "and so does the parent");
    same!(
        world.call(&pm, kcall::GRANT_INFO, &[u64::from(endpoint.raw() as u32)]).result,
        code(Errno::EPERM),
        "no grants"
    );
    // The two answers are what makes them differ.
    same!(
        world.execute(&pm, Call::SendNb, endpoint, NONE, &[head(0x32), 0]).result,
        0,
        "answer for the child"
    );
    let report = world.report(&child);
    same!((report.result, report.source(), report.kind()), (0, Endpoint::PM, 0x32), "the child goes on");
    same!(world.state(&parent), (rts::RECEIVING, Endpoint::PM), "the parent still waits");
    same!(world.execute(&pm, Call::SendNb, parent.endpoint, NONE, &[head(0x33)]).result, 0, "its answer");
    same!(world.report(&parent).kind(), 0x33, "the parent goes on");
    same!(world.call(&child, kcall::NULL, &[]).result, 0, "the child takes orders");
    same!(fork_of(parent.endpoint, root).0, code(Errno::EINVAL), "once per request");
    for agent in [&child, &parent, &pm] {
        world.remove(agent);
    }
}

/// A suspended copy out of the granter's absent page by the grantee.
fn suspended(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = direct(world, granter, 1, READ, ABSENT, PAGE);
    world.settle();
    world.start_safecopy(grantee, kcall::SAFECOPYFROM, granter.endpoint, grant, [0, DATA, 8]);
    world.settle();
    same!(world.state(grantee).0, rts::VMREQUEST, "suspended");
}

fn deaths(world: &mut World) {
    for fetched in [false, true] {
        let grantee = world.agent("grantee", privilege::SERVER, 5);
        let granter = world.agent("granter", privilege::SERVER, 5);
        same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
        // Whose memory is needed dies: the copy is started again and finds nobody.
        suspended(world, &granter, &grantee);
        let request = fetched.then(|| world.memory_request()).flatten();
        same!(request.is_some(), fetched, "fetched");
        world.remove(&granter);
        same!(world.report(&grantee).result, code(Errno::EINVAL), "the copy ends when the granter dies");
        if let Some(request) = request {
            same!(world.answer_memory_request(&request, 0), code(Errno::EINVAL), "VM's answer is too late");
        }
        same!(world.memory_request().is_none(), true, "nothing is left to do");
        // Who waits dies.
        let granter = world.agent("granter", privilege::SERVER, 5);
        same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
        suspended(world, &granter, &grantee);
        let request = fetched.then(|| world.memory_request()).flatten();
        world.remove(&grantee);
        match request {
            Some(request) => {
                same!(world.answer_memory_request(&request, 0), code(Errno::ESRCH), "answer for the dead")
            }
            None => same!(world.memory_request().is_none(), true, "the dead need nothing"),
        }
        world.remove(&granter);
    }
    // A magic grant's owner is neither the granter nor the grantee.
    let vfs = world.agent_in(Endpoint::VFS.slot(), "vfs", privilege::SERVER, 5);
    let user = world.agent("user", privilege::TEST, 6);
    let fs = world.agent("fs", privilege::SERVER, 5);
    same!(world.call(&vfs, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    put(world, &vfs, 1, &entry_for(READ, ANY, user.endpoint, ABSENT));
    world.settle();
    world.start_safecopy(&fs, kcall::SAFECOPYFROM, vfs.endpoint, GrantId::new(1, 7).0, [0, DATA, 8]);
    world.settle();
    same!(world.state(&fs).0, rts::VMREQUEST, "suspended");
    world.remove(&user);
    same!(world.report(&fs).result, code(Errno::ESRCH), "the copy ends when the owner dies");
    world.remove(&fs);
    world.remove(&vfs);
}

/// A process that takes a dead one's slot has neither its grants nor those made to it.
fn generations(world: &mut World) {
    let from = kcall::SAFECOPYFROM;
    let granter = world.agent_in(40, "granter", privilege::SERVER, 5);
    let grantee = world.agent_in(41, "grantee", privilege::SERVER, 5);
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    let grant = direct(world, &granter, 1, READ, DATA, PAGE);
    let mut named = crate::grants::plain(READ, grantee.endpoint, DATA);
    put(world, &granter, 2, &named);
    let for_grantee = GrantId::new(2, 7).0;
    same!(safecopy(world, &grantee, from, granter.endpoint, for_grantee, [0, DATA, 8]).0, 0, "named grantee");
    world.remove(&grantee);
    let heir = world.agent_in(41, "grantee", privilege::SERVER, 5);
    check(heir.endpoint != grantee.endpoint, format_args!("a new generation"));
    let refused = safecopy(world, &heir, from, granter.endpoint, for_grantee, [0, DATA, 8]).0;
    same!(refused, code(Errno::EPERM), "a restarted grantee");
    named.grantee = heir.endpoint;
    put(world, &granter, 2, &named);
    same!(safecopy(world, &heir, from, granter.endpoint, for_grantee, [0, DATA, 8]).0, 0, "named anew");
    world.remove(&granter);
    let successor = world.agent_in(40, "granter", privilege::SERVER, 5);
    let refused = safecopy(world, &heir, from, granter.endpoint, grant, [0, DATA, 8]).0;
    same!(refused, code(Errno::EINVAL), "a dead granter");
    let refused = safecopy(world, &heir, from, successor.endpoint, grant, [0, DATA, 8]).0;
    same!(refused, code(Errno::EPERM), "its successor has no table");
    world.remove(&successor);
    world.remove(&heir);
}
