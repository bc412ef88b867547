//! What an authority is known by in the store, and the key that opens what is wrapped to it.

use std::fmt;
use std::io;

use host::exit::{Exit, Failure};
use p256::SecretKey;
use p256::elliptic_curve::Generate;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};

use super::wrap::Unwrap;
use super::{AdmissionRequest, KeyringError};
use crate::data_directory::{DataDirectory, Lock, read_private, replace_private};
use crate::resource::Name;

/// P-256, PKCS #8 PEM.
const WRAPPING_KEY: &str = "wrapping.key";

/// The name of an authority whose host has none that could be its name.
const NAMELESS: &str = "authority";

/// An authority's own ID and wrapping key.
pub struct Own {
    pub(super) id: String,
    pub(super) key: Box<dyn Unwrap>,
}

impl Own {
    /// Those of this data directory, made at the first use.
    ///
    /// # Errors
    /// They cannot be read or made, or are damaged.
    pub fn of(directory: &DataDirectory, lock: &Lock) -> Result<Self, Failure> {
        let id = directory.store_id(lock)?;
        let path = directory.path().join(WRAPPING_KEY);
        let shown = path.display();
        let failed = |cause: &io::Error| Failure::io(cause, format!("cannot use {shown}"));
        if path.try_exists().map_err(|cause| failed(&cause))? {
            let key = SecretKey::from_pkcs8_pem(&read_private(&path)?).map_err(|cause| {
                let advice = "restore it from a backup, or remove it and let another authority admit this one again";
                Failure::new(Exit::Data, format!("{shown}: {cause}"), advice)
            })?;
            return Ok(Self { id, key: Box::new(key) });
        }
        let key = SecretKey::try_generate().map_err(Failure::bug)?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(Failure::bug)?;
        replace_private(&path, pem.as_bytes()).map_err(|cause| failed(&cause))?;
        Ok(Self { id, key: Box::new(key) })
    }

    /// Its ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What admits it to a cluster; without a name it has that of its host.
    pub fn request(&self, name: Option<Name>) -> AdmissionRequest {
        let (id, wrapping_key) = (self.id.clone(), self.key.recipient());
        AdmissionRequest { id, name: name.unwrap_or_else(host_name), wrapping_key }
    }
}

/// The host's name from the kernel, as far as it can be a name.
#[expect(clippy::expect_used, reason = "of a constant")]
fn host_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    host.parse().unwrap_or_else(|_| NAMELESS.parse().expect("it is a name"))
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Own {
    /// The text that is wrapped in a slot of this authority.
    pub(super) fn open(&self, key_id: &str, wrapped: &[u8]) -> Result<super::Pem, KeyringError> {
        super::open_slot(&*self.key, key_id, &self.id, wrapped)
    }
}
