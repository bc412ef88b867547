//! Data that a TPM gives back only if a policy is met, such as that PCRs hold what they held. Part 1 §37.
//!
//! The data are encrypted on the bus both ways: all commands that carry them ride on a session that is salted to the parent.

use std::vec::Vec;

use zeroize::Zeroizing;

use crate::client::Tpm;
use crate::commands::{Command, Create, Load, PolicyPcr, StartAuthSession, Unseal};
use crate::crypto::HashAlg;
use crate::error::{Error, Fault};
use crate::object::{Loaded, Wrapped, kept, load_command};
use crate::session::{Auth, Encryption, Salted};
use crate::transport::Transport;
use crate::types::{
    Alg, AuthValue, Data, Digest, Entity, Id, KeyedHashPublic, KeyedHashScheme, ObjectAttributes,
    PcrSelection, Public, SensitiveCreate, SensitiveData, SessionType,
};
use crate::wire::{List, Tpm2b, Unmarshal};

/// Sealed data: nothing but the policy gives them, and a wrong try counts for no lockout.
const ATTRIBUTES: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::ADMIN_WITH_POLICY)
    .with(ObjectAttributes::NO_DA);

/// Seals data, at most 128 octets, under a policy with SHA-256, such as [`PolicyDigest`](crate::crypto::PolicyDigest)
/// computes. `auth` authorizes the use of the parent, a storage key.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::TooLarge`] if there are too many data; [`Fault::NoPolicy`] if the policy is empty;
/// [`Fault::Salt`] if no secret can be shared through the parent.
pub fn seal<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    auth: Auth<'_>,
    data: &[u8],
    policy: Digest<'_>,
) -> Result<Wrapped, Error> {
    let fail = |fault: Fault| Error::new(Create::INFO.code, fault);
    if policy.octets().is_empty() {
        return Err(fail(Fault::NoPolicy));
    }
    let sensitive = SensitiveData::new(data).map_err(|too_large| fail(too_large.into()))?;
    let scheme = KeyedHashScheme::Null;
    let template = Public {
        name_alg: Alg::SHA256,
        attributes: ATTRIBUTES,
        auth_policy: policy,
        id: Id::KeyedHash(KeyedHashPublic { scheme, unique: Digest::EMPTY }),
    };
    let command = Create {
        parent_handle: parent.object(),
        in_sensitive: Tpm2b(SensitiveCreate { user_auth: AuthValue::EMPTY, data: sensitive }),
        in_public: Tpm2b(template),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    let salt = parent.salt_key().map_err(|malformed| fail(malformed.into()))?;
    let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let wrapped = tpm.secured(&mut session).run(&command, [auth]).and_then(|answer| {
        Wrapped::new(&answer.out_public.0, answer.out_private)
            .map_err(|too_large| fail(too_large.into()))
    });
    let flushed = tpm.flush(session.handle().handle());
    wrapped.and_then(|wrapped| flushed.map(|()| wrapped))
}

/// Unseals data that were sealed under the policy that these PCRs hold what they held. `auth` authorizes the use of the
/// parent.
///
/// # Errors
/// As [`Tpm::run`]; refused with [`POLICY_FAIL`](crate::types::ResponseCode::POLICY_FAIL) if the PCRs hold something else.
pub fn unseal<T: Transport>(
    tpm: &mut Tpm<T>,
    parent: &Loaded,
    auth: Auth<'_>,
    sealed: &Wrapped,
    pcrs: &[PcrSelection<'_>],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let fail = |fault: Fault| Error::new(Load::INFO.code, fault);
    let salt =
        parent.salt_key().map_err(|fault| Error::new(StartAuthSession::INFO.code, fault.into()))?;
    let public = Public::from_bytes(&sealed.public).map_err(|malformed| fail(malformed.into()))?;
    let command = load_command(parent.object(), &public, &sealed.private).map_err(fail)?;
    let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let data = unseal_under(tpm, &mut session, &command, auth, pcrs);
    // On success and failure, flush everything; return the first error.
    let flushed = tpm.flush(session.handle().handle());
    data.and_then(|data| flushed.map(|()| data))
}

fn unseal_under<T: Transport>(
    tpm: &mut Tpm<T>,
    session: &mut Salted,
    load: &Load<'_>,
    auth: Auth<'_>,
    pcrs: &[PcrSelection<'_>],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let answer = tpm.secured(session).run(load, [auth])?;
    let handle = answer.object_handle.handle();
    let item = Loaded::new(handle, &load.in_public.0)
        .map_err(|fault| Error::new(Load::INFO.code, fault.into()));
    let item = kept(tpm, handle, item)?;
    let data = unseal_loaded(tpm, session, &item, load.in_public.0.name_alg, pcrs);
    let flushed = tpm.flush(item.handle());
    data.and_then(|data| flushed.map(|()| data))
}

/// Two sessions: the policy's is of the object's hash, and does not encrypt, since it would do so with the object's
/// authorization value too, which is not known here. Part 1 §21.2.
fn unseal_loaded<T: Transport>(
    tpm: &mut Tpm<T>,
    session: &mut Salted,
    item: &Loaded,
    name_alg: Alg,
    pcrs: &[PcrSelection<'_>],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let hash = HashAlg::try_from(name_alg).map_err(|_| {
        Error::new(StartAuthSession::INFO.code, Fault::Unsupported("name algorithm"))
    })?;
    let policy = tpm.start_session(SessionType::POLICY, hash)?;
    let policy_session = policy.handle();
    let command = PolicyPcr { policy_session, pcr_digest: Digest::EMPTY, pcrs: List::new(pcrs) };
    let met = tpm.run(&command, []).map(drop);
    let met = kept(tpm, policy_session.handle(), met);
    met.and_then(|()| {
        let command = Unseal { item_handle: item.object() };
        let answer = tpm.secured(session).run(&command, [policy.last_auth(&[])])?;
        Ok(Zeroizing::new(answer.out_data.octets().to_vec()))
    })
}
