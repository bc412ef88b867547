//! What a host calls its join, so that it can be repeated.
//!
//! The ID of the new instance follows from it. So the write that creates the instance decides whether the join was granted before,
//! also if two authorities are asked at the same time, and nothing else has to be recorded.

use sha2::{Digest, Sha256};

use super::refusal::{Code, Refusal};
use crate::resource::{EkHash, InstanceId, Name};

/// Random bytes that a host has chosen for one join.
#[derive(Clone, Copy)]
pub(crate) struct ChosenId([u8; 16]);

impl ChosenId {
    /// The ID in a message; `None` if it has none.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Refusal> {
        match bytes {
            [] => Ok(None),
            id => match id.try_into() {
                Ok(id) => Ok(Some(Self(id))),
                Err(_) => Err(Refusal::new(Code::Malformed, "the join ID has not 16 bytes")),
            },
        }
    }

    /// The instance that a host becomes by this join. Another host, which has other keys, becomes another one by the same ID.
    pub(super) fn instance(
        self,
        bot: &Name,
        token: &Name,
        ek: &EkHash,
        key_hash: &str,
    ) -> InstanceId {
        let mut hash = Sha256::new_with_prefix(b"endorse.v1 join\0");
        hash.update(self.0);
        for part in [bot.as_str(), token.as_str(), ek.as_str(), key_hash] {
            hash.update(part);
            hash.update(b"\0");
        }
        let mut id = [0; 16];
        id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        InstanceId::chosen(id)
    }
}
