//! Objects: created, loaded, imported. Part 3 §12, §13 and §24.
//!
//! A signing key with a PIN, under a storage root key:
//!
//! ```no_run
//! use tpm2::commands::Sign;
//! use tpm2::crypto::HashAlg;
//! use tpm2::object::{create, create_primary, load};
//! use tpm2::session::Auth;
//! use tpm2::template::{SRK_P256, ecc_signing};
//! use tpm2::types::{Alg, AuthValue, Curve, Hierarchy, SensitiveCreate};
//! use tpm2::Tpm;
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let empty = SensitiveCreate::EMPTY;
//! let (srk, _) = create_primary(&mut tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, empty)?;
//!
//! let with_pin = SensitiveCreate { user_auth: AuthValue::from(b"PIN"), ..empty };
//! let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
//! let (wrapped, _) = create(&mut tpm, srk.object(), Auth::EMPTY, &template, with_pin)?;
//! // `wrapped` can be stored anywhere: only this TPM can read the private part.
//! let key = load(&mut tpm, srk.object(), Auth::EMPTY, &wrapped)?;
//!
//! let digest = HashAlg::Sha256.digest(&[b"a message"]);
//! let sign = Sign::digest(key.object(), (&digest).into());
//! let signature = tpm.run(&sign, [Auth::password(b"PIN")])?.signature;
//! # let _ = signature;
//! tpm.flush(key.handle())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;

use crate::client::Tpm;
use crate::commands::{
    Command, Create, CreatePrimary, EvictControl, Import, Load, LoadExternal, ReadPublic,
};
use crate::crypto::{NameError, object_name};
use crate::error::{Error, Fault};
use crate::session::{Auth, SaltKey};
use crate::transport::Transport;
use crate::types::{
    CreationData, Digest, DigestBuf, EncryptedSecret, Handle, HandleKind, Hierarchy, NameBuf,
    Object, Octets, Private, Provision, Public, ResponseCode, Sensitive, SensitiveCreate, Ticket,
    TicketBuf,
};
use crate::wire::{Malformed, TooLarge, Tpm2b, Unmarshal};

/// Octets of a `TPMT_PUBLIC`, up to RSA of 4096 bits.
const PUBLIC: usize = 640;

/// An object in the TPM, under the Name that was computed here from its public area.
#[derive(Clone)]
pub struct Loaded {
    handle: Handle,
    name: NameBuf,
    public: Octets<PUBLIC>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("handle", &self.handle)
            .field("name", &self.name)
            .field("public", &self.public)
            .finish()
    }
}

impl Loaded {
    /// The object at `handle`, whose public area is known: from the TPM that has just made it, or from a better source than
    /// the TPM.
    ///
    /// # Errors
    /// It can have no Name.
    pub fn new(handle: Handle, public: &Public<'_>) -> Result<Self, NameError> {
        let public_area = Octets::of(public).map_err(|_| NameError::TooLarge)?;
        Ok(Self { handle, name: object_name(public)?, public: public_area })
    }

    /// The same object at another handle.
    pub(crate) fn at(self, handle: Handle) -> Self {
        Self { handle, ..self }
    }

    /// The object as an entity.
    #[must_use]
    pub const fn object(&self) -> Object {
        Object::named(self.handle, self.name)
    }

    /// The handle.
    #[must_use]
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// The Name.
    #[must_use]
    pub const fn name(&self) -> &NameBuf {
        &self.name
    }

    /// Its `TPMT_PUBLIC`, as a verifier wants it.
    #[must_use]
    pub fn public_area(&self) -> &[u8] {
        &self.public
    }

    /// The public area.
    ///
    /// # Errors
    /// Never, since it was written here.
    pub fn public(&self) -> Result<Public<'_>, Malformed> {
        Public::from_bytes(&self.public)
    }

    /// The object as a key that sessions can be salted to.
    ///
    /// # Errors
    /// As [`Self::public`].
    pub fn salt_key(&self) -> Result<SaltKey<'_>, Malformed> {
        Ok(SaltKey::named(self.object(), self.public()?))
    }
}

/// An object outside of the TPM: what its parent can load.
#[derive(Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// `TPMT_PUBLIC`.
    pub public: Octets<PUBLIC>,
    /// The content of `TPM2B_PRIVATE`, which only the parent can read.
    pub private: Octets<{ Private::MAX }>,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Wrapped {
    pub(crate) fn new(public: &Public<'_>, private: Private<'_>) -> Result<Self, TooLarge> {
        Ok(Self { public: Octets::of(public)?, private: Octets::new(private.octets())? })
    }
}

/// How an object was created: what [`certify_creation`](crate::attest::certify_creation) attests.
#[derive(Clone, PartialEq, Eq)]
pub struct Creation {
    /// `TPMS_CREATION_DATA`, as a verifier wants it.
    pub data: Octets<1024>,
    hash: DigestBuf,
    ticket: TicketBuf,
}

impl fmt::Debug for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Creation")
            .field("data", &self.data)
            .field("hash", &self.hash)
            .field("ticket", &self.ticket)
            .finish()
    }
}

impl Creation {
    fn new(
        data: &CreationData<'_>,
        hash: Digest<'_>,
        ticket: Ticket<'_>,
    ) -> Result<Self, TooLarge> {
        Ok(Self { data: Octets::of(data)?, hash: hash.into(), ticket: ticket.into() })
    }

    pub(crate) const fn hash(&self) -> &DigestBuf {
        &self.hash
    }

    pub(crate) const fn ticket(&self) -> &TicketBuf {
        &self.ticket
    }
}

/// The object at a persistent handle; `None` if it does not exist. Its public area is as the TPM returns it: compare it with
/// what is known of the object.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::NotPersistent`], and nothing is sent, if the handle is of another kind.
#[doc(alias = "TPM2_ReadPublic")]
pub fn persistent<T: Transport>(
    tpm: &mut Tpm<T>,
    handle: Handle,
) -> Result<Option<Loaded>, Error<T::Error>> {
    if handle.kind() != HandleKind::PERSISTENT {
        return Err(Error::new(ReadPublic::INFO.code, Fault::NotPersistent(handle)));
    }
    match tpm.run(&ReadPublic { object_handle: Object::unnamed(handle) }, []) {
        Ok(answer) => Loaded::new(handle, &answer.out_public.0)
            .map(Some)
            .map_err(|fault| Error::new(ReadPublic::INFO.code, fault.into())),
        Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an object persistent: it stays in the TPM, at this handle, until [`evict`] removes it. The object itself stays loaded
/// too. `auth` authorizes the hierarchy: the platform's persistent handles begin at 0x81800000, the owner has those before.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::NotPersistent`], and nothing is sent, if the handle is of another kind.
#[doc(alias = "TPM2_EvictControl")]
pub fn persist<T: Transport>(
    tpm: &mut Tpm<T>,
    object: &Loaded,
    handle: Handle,
    hierarchy: Provision,
    auth: Auth<'_>,
) -> Result<Loaded, Error<T::Error>> {
    if handle.kind() != HandleKind::PERSISTENT {
        return Err(Error::of::<EvictControl>(Fault::NotPersistent(handle)));
    }
    let command =
        EvictControl { auth: hierarchy, object_handle: object.object(), persistent_handle: handle };
    tpm.run(&command, [auth])?;
    Ok(object.clone().at(handle))
}

/// Removes a persistent object.
///
/// # Errors
/// As [`persist`].
#[doc(alias = "TPM2_EvictControl")]
pub fn evict<T: Transport>(
    tpm: &mut Tpm<T>,
    object: &Loaded,
    hierarchy: Provision,
    auth: Auth<'_>,
) -> Result<(), Error<T::Error>> {
    persist(tpm, object, object.handle, hierarchy, auth).map(drop)
}

/// Loads a key that the TPM need not have made: a public key to verify with or to encrypt to, or with `sensitive` a whole key,
/// which goes over the bus as it is and is usable until it is flushed.
///
/// `hierarchy` is where tickets for what the key verifies are good; the null hierarchy is the only one for a whole key.
///
/// # Errors
/// As [`Tpm::run`].
#[doc(alias = "TPM2_LoadExternal")]
pub fn load_external<T: Transport>(
    tpm: &mut Tpm<T>,
    public: &Public<'_>,
    sensitive: Option<Sensitive<'_>>,
    hierarchy: Hierarchy,
) -> Result<Loaded, Error<T::Error>> {
    let in_private = sensitive.map(Tpm2b);
    let command = LoadExternal { in_private, ..LoadExternal::public(*public, hierarchy) };
    let handle = tpm.run(&command, [])?.object_handle.handle();
    let loaded = Loaded::new(handle, public).map_err(Error::of::<LoadExternal<'_>>);
    kept(tpm, handle, loaded)
}

/// Creates the primary object of a hierarchy that the template describes.
///
/// # Errors
/// As [`Tpm::run`].
#[doc(alias = "TPM2_CreatePrimary")]
pub fn create_primary<T: Transport>(
    tpm: &mut Tpm<T>,
    hierarchy: Hierarchy,
    auth: Auth<'_>,
    template: &Public<'_>,
    sensitive: SensitiveCreate<'_>,
) -> Result<(Loaded, Creation), Error<T::Error>> {
    let fail = |fault: Fault| Error::new(CreatePrimary::INFO.code, fault);
    let in_sensitive = Tpm2b(sensitive);
    let command = CreatePrimary { in_sensitive, ..CreatePrimary::of(hierarchy, *template) };
    let answer = tpm.run(&command, [auth])?;
    let handle = answer.object_handle.handle();
    let loaded = Loaded::new(handle, &answer.out_public.0).map_err(Fault::from);
    let creation =
        Creation::new(&answer.creation_data.0, answer.creation_hash, answer.creation_ticket);
    let both = loaded.and_then(|loaded| Ok((loaded, creation?)));
    kept(tpm, handle, both.map_err(fail))
}

/// Creates an object under a parent. What is in `sensitive` goes over the bus as it is:
/// [`seal`](crate::seal::seal) encrypts it.
///
/// # Errors
/// As [`Tpm::run`].
#[doc(alias = "TPM2_Create")]
pub fn create<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: Object,
    auth: Auth<'_>,
    template: &Public<'_>,
    sensitive: SensitiveCreate<'_>,
) -> Result<(Wrapped, Creation), Error<T::Error>> {
    let fail = |too_large: TooLarge| Error::new(Create::INFO.code, too_large.into());
    let in_sensitive = Tpm2b(sensitive);
    let command = Create { in_sensitive, ..Create::of(parent, *template) };
    let answer = tpm.run(&command, [auth])?;
    let wrapped = Wrapped::new(&answer.out_public.0, answer.out_private).map_err(fail)?;
    let creation =
        Creation::new(&answer.creation_data.0, answer.creation_hash, answer.creation_ticket);
    Ok((wrapped, creation.map_err(fail)?))
}

/// Loads an object under its parent.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if its public area is malformed.
#[doc(alias = "TPM2_Load")]
pub fn load<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: Object,
    auth: Auth<'_>,
    wrapped: &Wrapped,
) -> Result<Loaded, Error<T::Error>> {
    let fail = |fault: Fault| Error::new(Load::INFO.code, fault);
    let public = Public::from_bytes(&wrapped.public).map_err(|malformed| fail(malformed.into()))?;
    let command = load_command(parent, &public, &wrapped.private).map_err(fail)?;
    let answer = tpm.run(&command, [auth])?;
    let handle = answer.object_handle.handle();
    let loaded = Loaded::new(handle, &public).map_err(|error| fail(error.into()));
    kept(tpm, handle, loaded)
}

/// What was loaded stays in the TPM only if its caller learns of it.
pub(crate) fn kept<T: Transport, V>(
    tpm: &mut Tpm<T>,
    handle: Handle,
    made: Result<V, Error<T::Error>>,
) -> Result<V, Error<T::Error>> {
    made.inspect_err(|_| {
        // Return the first error.
        let _ = tpm.flush(handle);
    })
}

pub(crate) fn load_command<'a>(
    parent: Object,
    public: &Public<'a>,
    private: &'a [u8],
) -> Result<Load<'a>, Fault> {
    let in_private = Private::new(private)?;
    Ok(Load { parent_handle: parent, in_private, in_public: Tpm2b(*public) })
}

/// Takes in what was wrapped to a parent in this TPM, without inner wrap, as by
/// [`duplicate_with`](crate::crypto::duplicate_with).
///
/// # Errors
/// As [`Tpm::run`].
#[doc(alias = "TPM2_Import")]
pub fn import<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: Object,
    auth: Auth<'_>,
    public: &Public<'_>,
    duplicate: Private<'_>,
    seed: EncryptedSecret<'_>,
) -> Result<Wrapped, Error<T::Error>> {
    let answer = tpm.run(&Import::of(parent, *public, duplicate, seed), [auth])?;
    Wrapped::new(public, answer.out_private)
        .map_err(|too_large| Error::new(Import::INFO.code, too_large.into()))
}
