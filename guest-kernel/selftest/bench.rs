//! Loops whose cost is counted from outside, and in time stamps.
//!
//! Markers for a trace of executed instructions: the loops run between the functions `bench_begin` and `bench_end`
//! with the number of the loop in `rdi`.

use refault_abi::ipc::{Call, peers};
use refault_abi::kcall::{self, privilege};
use refault_abi::layout::PAGE;
use refault_abi::{Endpoint, Message, grant::GrantId};

use crate::diag;
use crate::trap::trap;
use crate::world::{ARENA, World, head};
use crate::{agent, same};

const ROUNDS: u64 = 16;

core::arch::global_asm!(
    ".globl bench_begin, bench_end",
    "bench_begin: mov rax, rdi",
    "ret",
    "bench_end: mov rax, rdi",
    "ret",
);

unsafe extern "C" {
    fn bench_begin(number: u64) -> u64;
    fn bench_end(number: u64) -> u64;
}

fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads the time stamp.
    unsafe { core::arch::asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack)) }
    u64::from(low) | u64::from(high) << 32
}

fn measure(number: u64, name: &str, khz: u64, mut action: impl FnMut()) {
    action();
    // SAFETY: they do nothing.
    unsafe { bench_begin(number) };
    let start = time_stamp();
    for _ in 0..ROUNDS {
        action();
    }
    let stamps = (time_stamp() - start) / ROUNDS;
    // SAFETY: as above.
    unsafe { bench_end(number) };
    diag!("kselftest: bench {name}: {stamps} time stamps, {} ns", stamps * 1_000_000 / khz.max(1));
}

/// All loops.
pub fn run(world: &mut World) {
    let khz = world.info().tsc_khz;
    measure(1, "null", khz, || {
        let mut message = Message::bare(kcall::NULL);
        trap(Call::Kernel as u64, 0, &mut message);
    });
    let client = world.agent("client", privilege::TEST, 2);
    let server = world.agent("server", privilege::TEST, 2);
    world.settle();
    // The server receives once, then answers in a loop; the client asks in a loop.
    world.order(&server, Call::Receive, Endpoint::NONE, client.endpoint, &[]);
    world.settle();
    let mut order = [0u64; 7];
    order[..4].copy_from_slice(&[
        Call::SendRec as u64,
        peers(server.endpoint, server.endpoint),
        ROUNDS + 2,
        head(0x51),
    ]);
    world.order_raw(&client, agent::REPEAT, order);
    same!(world.report(&server).result, 0, "first request");
    let mut order = [0u64; 7];
    order[..4].copy_from_slice(&[
        Call::ReplyReceive as u64,
        peers(client.endpoint, Endpoint::ANY),
        ROUNDS + 1,
        head(0x52),
    ]);
    world.settle();
    // SAFETY: they do nothing.
    unsafe { bench_begin(2) };
    let start = time_stamp();
    world.order_raw(&server, agent::REPEAT, order);
    world.settle();
    let stamps = (time_stamp() - start) / ROUNDS;
    // SAFETY: as above.
    unsafe { bench_end(2) };
    diag!(
        "kselftest: bench sendrec (with its share of {ROUNDS} rounds' set-up): {stamps} time stamps, {} ns",
        stamps * 1_000_000 / khz.max(1)
    );
    world.remove(&server);
    world.remove(&client);
    safecopy(world, khz);
}

fn safecopy(world: &mut World, khz: u64) {
    let granter = world.agent("granter", privilege::SERVER, 5);
    let grantee = world.agent("grantee", privilege::SERVER, 5);
    use refault_abi::grant::{DIRECT, READ, State, USED, VALID};
    world.write(granter.arena + 8, u64::from(Endpoint::ANY.raw() as u32));
    world.write(granter.arena + 16, ARENA + PAGE);
    world.write(granter.arena + 24, PAGE);
    world.write(granter.arena, State::new(USED | VALID | DIRECT | READ, 0, 1).0);
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 1]).result, 0, "SETGRANT");
    world.settle();
    let grant = GrantId::new(0, 1).0.cast_unsigned();
    let words = [u64::from(granter.endpoint.raw() as u32), grant, 0, ARENA + PAGE, PAGE];
    measure(3, "safecopy of 4 KiB (with order, report and settling)", khz, || {
        let report = world.call(&grantee, kcall::SAFECOPYFROM, &words);
        same!(report.result, 0, "safecopy");
    });
    world.remove(&granter);
    world.remove(&grantee);
}
