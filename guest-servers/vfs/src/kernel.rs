//! What VFS needs from below, as one trait: the seam at which the host tests put a machine of their own.
//!
//! The one thing to hold in mind: no method blocks, but the one that the faithful mode has for exactly that. Sending is
//! asynchronous or tries once; copies fail instead of waiting for VM. `guest.rs` is the implementation that runs; nothing here knows about it.

use refault_abi::counters::Counter;
use refault_abi::grant::Tag;
use refault_abi::{Endpoint, GrantId, Message, Result};

/// What a grantee does to the granted memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The grantee reads it.
    Read,
    /// The grantee writes it.
    Write,
}

/// A magic grant to be made: a user's memory, lent to a file system or driver.
#[derive(Clone, Copy, Debug)]
pub struct UserMemory {
    /// Whose memory.
    pub owner: Endpoint,
    /// Its first address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// What the grantee does to it.
    pub access: Access,
}

/// Whose page was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The granted memory's.
    Granted,
    /// The grantee's own.
    Grantee,
    /// The mark has no room to say (modes `flag` and `id`); then the address says nothing either.
    Unknown,
}

/// A soft fault, as the mark of a grant or the answer of a raw copy describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose page.
    pub side: Side,
    /// The access was a write.
    pub write: bool,
    /// Address that faulted, in the memory of that side.
    pub address: u64,
}

/// A grant that is in force until it is revoked or dropped.
pub trait Granted {
    /// Its name, for the grantee.
    fn id(&self) -> GrantId;
    /// Ends it; says whether a copy through it met an absent page.
    #[must_use = "a mark that nobody looks at is a short read"]
    fn revoke(self) -> Option<Fault>;
}

/// How a raw copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// A page of the user's is not there.
    Fault(Fault),
    /// Anything else.
    Other(refault_abi::Errno),
}

/// The machine below VFS.
pub trait Kernel: 'static {
    /// A grant over memory that lives for `'a`.
    type Grant<'a>: Granted;
    /// A note that a request waits, for the kernel's wait-for graph; it ends when dropped.
    type Wait;

    /// Notes that the request of `client` waits: for the process `target`, or for another request of VFS's own, that of `other`.
    fn waits(&self, client: Endpoint, target: Endpoint, other: Endpoint, why: &'static str) -> Self::Wait;
    /// Sends and waits until it has been received. Faithful mode only: whoever does that can be made to wait for ever.
    fn send(&self, to: Endpoint, message: &Message);

    /// Asks VM something that it answers on the spot, and waits for that.
    fn ask_vm(&self, message: &Message) -> Result<Message>;

    /// Sends without waiting: at once if the receiver is ready, else when it will be.
    fn post(&self, to: Endpoint, message: &Message) -> Result<()>;
    /// Answers a process without waiting; one try. `waits`: its request came by SENDREC, so that it is receiving now.
    fn answer(&self, to: Endpoint, message: &Message, waits: bool);
    /// Lends a user's memory.
    fn grant_user(
        &self,
        grantee: Endpoint,
        memory: &UserMemory,
        cpf_try: bool,
        tag: Tag,
    ) -> Result<Self::Grant<'static>>;
    /// Lends VFS's own bytes for reading.
    fn lend<'a>(&self, grantee: Endpoint, bytes: &'a [u8]) -> Result<Self::Grant<'a>>;
    /// Lends VFS's own bytes for writing.
    fn lend_mut<'a>(&self, grantee: Endpoint, bytes: &'a mut [u8]) -> Result<Self::Grant<'a>>;
    /// Copies from a user's memory; an absent page is an error at once.
    fn copy_in(&self, from: Endpoint, address: u64, bytes: &mut [u8]) -> core::result::Result<(), CopyError>;
    /// Copies to a user's memory; an absent page is an error at once.
    fn copy_out(&self, to: Endpoint, address: u64, bytes: &[u8]) -> core::result::Result<(), CopyError>;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);
}
