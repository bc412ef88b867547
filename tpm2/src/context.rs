//! Objects put away and brought back: contexts, that the TPM encrypts to itself until its next reset. Part 1 §30.
//!
//! A key that needs no slot of the TPM while it is not used:
//!
//! ```no_run
//! use tpm2::object::create_primary;
//! use tpm2::session::Auth;
//! use tpm2::template::SRK_P256;
//! use tpm2::types::{Hierarchy, SensitiveCreate};
//! use tpm2::{Tpm, context};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let none = SensitiveCreate::EMPTY;
//! let (srk, _) = create_primary(&mut tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, none)?;
//! let saved = context::save(&mut tpm, srk.object())?;
//! tpm.flush(srk.handle())?; // its slot is free
//!
//! let srk = context::load(&mut tpm, &saved)?;
//! # let _ = srk;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::client::Tpm;
use crate::commands::{ContextLoad, ContextSave};
use crate::error::Error;
#[cfg(doc)]
use crate::error::Fault;
use crate::transport::Transport;
use crate::types::{Context, ContextData, Entity, HandleKind, NameBuf, Object, Octets};
use crate::wire::{Malformed, Unmarshal, Why};

/// Octets of a `TPMS_CONTEXT`.
const CONTEXT: usize = 18 + ContextData::MAX;

/// An object that was put away.
#[derive(Clone, Debug)]
pub struct Saved {
    name: Option<NameBuf>,
    context: Octets<CONTEXT>,
}

impl Saved {
    /// A context of which the Name is known, or not: then the object can be used under passwords only.
    #[must_use]
    pub fn new(context: impl Into<Octets<CONTEXT>>, name: Option<NameBuf>) -> Self {
        Self { name, context: context.into() }
    }

    /// The Name, where it is known.
    #[must_use]
    pub const fn name(&self) -> Option<&NameBuf> {
        self.name.as_ref()
    }

    /// `TPMS_CONTEXT`.
    #[must_use]
    pub fn context(&self) -> &[u8] {
        &self.context
    }
}

/// Puts an object away; it stays in the TPM until it is flushed.
///
/// # Errors
/// As [`Tpm::run`].
#[doc(alias = "TPM2_ContextSave")]
pub fn save<T: Transport>(tpm: &mut Tpm<T>, object: Object) -> Result<Saved, Error<T::Error>> {
    let command = ContextSave { save_handle: object.handle() };
    let answer = tpm.run(&command, [])?;
    let context = Octets::of(&answer.context).map_err(Error::of::<ContextSave>)?;
    Ok(Saved { name: object.name(), context })
}

/// Brings an object back, under another handle.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if what was saved is no context, or was the context of a session.
#[doc(alias = "TPM2_ContextLoad")]
pub fn load<T: Transport>(tpm: &mut Tpm<T>, saved: &Saved) -> Result<Object, Error<T::Error>> {
    let context = Context::from_bytes(&saved.context).map_err(Error::of::<ContextLoad<'_>>)?;
    let unexpected = || {
        let malformed = Malformed::new(Why::Unexpected, 0).named("loaded_handle");
        Error::of::<ContextLoad<'_>>(malformed)
    };
    if context.saved_handle.kind() != HandleKind::TRANSIENT {
        return Err(unexpected());
    }
    let handle = tpm.run(&ContextLoad { context }, [])?.loaded_handle;
    if handle.kind() != HandleKind::TRANSIENT {
        return Err(unexpected());
    }
    Ok(saved.name.map_or_else(|| Object::unnamed(handle), |name| Object::named(handle, name)))
}
