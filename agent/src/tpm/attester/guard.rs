//! The guard: the session that protects a join, salted to the endorsement key. And the authorization of the EK.

use host::exit::{Exit, Failure};
use tpm2::commands::{
    ActivateCredential, ActivateCredentialResponse, CreatePrimary, CreatePrimaryResponse,
};
use tpm2::crypto::HashAlg;
use tpm2::endorsement::{self, EkKind};
use tpm2::object::Loaded;
use tpm2::session::{Auth, Encryption, Salted, Session};
use tpm2::transport::Transport;
use tpm2::types::{
    Alg, CommandCode, Entity, Handle, NameBuf, Object, ResponseCode, SecretBuf, SessionType,
};
use tpm2::{Fault, Tpm};

use super::attestation_key::AttestationKey;
use super::{JoinKey, KeysToMake, KnownEk};
use crate::tpm::failure;
use crate::tpm::inventory::key_bytes;
use crate::tpm::passwords::Passwords;

/// The session that guards a join: it authenticates the TPM's answers, and encrypts secrets.
#[derive(Debug)]
pub(super) enum Guard {
    /// A policy session. The endorsement hierarchy has no password to prove; so the session that authorizes the EK can ride
    /// along on what comes before.
    Policy(Salted),
    /// An HMAC session, which proves the password of the endorsement hierarchy. It rides along on what a policy authorizes.
    Password { session: Salted, password: SecretBuf },
}

/// What a guard has led to.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) ek: Object,
    pub(super) guard: Guard,
    pub(super) join_key: JoinKey,
    pub(super) attestation_key: Option<AttestationKey>,
}

/// The name algorithm of a key, with which its Name begins. Part 1 §16.
pub(super) fn name_alg(key: &Object) -> Alg {
    match key.name().as_ref().map(NameBuf::octets) {
        Some([high, low, ..]) => Alg(u16::from_be_bytes([*high, *low])),
        _ => Alg::NULL,
    }
}

/// Salts a session to an EK and makes the keys of a join under its protection.
pub(super) fn enter<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &Loaded,
    keys: KeysToMake<'_>,
    passwords: &Passwords,
) -> Result<Entered, tpm2::Error<T::Error>> {
    let (mut guard, ek) = Guard::start(tpm, ek, passwords.endorsement())?;
    match make(tpm, keys, &mut guard) {
        Ok((attestation_key, join_key)) => Ok(Entered { ek, guard, join_key, attestation_key }),
        Err(error) => {
            // A TPM has few sessions, so this one is flushed; an error of the flush is less informative than the first one.
            let _ = tpm.flush(guard.session().handle().handle());
            Err(error)
        }
    }
}

fn make<T: Transport>(
    tpm: &mut Tpm<T>,
    keys: KeysToMake<'_>,
    guard: &mut Guard,
) -> Result<(Option<AttestationKey>, JoinKey), tpm2::Error<T::Error>> {
    let attestation_key = match keys.attestation_key {
        Some((algorithm, unique)) => Some(AttestationKey::create(tpm, algorithm, unique, guard)?),
        None => None,
    };
    Ok((attestation_key, JoinKey::guarded(tpm, keys.join_key, guard)?))
}

/// As [`enter`], with an EK that is persistent; `None` if it is not. Its handle is tried without asking what is there. Only if
/// that fails the TPM is asked whether it is this key: creating it again can take half a minute.
pub(super) fn enter_resident<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &KnownEk,
    keys: KeysToMake<'_>,
    passwords: &Passwords,
) -> Result<Option<Entered>, Failure> {
    let publics = ek.kind.publics(key_bytes(&ek.key)).map_err(|error| {
        let message =
            format!("the EK certificate at {} is for another type of key: {error}", ek.kind);
        Failure::new(Exit::Data, message, "choose another endorsement key with --ek")
    })?;
    let handles = endorsement::persistent_handles(ek.kind);
    for (handle, public) in handles.iter().flat_map(|at| publics.iter().map(move |of| (*at, of))) {
        let resident = Loaded::new(handle, public).map_err(Failure::bug)?;
        match enter(tpm, &resident, keys, passwords) {
            Ok(entered) => return Ok(Some(entered)),
            Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => {}
            Err(error)
                if may_be_another_key(&error)
                    && !endorsement::is_there(tpm, &resident).map_err(failure::command)? => {}
            Err(error) => return Err(passwords.explain(error)),
        }
    }
    Ok(None)
}

/// Another key than the expected one does not open the salt, or finds another in it, which makes our HMAC or its own a
/// wrong one.
fn may_be_another_key<E>(error: &tpm2::Error<E>) -> bool {
    matches!(error.fault(), Fault::Forged)
        || matches!(
            error.refusal(),
            Some(
                ResponseCode::VALUE
                    | ResponseCode::KEY
                    | ResponseCode::BAD_AUTH
                    | ResponseCode::AUTH_FAIL
                    | ResponseCode::ATTRIBUTES
                    | ResponseCode::SIZE
                    | ResponseCode::INSUFFICIENT
                    | ResponseCode::CURVE
                    | ResponseCode::ECC_POINT
                    | ResponseCode::FAILURE
            )
        )
}

/// How ActivateCredential is authorized for the EK; used once.
#[derive(Debug)]
pub(super) enum EkAuth {
    /// By its empty authorization value; the guard is an additional session.
    EmptyAuth(Guard),
    /// By its policy, which the guard itself has satisfied.
    Guard(Salted),
    /// A policy session in addition to the guard.
    Policy {
        /// The guard, as an additional session.
        guard: Salted,
        /// The session that has satisfied the policy.
        policy: Box<Session>,
    },
}

impl Guard {
    /// A session salted to `ek`.
    pub(super) fn start<T: Transport>(
        tpm: &mut Tpm<T>,
        ek: &Loaded,
        password: &SecretBuf,
    ) -> Result<(Self, Object), tpm2::Error<T::Error>> {
        let code = CommandCode::START_AUTH_SESSION;
        let salt_key = ek.salt_key().map_err(|unknown| tpm2::Error::new(code, unknown.into()))?;
        let mut start = |kind| tpm.start_salted_session(kind, &salt_key, Encryption::On);
        let guard = match password.expose() {
            [] => Self::Policy(start(SessionType::POLICY)?),
            _ => Self::Password { session: start(SessionType::HMAC)?, password: password.clone() },
        };
        Ok((guard, salt_key.object()))
    }

    /// Creates a primary key in the endorsement hierarchy.
    pub(super) fn create_primary<'t, T: Transport>(
        &'t mut self,
        tpm: &'t mut Tpm<T>,
        command: &CreatePrimary<'_>,
    ) -> Result<CreatePrimaryResponse<'t>, tpm2::Error<T::Error>> {
        match self {
            Self::Policy(session) => tpm.secured(session).run(command, [Auth::EMPTY]),
            Self::Password { session, password } => {
                tpm.run(command, [session.session().auth(password.expose())])
            }
        }
    }

    pub(super) const fn session(&mut self) -> &mut Salted {
        match self {
            Self::Policy(session) | Self::Password { session, .. } => session,
        }
    }

    /// Satisfies the policy of an EK of this kind.
    pub(super) fn satisfy<T: Transport>(
        self,
        tpm: &mut Tpm<T>,
        kind: &EkKind,
        name_alg: Alg,
    ) -> Result<EkAuth, tpm2::Error<T::Error>> {
        match self {
            Self::Policy(session) => {
                endorsement::satisfy(tpm, kind, name_alg, session.handle(), Auth::EMPTY)?;
                Ok(EkAuth::Guard(session))
            }
            Self::Password { session: mut guard, password } => {
                let policy = tpm.start_session(SessionType::POLICY, hash(name_alg)?)?;
                let auth = guard.session().auth(password.expose());
                endorsement::satisfy(tpm, kind, name_alg, policy.handle(), auth)?;
                Ok(EkAuth::Policy { guard, policy: Box::new(policy) })
            }
        }
    }
}

impl EkAuth {
    /// The sessions that it consists of.
    pub(super) fn sessions(&self) -> impl Iterator<Item = Handle> + use<> {
        let (guard, policy) = match self {
            Self::EmptyAuth(Guard::Policy(guard) | Guard::Password { session: guard, .. })
            | Self::Guard(guard) => (guard.handle(), None),
            Self::Policy { guard, policy } => (guard.handle(), Some(policy.handle())),
        };
        std::iter::once(guard.handle()).chain(policy.map(|policy| policy.handle()))
    }

    /// Opens a credential. The secret is encrypted on the bus.
    pub(super) fn activate<T: Transport>(
        self,
        tpm: &mut Tpm<T>,
        command: &ActivateCredential<'_>,
        kind: &EkKind,
    ) -> Result<Option<SecretBuf>, tpm2::Error<T::Error>> {
        let secret =
            |answer: ActivateCredentialResponse<'_>| SecretBuf::new(answer.cert_info.octets());
        match self {
            Self::EmptyAuth(mut guard) => {
                let riding = tpm.secured(guard.session());
                match riding.run(command, [Auth::EMPTY, Auth::EMPTY]).map(secret) {
                    // Locked out, an EK without noDA takes no authorization value; its policy does.
                    Err(error) if error.refusal() == Some(ResponseCode::LOCKOUT) => {
                        let name_alg = name_alg(&command.key_handle);
                        guard.satisfy(tpm, kind, name_alg)?.activate(tpm, command, kind)
                    }
                    opened => opened,
                }
            }
            Self::Guard(session) => {
                tpm.run(command, [Auth::EMPTY, session.last_auth(&[])]).map(secret)
            }
            Self::Policy { mut guard, policy } => {
                let auths = [Auth::EMPTY, policy.last_auth(&[])];
                tpm.secured(&mut guard).run(command, auths).map(secret)
            }
        }
    }
}

fn hash<E>(name_alg: Alg) -> Result<HashAlg, tpm2::Error<E>> {
    let code = CommandCode::START_AUTH_SESSION;
    HashAlg::try_from(name_alg).map_err(|malformed| tpm2::Error::new(code, malformed.into()))
}
