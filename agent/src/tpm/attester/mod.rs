//! The TPM's half of a join: seven commands, five if the EK certificate is known from before.
//!
//! ```text
//! NV_Read, NV_Read                the EK certificate, unless it is known
//! StartAuthSession                a policy session, salted to the EK
//! CreatePrimary                   the join key; the session proves and encrypts the answer
//! PolicySecret                    now, since riding along has reset the session's policy
//! ActivateCredential              only this TPM can; the session encrypts the secret on its way
//! Sign                            with the join key
//! ```
//!
//! If the endorsement hierarchy has a password, the session is an HMAC session, which proves it to CreatePrimary and to
//! PolicySecret, and a policy session comes beside it: one command more, none for an EK of the high range.
//!
//! By Teleport's protocols an attestation key is proven to be in the TPM in place of the join key, which nothing signs with:
//! eight commands, six if the EK certificate is known.
//!
//! ```text
//! NV_Read, NV_Read
//! StartAuthSession
//! CreatePrimary                   the attestation key
//! CertifyCreation                 of the attestation key, by itself
//! CreatePrimary                   the join key, which is certified
//! PolicySecret
//! ActivateCredential
//! ```

mod attestation_key;
mod guard;
mod join_key;

use host::exit::{Exit, Failure};
use tpm2::Tpm;
use tpm2::commands::ActivateCredential;
use tpm2::endorsement::{self, EkKind};
use tpm2::object::Loaded;
use tpm2::transport::Transport;
use tpm2::types::{
    EncryptedSecret, Entity, Handle, HandleKind, IdObject, Object, ResponseCode, SecretBuf,
};
use verifier::{CaCertificate, EkCertificate, EkPublicKey};

pub use self::attestation_key::{AkAlgorithm, AkEvidence, AttestationKey};
use self::guard::{EkAuth, Entered, name_alg};
pub use self::join_key::{JoinKey, KnownJoinKey};
use crate::tpm::failure;
use crate::tpm::inventory::{self, EkChoice, key_bytes, mismatch, resident_key};
use crate::tpm::passwords::Passwords;

/// An endorsement key that this host has joined with before.
#[derive(Clone, Debug)]
pub struct KnownEk {
    /// The kind.
    pub kind: &'static EkKind,
    /// The key itself: what the TPM must have.
    pub key: EkPublicKey,
    /// Its certificate, if it has one.
    pub certificate: Option<EkCertificate>,
    /// Certificates between it and a root that the TPM holds and an authority has needed.
    pub chain: Vec<CaCertificate>,
}

impl KnownEk {
    /// Its name algorithm, a `TPM_ALG_ID`; `None` if keys of its kind may have several.
    #[must_use]
    pub fn name_alg(&self) -> Option<u16> {
        match self.kind.publics(key_bytes(&self.key)).as_deref() {
            Ok([only]) => Some(only.name_alg.0),
            _ => None,
        }
    }
}

/// The keys that a join needs, each from a unique field of its template.
#[derive(Clone, Copy, Debug)]
pub struct KeysToMake<'u> {
    /// The join key.
    pub join_key: &'u [u8; 32],
    /// The attestation key, if it is what the challenge is for.
    pub attestation_key: Option<(AkAlgorithm, &'u [u8; 256])>,
}

impl<'u> KeysToMake<'u> {
    /// A join key only.
    #[must_use]
    pub const fn only(join_key: &'u [u8; 32]) -> Self {
        Self { join_key, attestation_key: None }
    }
}

/// Everything in the TPM that a join needs, ready for the authority's challenge.
#[derive(Debug)]
pub struct Attester {
    ek: KnownEk,
    ek_object: Object,
    join_key: JoinKey,
    attestation_key: Option<AttestationKey>,
    /// Until the credential is opened.
    ek_auth: Option<EkAuth>,
}

impl Attester {
    /// Finds the EK, salts a session to it, makes the keys.
    ///
    /// A `known` EK is the only one that will do: a TPM that has another is another TPM.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if its EK is not the one in its certificate, or not the known one.
    pub fn prepare<T: Transport>(
        tpm: &mut Tpm<T>,
        choice: EkChoice,
        known: Option<KnownEk>,
        passwords: &Passwords,
        keys: KeysToMake<'_>,
    ) -> Result<Self, Failure> {
        let (entered, ek) = match known {
            Some(known) => (enter(tpm, &known, keys, passwords, another_tpm)?, known),
            None => match look(tpm, choice, passwords)? {
                (ek, Some(resident)) => {
                    let entered = guard::enter(tpm, &resident, keys, passwords);
                    (entered.map_err(|error| passwords.explain(error))?, ek)
                }
                (ek, None) => (enter(tpm, &ek, keys, passwords, mismatch)?, ek),
            },
        };
        let Entered { ek: ek_object, guard, join_key, attestation_key } = entered;
        let ek_auth = if ek.kind.has_user_with_auth() {
            EkAuth::EmptyAuth(guard)
        } else {
            let satisfied = guard.satisfy(tpm, ek.kind, name_alg(&ek_object));
            satisfied.map_err(|error| passwords.explain(error))?
        };
        Ok(Self { ek, ek_object, join_key, attestation_key, ek_auth: Some(ek_auth) })
    }

    /// The endorsement key.
    #[must_use]
    pub const fn ek(&self) -> &KnownEk {
        &self.ek
    }

    /// The name algorithm of the endorsement key, a `TPM_ALG_ID`.
    #[must_use]
    pub fn ek_name_alg(&self) -> u16 {
        name_alg(&self.ek_object).0
    }

    /// Removes its keys and sessions from the TPM, which has room for few.
    ///
    /// # Errors
    /// The TPM's.
    pub fn discard<T: Transport>(self, tpm: &mut Tpm<T>) -> Result<(), Failure> {
        let attestation_key = self.attestation_key.as_ref().map(AttestationKey::object);
        let objects = [Some(self.ek_object), Some(self.join_key.object()), attestation_key];
        let objects = objects.into_iter().flatten().map(|object| object.handle());
        let transient = objects.filter(|handle| handle.kind() == HandleKind::TRANSIENT);
        let sessions = self.ek_auth.iter().flat_map(EkAuth::sessions);
        let all: Vec<Handle> = transient.chain(sessions).collect();
        all.into_iter().try_for_each(|handle| tpm.flush(handle)).map_err(failure::command)
    }

    /// Takes the chain that goes with the EK certificate.
    pub fn take_chain(&mut self, chain: Vec<CaCertificate>) {
        self.ek.chain = chain;
    }

    /// The join key.
    #[must_use]
    pub const fn join_key(&self) -> &JoinKey {
        &self.join_key
    }

    /// The attestation key, if one was made.
    #[must_use]
    pub const fn attestation_key(&self) -> Option<&AttestationKey> {
        self.attestation_key.as_ref()
    }

    /// Opens the authority's credential, which is for the attestation key, or for the join key where there is none. It cannot
    /// be done a second time.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if the credential is not for this TPM and this key.
    pub fn activate<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        credential_blob: &[u8],
        encrypted_seed: &[u8],
    ) -> Result<SecretBuf, Failure> {
        let too_large =
            |_| Failure::new(Exit::Data, "the authority's challenge is too large", BAD_CHALLENGE);
        let attestation_key = self.attestation_key.as_ref();
        let proven = attestation_key.map_or_else(|| self.join_key.object(), AttestationKey::object);
        let command = ActivateCredential {
            activate_handle: proven,
            key_handle: self.ek_object,
            credential_blob: IdObject::new(credential_blob).map_err(too_large)?,
            secret: EncryptedSecret::new(encrypted_seed).map_err(too_large)?,
        };
        let again = || Failure::bug("the challenge of a join was already answered");
        let ek_auth = self.ek_auth.take().ok_or_else(again)?;
        let opened = ek_auth.activate(tpm, &command, self.ek.kind);
        let not_ours = || {
            Failure::new(
                Exit::Data,
                "the authority's challenge is for another TPM or another key of it",
                "check that the EK certificate belongs to this TPM",
            )
        };
        match opened {
            Ok(secret) => secret.ok_or_else(not_ours),
            Err(error) => match error.refusal() {
                Some(
                    ResponseCode::INTEGRITY
                    | ResponseCode::VALUE
                    | ResponseCode::SIZE
                    | ResponseCode::ECC_POINT
                    | ResponseCode::FAILURE,
                ) => Err(Failure {
                    message: format!("{} ({error:#})", not_ours().message),
                    ..not_ours()
                }),
                _ => Err(failure::command(error)),
            },
        }
    }
}

const BAD_CHALLENGE: &str = "check that the versions of agent and authority are compatible";

/// The EK that is wanted. Without certificate its public area is the TPM's word: the first join pins it, and the
/// authority's rule says which one it must be.
fn look<T: Transport>(
    tpm: &mut Tpm<T>,
    choice: EkChoice,
    passwords: &Passwords,
) -> Result<(KnownEk, Option<Loaded>), Failure> {
    let found = inventory::choose(tpm, choice, passwords)?;
    let kind = found.kind;
    if let Some(certificate) = found.certificate {
        let key = certificate.public_key().clone();
        return Ok((
            KnownEk { kind, key, certificate: Some(certificate), chain: Vec::new() },
            None,
        ));
    }
    let resident = match endorsement::find(tpm, kind).map_err(failure::command)? {
        Some(resident) => resident,
        None => inventory::create(tpm, kind, passwords)?,
    };
    let key = resident_key(&resident)?;
    Ok((KnownEk { kind, key, certificate: None, chain: Vec::new() }, Some(resident)))
}

/// Salts a session to the EK and makes the keys under its protection; an EK that is not persistent is made.
fn enter<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &KnownEk,
    keys: KeysToMake<'_>,
    passwords: &Passwords,
    absent: fn(&EkKind) -> Failure,
) -> Result<Entered, Failure> {
    if let Some(entered) = guard::enter_resident(tpm, ek, keys, passwords)? {
        return Ok(entered);
    }
    let expected = Some(key_bytes(&ek.key));
    let made = endorsement::create(tpm, ek.kind, expected, passwords.as_tpm())
        .map_err(|error| passwords.explain(error))?
        .ok_or_else(|| absent(ek.kind))?;
    guard::enter(tpm, &made, keys, passwords).map_err(|error| passwords.explain(error))
}

/// The TPM does not have the endorsement key that was pinned.
fn another_tpm(kind: &EkKind) -> Failure {
    Failure::new(
        Exit::Data,
        format!(
            "this TPM is not the one of the stored identity: its {kind} endorsement key differs"
        ),
        "choose another directory with --storage; if the TPM was replaced, remove the old \
         storage and join again",
    )
}
