//! Data that a TPM gives back only if a policy is met, such as that PCRs hold what they held, and that a PIN is known.
//! Part 1 §37.
//!
//! The data are encrypted on the bus both ways: all commands that carry them ride on a session that is salted to the parent.
//! A PIN is proven, and not sent, where the policy has [`Step::AuthValue`](crate::policy::Step::AuthValue).
//!
//! The module [`policy`](crate::policy) has an example.
//!
//! Given back for a PIN, and only as long as PCR 7 holds what it holds now:
//!
//! ```no_run
//! use tpm2::crypto::HashAlg;
//! use tpm2::object::create_primary;
//! use tpm2::policy::{Policy, Step};
//! use tpm2::seal::{seal, unseal};
//! use tpm2::session::Auth;
//! use tpm2::template::SRK_P256;
//! use tpm2::types::{Alg, Digest, Hierarchy, PcrBits, SensitiveCreate};
//! use tpm2::wire::List;
//! use tpm2::{Tpm, pcr};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let (auth, none) = (Auth::EMPTY, SensitiveCreate::EMPTY);
//! let (srk, _) = create_primary(&mut tpm, Hierarchy::Owner, auth, &SRK_P256, none)?;
//!
//! let selected = PcrBits::of(&[7]).ok_or("not a PCR")?;
//! let pcrs = [selected.bank(Alg::SHA256)];
//! let now = pcr::digest(&mut tpm, HashAlg::Sha256, &pcrs)?;
//! let steps = [Step::Pcr { pcrs: List::new(&pcrs), digest: Digest::from(&now) }, Step::AuthValue];
//! let policy = Policy::new(&steps);
//!
//! let digest = policy.digest(HashAlg::Sha256)?;
//! let sealed = seal(&mut tpm, &srk, Auth::EMPTY, b"secret", &digest, b"PIN")?;
//! let data = unseal(&mut tpm, &srk, Auth::EMPTY, &sealed, &policy, b"PIN")?;
//! assert_eq!(data.expose(), b"secret");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::client::Tpm;
use crate::commands::{Create, Load, StartAuthSession, Unseal};
use crate::crypto::{HashAlg, PolicyDigest};
use crate::error::{Error, Fault};
use crate::object::{Loaded, Wrapped, kept, load_command};
use crate::policy::Policy;
use crate::session::{Auth, Encryption, NewSession, SaltKey, Salted};
use crate::transport::Transport;
use crate::types::{
    AuthValue, Data, Digest, Id, KeyedHashPublic, KeyedHashScheme, ObjectAttributes, Public,
    SensitiveCreate, SensitiveData, SensitiveDataBuf, SessionType,
};
use crate::wire::{List, Tpm2b, Unmarshal};

/// Sealed data: nothing but the policy gives them.
const ATTRIBUTES: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::ADMIN_WITH_POLICY);

/// Seals data, at most 128 octets, under a policy whose hash becomes the name algorithm. `auth` authorizes the use of the
/// parent, a storage key.
///
/// `value` is what the policy asks for by `TPM2_PolicyAuthValue` or `TPM2_PolicyPassword`, and empty if it does not. If it
/// is not empty, wrong tries count towards a lockout of the TPM.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::TooLong`] if there are too many data; [`Fault::NoPolicy`] if the policy has no step, which
/// any session would satisfy; [`Fault::Salt`] if no secret can be shared through the parent.
#[doc(alias = "TPM2_Create")]
pub fn seal<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    auth: Auth<'_>,
    data: &[u8],
    policy: &PolicyDigest,
    value: &[u8],
) -> Result<Wrapped, Error<T::Error>> {
    let fail = Error::of::<Create<'_>>;
    if *policy == PolicyDigest::new(policy.hash()) {
        return Err(fail(Fault::NoPolicy));
    }
    let tries = if value.is_empty() { ObjectAttributes::NO_DA } else { ObjectAttributes::NONE };
    let scheme = KeyedHashScheme::Null;
    let template = Public {
        name_alg: policy.hash().alg(),
        attributes: ATTRIBUTES.with(tries),
        auth_policy: policy.digest(),
        id: Id::KeyedHash(KeyedHashPublic { scheme, unique: Digest::EMPTY }),
    };
    let sensitive = SensitiveCreate {
        user_auth: AuthValue::new(value).map_err(|error| fail(error.into()))?,
        data: SensitiveData::new(data).map_err(|error| fail(error.into()))?,
    };
    let command = Create {
        parent_handle: parent.object(),
        in_sensitive: Tpm2b(sensitive),
        in_public: Tpm2b(template),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    protected(tpm, parent, |tpm, session| {
        let answer = tpm.secured(session).run(&command, [auth])?;
        Wrapped::new(&answer.out_public.0, answer.out_private).map_err(|error| fail(error.into()))
    })
}

/// Unseals data by the policy that they were sealed under, which is run in a session of its own. `auth` authorizes the use
/// of the parent; `value` is the data's authorization value, if the policy asks for it.
///
/// # Errors
/// As [`Tpm::run`]; refused with [`POLICY_FAIL`](crate::types::ResponseCode::POLICY_FAIL) if it is another policy, with
/// [`VALUE`](crate::types::ResponseCode::VALUE) by `TPM2_PolicyPCR` if PCRs hold something else;
/// [`Fault::Unanswered`] if the policy needs more than a [`Policy::run`] has: then use [`unseal_by`].
#[doc(alias = "TPM2_Unseal")]
pub fn unseal<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    auth: Auth<'_>,
    sealed: &Wrapped,
    policy: &Policy<'_>,
    value: &[u8],
) -> Result<SensitiveDataBuf, Error<T::Error>> {
    with_loaded(tpm, parent, auth, sealed, |tpm, session, item| {
        let hash = item.public().map(|public| HashAlg::try_from(public.name_alg));
        let hash = hash.map_err(Error::of::<Load<'_>>)?;
        let hash = hash.map_err(Error::of::<StartAuthSession<'_>>)?;
        // A session of the object's hash. It does not encrypt, since it would do so with the object's authorization value
        // too, which a policy need not ask for. Part 1 §21.2.
        let session_of_policy = tpm.start(&NewSession::policy(hash))?;
        let met = policy.run(tpm, &session_of_policy);
        if let Err(error) = met {
            // Return the first error.
            let _ = tpm.end(session_of_policy);
            return Err(error);
        }
        opened(tpm, session, item, session_of_policy.last_auth(value))
    })
}

/// As [`unseal`], where `policy` is a policy session in which the policy has been run.
///
/// # Errors
/// As [`Tpm::run`].
#[doc(alias = "TPM2_Unseal")]
pub fn unseal_by<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    auth: Auth<'_>,
    sealed: &Wrapped,
    policy: Auth<'_>,
) -> Result<SensitiveDataBuf, Error<T::Error>> {
    with_loaded(tpm, parent, auth, sealed, |tpm, session, item| opened(tpm, session, item, policy))
}

fn opened<T: Transport>(
    tpm: &mut Tpm<T>,
    session: &mut Salted,
    item: &Loaded,
    policy: Auth<'_>,
) -> Result<SensitiveDataBuf, Error<T::Error>> {
    let command = Unseal { item_handle: item.object() };
    let answer = tpm.secured(session).run(&command, [policy])?;
    let data = SensitiveDataBuf::new(answer.out_data.octets());
    data.ok_or_else(|| Error::of::<Unseal>(Fault::TooLarge))
}

/// Loads the item, lets `work` use it, and flushes it however that ends.
fn with_loaded<T: Transport, R>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    auth: Auth<'_>,
    sealed: &Wrapped,
    work: impl FnOnce(&mut Tpm<T>, &mut Salted, &Loaded) -> Result<R, Error<T::Error>>,
) -> Result<R, Error<T::Error>> {
    let public = Public::from_bytes(&sealed.public).map_err(Error::of::<Load<'_>>)?;
    let load = load_command(parent.object(), &public, &sealed.private);
    let load = load.map_err(Error::of::<Load<'_>>)?;
    protected(tpm, parent, |tpm, session| {
        let handle = tpm.secured(session).run(&load, [auth])?.object_handle.handle();
        let item = Loaded::new(handle, &public).map_err(Error::of::<Load<'_>>);
        let item = kept(tpm, handle, item)?;
        let result = work(tpm, session, &item);
        let flushed = tpm.flush(handle);
        result.and_then(|result| flushed.map(|()| result))
    })
}

/// Lets `work` use a session that is salted to the parent.
fn protected<T: Transport, R>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    work: impl FnOnce(&mut Tpm<T>, &mut Salted) -> Result<R, Error<T::Error>>,
) -> Result<R, Error<T::Error>> {
    let fail = Error::of::<StartAuthSession<'_>>;
    let salt: SaltKey<'_> = parent.salt_key().map_err(|error| fail(error.into()))?;
    let plan = salt.new_session(SessionType::HMAC, Encryption::On).map_err(fail)?;
    tpm.with_session(&plan, work)
}
