//! Looking at grants and counters, pages taken away, tables of waits, temporary grant tables; and VFS's own kind of grant.

use refault_abi::counters::Counter;
use refault_abi::grant::{DIRECT, GrantId, INDIRECT, READ, State, TRY, USED, VALID, WRITE, mark};
use refault_abi::kcall::{self, WAITS_MAX, privilege};
use refault_abi::layout::{PAGE, USER_END};
use refault_abi::{Endpoint, Errno};

use crate::grants::{ABSENT, DATA, Entry, code, direct, entry_for, put, safecopy};
use crate::messages::counter;
use crate::world::{ARENA, World};
use crate::{check, same};

/// All cases.
pub fn run(world: &mut World) {
    looks(world);
    temporary(world);
    magic(world);
    world.drain();
}

fn looks(world: &mut World) {
    let a = world.agent("a", privilege::TEST, 5);
    let endpoint = u64::from(a.endpoint.raw() as u32);
    same!(world.call(&a, kcall::GRANT_INFO, &[endpoint]).result, code(Errno::EPERM), "no table");
    same!(world.call(&a, kcall::SETGRANT, &[ARENA, 8]).result, 0, "SETGRANT");
    direct(world, &a, 3, READ | TRY, DATA, PAGE);
    let report = world.call(&a, kcall::GRANT_INFO, &[endpoint | 3 << 32]);
    let state = State::new(USED | VALID | DIRECT | READ | TRY, 0, 7).0;
    same!((report.result, &report.words[2..6]), (0, &[8, state, report.words[4], DATA][..]), "GRANT_INFO");
    same!(report.words[4] as u32 as i32, Endpoint::ANY.raw(), "its grantee");
    for (words, error) in [(endpoint | 8 << 32, Errno::EPERM), (u64::from(40u32), Errno::EINVAL)] {
        same!(world.call(&a, kcall::GRANT_INFO, &[words]).result, code(error), "GRANT_INFO of nothing");
    }
    let traps = counter(Counter::KernelTraps);
    let report = world.call(&a, kcall::COUNTER, &[Counter::KernelTraps as u64]);
    same!((report.result, report.words[2] > traps), (0, true), "COUNTER");
    for index in [511, 512, 5000, u64::MAX] {
        same!(world.call(&a, kcall::COUNTER, &[index]).result, code(Errno::EINVAL), "no such counter");
    }
    // Nobody left a number here: 0, or no monitor that could have one.
    let report = world.call(&a, kcall::ARGUMENT, &[u64::MAX]);
    let argument = (report.result, report.words[1]);
    check(argument == (0, 0) || report.result == code(Errno::ENXIO), format_args!("ARGUMENT: {argument:?}"));
    let cases = [
        (ARENA, 0, Errno::EINVAL),
        (ARENA, 1 << 32, Errno::EINVAL),
        (ABSENT, 1, Errno::EFAULT),
        (USER_END, 1, Errno::EFAULT),
        (u64::MAX, 1, Errno::EFAULT),
        // No rule lets this guest have pages taken away.
        (ARENA, 1, Errno::ENXIO),
    ];
    for (address, times, error) in cases {
        same!(world.call(&a, kcall::AWAY, &[address, times]).result, code(error), "AWAY");
    }
    let too_many = WAITS_MAX as u64 + 1;
    let last = USER_END - size_of::<kcall::Wait>() as u64;
    for (address, entries) in [(ARENA + 8, 1), (ARENA, too_many), (last, 2), (u64::MAX - 63, 1)] {
        let result = world.call(&a, kcall::WAITS, &[address, entries]).result;
        same!(result, code(Errno::EINVAL), "WAITS");
    }
    same!(world.call(&a, kcall::WAITS, &[ARENA, 64]).result, 0, "WAITS");
    same!(world.call(&a, kcall::WAITS, &[0, 0]).result, 0, "WAITS withdrawn");
    world.remove(&a);
}

fn temporary(world: &mut World) {
    let granter = world.agent("granter", privilege::SERVER, 5);
    let owner = world.agent("owner", privilege::SERVER, 5);
    let other = world.agent("other", privilege::SERVER, 5);
    let grant = direct(world, &granter, 1, READ, DATA, PAGE);
    let it = granter.endpoint;
    let number = u64::from(owner.endpoint.raw() as u32);
    let set = kcall::SETGRANT_TEMPORARY;
    let dead = u64::from(Endpoint::new(3, 50).raw() as u32);
    same!(world.call(&granter, set, &[ARENA, 32, dead]).result, code(Errno::EINVAL), "a dead owner");
    same!(world.call(&granter, set, &[ARENA + 1, 32, number]).result, code(Errno::EINVAL), "misaligned");
    same!(world.call(&granter, set, &[ARENA, 32, number]).result, 0, "SETGRANT_TEMPORARY");
    let copy =
        |world: &mut World, agent| safecopy(world, agent, kcall::SAFECOPYFROM, it, grant, [0, DATA, 8]).0;
    same!(copy(world, &other), code(Errno::ENOTREADY), "a temporary table is for nobody");
    same!(copy(world, &owner), 0, "but its owner");
    same!(world.call(&granter, set, &[0, 0, number]).result, 0, "announced only");
    same!(copy(world, &owner), code(Errno::ENOTREADY), "not there yet");
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    same!((copy(world, &other), copy(world, &owner)), (0, 0), "its own again");
    for agent in [&granter, &owner, &other] {
        world.remove(agent);
    }
}

/// Grants over a third process's memory: of each kind to anybody, over a dead one's memory, and marked through a chain.
fn magic(world: &mut World) {
    let from = kcall::SAFECOPYFROM;
    let vfs = world.agent_in(Endpoint::VFS.slot(), "vfs", privilege::SERVER, 5);
    let user = world.agent("user", privilege::TEST, 6);
    let fs = world.agent("fs", privilege::SERVER, 5);
    let driver = world.agent("driver", privilege::SERVER, 5);
    for granter in [&vfs, &fs] {
        same!(world.call(granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    }
    world.write(user.arena + PAGE, 0x7788);
    let any = Endpoint::ANY;
    put(world, &vfs, 1, &entry_for(READ | WRITE, any, user.endpoint, DATA));
    let magic = GrantId::new(1, 7);
    same!(safecopy(world, &driver, from, vfs.endpoint, magic.0, [0, DATA, 8]), (0, 8), "magic, to anybody");
    same!(world.read(driver.arena + PAGE), 0x7788, "the owner's bytes");
    let via = |id: GrantId, grantee| Entry {
        flags: USED | VALID | INDIRECT,
        sequence: 2,
        grantee,
        other: vfs.endpoint,
        start: id.0.cast_unsigned(),
        length: 0,
    };
    put(world, &fs, 1, &via(magic, any));
    let indirect = GrantId::new(1, 2).0;
    same!(
        safecopy(world, &driver, from, fs.endpoint, indirect, [0, DATA, 8]),
        (0, 8),
        "indirect, to anybody"
    );
    put(world, &fs, 1, &via(magic, vfs.endpoint));
    let refused = safecopy(world, &driver, from, fs.endpoint, indirect, [0, DATA, 8]).0;
    same!(refused, code(Errno::EPERM), "indirect, to somebody else");
    put(world, &fs, 2, &Entry { other: fs.endpoint, ..via(GrantId::new(2, 2), any) });
    let looped = safecopy(world, &driver, from, fs.endpoint, GrantId::new(2, 2).0, [0, DATA, 8]).0;
    same!(looped, code(Errno::ELOOP), "an entry that refers to itself");
    put(world, &vfs, 2, &entry_for(READ, any, Endpoint::new(6, 50), DATA));
    let dead = safecopy(world, &driver, from, vfs.endpoint, GrantId::new(2, 7).0, [0, DATA, 8]).0;
    same!(dead, code(Errno::ESRCH), "a dead owner");
    // The original is marked, with the owner's address, and not the entry on the way.
    put(world, &vfs, 3, &entry_for(READ | TRY, fs.endpoint, user.endpoint, ABSENT));
    put(world, &fs, 3, &via(GrantId::new(3, 7), driver.endpoint));
    let result = safecopy(world, &driver, from, fs.endpoint, GrantId::new(3, 2).0, [5, DATA, 8]);
    same!(result, (code(Errno::EFAULT), 0), "a fault through indirect over magic");
    same!(State(world.read(vfs.arena + 3 * 64)).mark(), mark::FAULTED, "the original is marked");
    same!(world.read(vfs.arena + 3 * 64 + 40), ABSENT + 5, "with the address");
    same!(State(world.read(fs.arena + 3 * 64)).mark(), 0, "the one on the way is not");
    for agent in [&driver, &fs, &user, &vfs] {
        world.remove(agent);
    }
}
