//! A disk's name, which its driver can ask for.

use super::request::ID_LEN;

/// A disk's name as the guest reads it: up to 20 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskId(pub(super) [u8; ID_LEN]);

/// Not a name for a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The disk serial {0:?} is not 1 to {ID_LEN} printable ASCII characters; give a shorter or plainer one"
)]
pub struct BadDiskId(pub String);

impl std::str::FromStr for DiskId {
    type Err = BadDiskId;

    fn from_str(name: &str) -> Result<Self, BadDiskId> {
        let mut id = [0; ID_LEN];
        let printable = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        match id.get_mut(..name.len()) {
            Some(front) if printable => front.copy_from_slice(name.as_bytes()),
            _ => return Err(BadDiskId(name.to_owned())),
        }
        Ok(Self(id))
    }
}
