//! Grants: copies, every refusal, chains, vectors, and the soft fault with its mark.

use refault_abi::grant::{DIRECT, GrantId, INDIRECT, MAGIC, READ, State, TRY, USED, VALID, WRITE, mark};
use refault_abi::kcall::{self, privilege};
use refault_abi::layout::{PAGE, USER_END, pte};
use refault_abi::{Endpoint, Errno};

use crate::same;
use crate::world::{ARENA, ARENA_PAGES, ARENA_PRESENT, Agent, World};

/// The granter's table lies in the first page of its arena, data in the others.
pub const DATA: u64 = ARENA + PAGE;
/// An absent page of the arena.
pub const ABSENT: u64 = ARENA + ARENA_PRESENT * PAGE;
const READY: u16 = USED | VALID;

/// A result.
pub fn code(error: Errno) -> i64 {
    i64::from(error.code())
}

/// What goes into a table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Flags.
    pub flags: u16,
    /// Sequence.
    pub sequence: u32,
    /// For whom.
    pub grantee: Endpoint,
    /// Owner, or previous granter.
    pub other: Endpoint,
    /// First address, or previous id.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

/// A page of the granter's own memory, sequence 7.
pub fn plain(flags: u16, grantee: Endpoint, start: u64) -> Entry {
    Entry { flags: READY | DIRECT | flags, sequence: 7, grantee, other: Endpoint::NONE, start, length: PAGE }
}

/// A page of somebody else's memory, sequence 7.
pub fn entry_for(flags: u16, grantee: Endpoint, owner: Endpoint, start: u64) -> Entry {
    Entry { flags: READY | MAGIC | flags, other: owner, ..plain(flags, grantee, start) }
}

/// Puts an entry into a granter's table, unmarked.
pub fn put(world: &World, granter: &Agent, index: u64, entry: &Entry) {
    let at = granter.arena + index * 64;
    world.write(at + 8, u64::from(entry.grantee.raw() as u32) | u64::from(entry.other.raw() as u32) << 32);
    world.write(at + 16, entry.start);
    world.write(at + 24, entry.length);
    world.write(at + 32, u64::MAX);
    world.write(at + 40, 0);
    world.write(at, State::new(entry.flags, 0, entry.sequence).0);
}

/// Makes entry `index` a grant to anybody, sequence 7; its id.
pub fn direct(world: &World, granter: &Agent, index: u64, flags: u16, start: u64, length: u64) -> i64 {
    let entry = Entry {
        flags: READY | DIRECT | flags,
        sequence: 7,
        grantee: Endpoint::ANY,
        other: Endpoint::NONE,
        start,
        length,
    };
    put(world, granter, index, &entry);
    GrantId::new(index as u32, 7).0
}

/// SAFECOPY by `agent` of a range (offset into the grant, own address, bytes): result and bytes moved.
pub fn safecopy(
    world: &mut World,
    agent: &Agent,
    number: u16,
    granter: Endpoint,
    grant: i64,
    range: [u64; 3],
) -> (i64, u64) {
    world.settle();
    world.start_safecopy(agent, number, granter, grant, range);
    world.safecopy_report(agent)
}

impl World {
    /// Starts a safecopy: offset, own address, bytes.
    pub fn start_safecopy(
        &mut self,
        agent: &Agent,
        number: u16,
        granter: Endpoint,
        grant: i64,
        [offset, address, bytes]: [u64; 3],
    ) {
        let words = [u64::from(granter.raw() as u32), grant.cast_unsigned(), offset, address, bytes];
        self.start_call(agent, number, &words);
    }

    fn safecopy_report(&mut self, agent: &Agent) -> (i64, u64) {
        let report = self.report(agent);
        (report.result, report.words[5])
    }
}

/// All cases.
pub fn run(world: &mut World) {
    let granter = world.agent("granter", privilege::SERVER, 5);
    let grantee = world.agent("grantee", privilege::SERVER, 5);
    same!(
        world.call(&granter, kcall::SETGRANT, &[ARENA + 32, 8]).result,
        code(Errno::EINVAL),
        "misaligned table"
    );
    same!(
        world.call(&granter, kcall::SETGRANT, &[USER_END - 63, 8]).result,
        code(Errno::EINVAL),
        "table outside"
    );
    same!(
        world.call(&granter, kcall::SETGRANT, &[ARENA, 1 << 60]).result,
        code(Errno::EINVAL),
        "table too long"
    );
    same!(
        safecopy(world, &grantee, kcall::SAFECOPYFROM, granter.endpoint, 0, [0, DATA, 8]).0,
        code(Errno::EPERM),
        "no table"
    );
    same!(world.call(&granter, kcall::SETGRANT, &[ARENA, 32]).result, 0, "SETGRANT");
    copies(world, &granter, &grantee);
    refusals(world, &granter, &grantee);
    chains(world, &granter, &grantee);
    faults(world, &granter, &grantee);
    suspension(world, &granter, &grantee);
    long_vector(world, &granter, &grantee);
    world.remove(&granter);
    world.remove(&grantee);
}

fn copies(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = direct(world, granter, 0, READ | WRITE, DATA + 3, 3 * PAGE);
    for word in 0..4 * 512 {
        world.write(granter.arena + PAGE + word * 8, word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    let (from, to) = (kcall::SAFECOPYFROM, kcall::SAFECOPYTO);
    let result = safecopy(world, grantee, from, granter.endpoint, grant, [5, DATA + 1, 2 * PAGE + 77]);
    same!(result, (0, 2 * PAGE + 77), "misaligned copy over three pages");
    let right = (0..2 * PAGE + 77).all(|at| {
        // SAFETY: both bytes are RAM the test owns.
        unsafe {
            *world.window::<u8>(granter.arena + PAGE + 8 + at)
                == *world.window::<u8>(grantee.arena + PAGE + 1 + at)
        }
    });
    same!(right, true, "bytes of the copy");
    same!(world.read(grantee.arena + PAGE) & 0xff, 0, "byte before the buffer");
    world.write(grantee.arena + PAGE, 0x1122_3344_5566_7788);
    same!(safecopy(world, grantee, to, granter.endpoint, grant, [0, DATA, 8]), (0, 8), "copy to a grant");
    same!(world.read(granter.arena + PAGE) >> 24, 0x44_5566_7788, "bytes of the copy to a grant");
    same!(
        world.call(grantee, kcall::SAFEMEMSET, &[memset_head(granter, 0xee), grant as u64, 16, 16]).result,
        0,
        "SAFEMEMSET"
    );
    same!(world.read(granter.arena + PAGE + 24), 0xeeee_eeee_eeee_eeee, "SAFEMEMSET's bytes");
    // A vector: two good elements, then a bad one.
    let element = |index: u64, words: [u64; 6]| {
        for (word, value) in words.into_iter().enumerate() {
            world.write(grantee.arena + 4 * PAGE + index * 48 + word as u64 * 8, value);
        }
    };
    let own = Endpoint::SELF.raw() as u32 as u64;
    let theirs = u64::from(granter.endpoint.raw() as u32);
    element(0, [theirs | own << 32, grant as u64, 0, DATA, 8, 0]);
    element(1, [own | theirs << 32, grant as u64, 64, DATA, 8, 0]);
    element(2, [own | own << 32, grant as u64, 64, DATA, 8, 0]);
    let vector = ARENA + 4 * PAGE;
    same!(world.call(grantee, kcall::VSAFECOPY, &[vector, 2]).result, 0, "VSAFECOPY");
    same!(
        world.call(grantee, kcall::VSAFECOPY, &[vector, 3]).result,
        code(Errno::EINVAL),
        "VSAFECOPY with SELF twice"
    );
    same!(world.call(grantee, kcall::VSAFECOPY, &[vector, 0]).result, 0, "VSAFECOPY of nothing");
    same!(
        world.call(grantee, kcall::VSAFECOPY, &[vector, 65]).result,
        code(Errno::EINVAL),
        "VSAFECOPY of too much"
    );
    same!(
        world.call(grantee, kcall::VSAFECOPY, &[vector, u64::MAX]).result,
        code(Errno::EINVAL),
        "VSAFECOPY of far too much"
    );
}

/// A vector of more elements than a call has suspensions without progress, each into a page that is not there yet.
fn long_vector(world: &mut World, granter: &Agent, grantee: &Agent) {
    const ELEMENTS: u64 = ARENA_PAGES - ARENA_PRESENT;
    let grant = direct(world, granter, 0, READ, DATA, PAGE);
    for index in 0..ELEMENTS {
        let parties = u64::from(granter.endpoint.raw() as u32) | u64::from(Endpoint::SELF.raw() as u32) << 32;
        for (word, value) in [parties, grant as u64, 0, ABSENT + index * PAGE, 64, 0].into_iter().enumerate()
        {
            world.write(grantee.arena + 4 * PAGE + index * 48 + word as u64 * 8, value);
        }
    }
    world.settle();
    world.start_call(grantee, kcall::VSAFECOPY, &[ARENA + 4 * PAGE, ELEMENTS]);
    world.settle();
    let mut requests = 0;
    while let Some(request) = world.memory_request() {
        requests += 1;
        let user = pte::PRESENT | pte::USER | pte::WRITABLE;
        world.map(grantee.root, request.address, grantee.arena + (request.address - ARENA), user);
        same!(world.answer_memory_request(&request, 0), 0, "MEMREQ_REPLY");
    }
    same!(requests, ELEMENTS, "a request for each page");
    same!(world.report(grantee).result, 0, "VSAFECOPY into pages that come one by one");
    let mut message = refault_abi::Message::default();
    let (_, _) = crate::trap::primitive(
        refault_abi::ipc::Call::ReceiveNb,
        Endpoint::NONE,
        Endpoint::ANY,
        &mut message,
    );
}

/// The first word of SAFEMEMSET.
pub fn memset_head(granter: &Agent, byte: u64) -> u64 {
    u64::from(granter.endpoint.raw() as u32) | byte << 32
}

fn refusals(world: &mut World, granter: &Agent, grantee: &Agent) {
    let from = kcall::SAFECOPYFROM;
    let it = granter.endpoint;
    let grant = direct(world, granter, 1, READ, DATA, PAGE);
    let cases = [
        (Endpoint::NONE, grant, 0, DATA, 8, Errno::EFAULT),
        (Endpoint::from_raw(63), grant, 0, DATA, 8, Errno::EINVAL),
        (it, -1, 0, DATA, 8, Errno::EINVAL),
        (it, i64::MAX, 0, DATA, 8, Errno::EINVAL),
        (it, GrantId::new(32, 7).0, 0, DATA, 8, Errno::EPERM),
        (it, GrantId::new(31, 0).0, 0, DATA, 8, Errno::EPERM),
        (it, GrantId::new(1, 6).0, 0, DATA, 8, Errno::EPERM),
        (it, grant, PAGE - 7, DATA, 8, Errno::EPERM),
        (it, grant, u64::MAX, DATA, 8, Errno::EPERM),
        (it, grant, 0, DATA, u64::MAX, Errno::EPERM),
        (it, grant, 0, DATA, 0, Errno::EDOM),
        (it, grant, 0, USER_END - 4, 8, Errno::EFAULT),
        (it, grant, 0, u64::MAX - 3, 8, Errno::EFAULT),
        (it, grant, 0, 0xffff_ffff_8010_0000, 8, Errno::EFAULT),
    ];
    for (granter, grant, offset, address, bytes, error) in cases {
        let result = safecopy(world, grantee, from, granter, grant, [offset, address, bytes]).0;
        same!(result, code(error), "refusal");
    }
    same!(safecopy(world, grantee, from, it, grant, [PAGE - 8, DATA, 8]), (0, 8), "up to the end");
    same!(
        safecopy(world, grantee, kcall::SAFECOPYTO, it, grant, [0, DATA, 8]).0,
        code(Errno::EPERM),
        "write access not granted"
    );
    let bad =
        |flags, grantee, other, start, length| Entry { flags, sequence: 0, grantee, other, start, length };
    let any = Endpoint::ANY;
    let entries = [
        bad(USED | DIRECT | READ, any, any, DATA, PAGE),
        bad(VALID | DIRECT | READ, any, any, DATA, PAGE),
        bad(READY | READ, any, any, DATA, PAGE),
        bad(READY | DIRECT | READ, it, any, DATA, PAGE),
        bad(READY | DIRECT | READ, any, any, u64::MAX - 8, PAGE),
        bad(READY | MAGIC | READ, any, it, DATA, PAGE),
        bad(READY | DIRECT | MAGIC | READ, any, it, DATA, PAGE),
    ];
    for entry in entries {
        put(world, granter, 2, &entry);
        let result = safecopy(world, grantee, from, it, GrantId::new(2, 0).0, [0, DATA, 8]).0;
        same!(result, code(Errno::EPERM), "bad entry");
    }
}

fn chains(world: &mut World, granter: &Agent, grantee: &Agent) {
    // Entry 10 is the grant, 11 to 16 refer to one another in a row, all made by the granter to itself.
    let it = granter.endpoint;
    direct(world, granter, 10, READ, DATA, PAGE);
    for hop in 1..=6u64 {
        let previous = GrantId::new(9 + hop as u32, if hop == 1 { 7 } else { 0 }).0;
        let entry = Entry {
            flags: READY | INDIRECT,
            sequence: 0,
            grantee: Endpoint::ANY,
            other: it,
            start: previous.cast_unsigned(),
            length: 0,
        };
        put(world, granter, 10 + hop, &entry);
    }
    let from = kcall::SAFECOPYFROM;
    same!(safecopy(world, grantee, from, it, GrantId::new(15, 0).0, [0, DATA, 8]), (0, 8), "chain of five");
    same!(
        safecopy(world, grantee, from, it, GrantId::new(16, 0).0, [0, DATA, 8]).0,
        code(Errno::ELOOP),
        "chain of six"
    );
}

fn faults(world: &mut World, granter: &Agent, grantee: &Agent) {
    let from = kcall::SAFECOPYFROM;
    let to = kcall::SAFECOPYTO;
    let it = granter.endpoint;
    let last = ABSENT - PAGE;
    // The granted range ends in an absent page; the copy starts 100 bytes before it.
    let grant = direct(world, granter, 20, READ | WRITE | TRY, last, 2 * PAGE);
    let entry = granter.arena + 20 * 64;
    same!(
        safecopy(world, grantee, from, it, grant, [PAGE - 100, DATA, 300]),
        (code(Errno::EFAULT), 100),
        "TRY at an absent page"
    );
    let state = State(world.read(entry));
    same!(state.mark(), mark::FAULTED, "mark of a read");
    same!(world.read(entry + 40), ABSENT, "address of the mark");
    same!((state.flags() & TRY, state.sequence()), (TRY, 7), "rest of the word");
    direct(world, granter, 20, READ | WRITE | TRY, last, 2 * PAGE);
    same!(
        safecopy(world, grantee, to, it, grant, [PAGE, DATA, 300]),
        (code(Errno::EFAULT), 0),
        "TRY at the first byte"
    );
    same!(State(world.read(entry)).mark(), mark::FAULTED | mark::WRITE_ACCESS, "mark of a write");
    // The grantee's own buffer.
    direct(world, granter, 20, READ | WRITE | TRY, DATA, PAGE);
    same!(
        safecopy(world, grantee, from, it, grant, [0, ABSENT - 8, 64]),
        (code(Errno::EFAULT), 8),
        "TRY, own buffer absent"
    );
    let grantee_write = mark::FAULTED | mark::GRANTEE_SIDE | mark::WRITE_ACCESS;
    same!(State(world.read(entry)).mark(), grantee_write, "mark of the grantee's side");
    // A page that is there but may not be written.
    let entry_of_page = world.unmap(granter.root, DATA);
    world.map(granter.root, DATA, entry_of_page & pte::ADDRESS, pte::PRESENT | pte::USER);
    direct(world, granter, 20, READ | WRITE | TRY, DATA, PAGE);
    same!(
        safecopy(world, grantee, to, it, grant, [0, DATA, 64]),
        (code(Errno::EFAULT), 0),
        "TRY, read-only page"
    );
    same!(State(world.read(entry)).mark(), mark::FAULTED | mark::WRITE_ACCESS, "mark of a read-only page");
    same!(safecopy(world, grantee, from, it, grant, [0, DATA, 64]), (0, 64), "reading it is fine");
    world.map(granter.root, DATA, entry_of_page & pte::ADDRESS, pte::PRESENT | pte::USER | pte::WRITABLE);
    // SAFEMEMSET honours TRY (hardened is the default policy).
    direct(world, granter, 20, WRITE | TRY, last, 2 * PAGE);
    let words = [memset_head(granter, 1), grant as u64, PAGE - 4, 8];
    same!(world.call(grantee, kcall::SAFEMEMSET, &words).result, code(Errno::EFAULT), "SAFEMEMSET with TRY");
    same!(State(world.read(entry)).mark(), mark::FAULTED | mark::WRITE_ACCESS, "mark of SAFEMEMSET");
    // Permission errors leave no mark.
    direct(world, granter, 20, READ | TRY, DATA, PAGE);
    same!(
        safecopy(world, grantee, to, it, grant, [0, DATA, 8]).0,
        code(Errno::EPERM),
        "permission error under TRY"
    );
    same!(State(world.read(entry)).mark(), 0, "no mark");
    // The final grant of a chain is marked, not the one on the way.
    direct(world, granter, 20, READ | TRY, ABSENT, PAGE);
    let via = Entry {
        flags: READY | INDIRECT,
        sequence: 3,
        grantee: Endpoint::ANY,
        other: it,
        start: grant.cast_unsigned(),
        length: 0,
    };
    put(world, granter, 21, &via);
    let result = safecopy(world, grantee, from, it, GrantId::new(21, 3).0, [0, DATA, 8]);
    same!(result, (code(Errno::EFAULT), 0), "fault through a chain");
    same!(State(world.read(entry)).mark(), mark::FAULTED, "final grant marked");
    same!(State(world.read(granter.arena + 21 * 64)).mark(), 0, "grant on the way not marked");
}

fn suspension(world: &mut World, granter: &Agent, grantee: &Agent) {
    let grant = direct(world, granter, 22, READ | WRITE, ABSENT - PAGE, 3 * PAGE);
    same!(world.memory_request().is_none(), true, "no request yet");
    world.settle();
    world.start_safecopy(grantee, kcall::SAFECOPYTO, granter.endpoint, grant, [PAGE - 8, DATA, PAGE + 16]);
    world.settle();
    same!(world.state(grantee), (kcall::rts::VMREQUEST, Endpoint::VM), "suspended on VM");
    // The signal arrives as a notification.
    let mut message = refault_abi::Message::default();
    let any = Endpoint::ANY;
    let (result, _) =
        crate::trap::primitive(refault_abi::ipc::Call::ReceiveNb, Endpoint::NONE, any, &mut message);
    same!((result, message.sender()), (0, Endpoint::HARDWARE), "VM is notified");
    same!(message.payload[1], 1 << 63, "by the KMEM signal");
    let Some(request) = world.memory_request() else {
        return crate::check(false, format_args!("no request"));
    };
    same!(
        (request.endpoint, request.address, request.bytes, request.value),
        (granter.endpoint.raw(), ABSENT, PAGE + 8, 1),
        "what is needed"
    );
    same!(request.requestor, grantee.endpoint.raw(), "who waits");
    same!(world.memory_request().is_none(), true, "one request");
    // One page is made present: the call starts again and suspends at the next.
    let user = pte::PRESENT | pte::USER | pte::WRITABLE;
    world.map(granter.root, ABSENT, granter.arena + ARENA_PRESENT * PAGE, user);
    same!(world.answer_memory_request(&request, 0), 0, "MEMREQ_REPLY");
    same!(world.answer_memory_request(&request, 0), code(Errno::EINVAL), "a second answer");
    let Some(request) = world.memory_request() else {
        return crate::check(false, format_args!("no second request"));
    };
    same!((request.address, request.bytes), (ABSENT + PAGE, 8), "the next page");
    world.map(granter.root, ABSENT + PAGE, granter.arena + (ARENA_PRESENT + 1) * PAGE, user);
    same!(world.answer_memory_request(&request, 0), 0, "MEMREQ_REPLY");
    same!(world.report(grantee).result, 0, "the copy ends well");
    // An answer with an error ends the call with it.
    direct(world, granter, 22, READ, ABSENT + 2 * PAGE, PAGE);
    world.settle();
    world.start_safecopy(grantee, kcall::SAFECOPYFROM, granter.endpoint, grant, [0, DATA, 8]);
    world.settle();
    let Some(request) = world.memory_request() else {
        return crate::check(false, format_args!("no third request"));
    };
    same!(world.answer_memory_request(&request, code(Errno::EFAULT)), 0, "MEMREQ_REPLY with an error");
    same!(world.report(grantee).result, code(Errno::EFAULT), "the error arrives");
    let (_, _) = crate::trap::primitive(refault_abi::ipc::Call::ReceiveNb, Endpoint::NONE, any, &mut message);
}
