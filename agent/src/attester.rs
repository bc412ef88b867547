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

use tpm2::commands::{ActivateCredential, CreatePrimary, PolicyOr, PolicySecret, Sign};
use tpm2::crypto::object_name;
use tpm2::endorsement::{self, EkKind, EndorsementKey};
use tpm2::session::{Auth, Encryption, Salted};
use tpm2::template::{self, policy};
use tpm2::transport::Transport;
use tpm2::types::{
    AsymScheme, Data, Digest, EncryptedSecret, Hierarchy, IdObject, Nonce, Object, Public,
    ResponseCode, SecretBuf, SensitiveCreate, SessionType, Signature, Ticket,
};
use tpm2::wire::{List, Malformed, Marshal, Tpm2b, Why, Writer};
use tpm2::{Fault, Tpm};
use verifier::{EkCertificate, EkPublicKey};

use crate::exit::{Exit, Failure};
use crate::inventory::{self, EkChoice, key_octets, mismatch, resident_key};

/// An endorsement key that this host has joined with before.
#[derive(Clone, Debug)]
pub struct KnownEk {
    /// The kind.
    pub kind: &'static EkKind,
    /// The key itself: what the TPM must have.
    pub key: EkPublicKey,
    /// Its certificate, if it has one.
    pub certificate: Option<EkCertificate>,
}

/// Everything in the TPM that a join needs, ready for the authority's challenge.
#[derive(Debug)]
pub struct Attester {
    ek: KnownEk,
    ek_object: Object,
    session: Salted,
    join_key: JoinKey,
    policy: Satisfied,
}

/// How the EK is authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Satisfied {
    /// By the session, whose policy is satisfied.
    Policy,
    /// By the EK's empty authorization value; the session only rides along.
    EmptyAuth,
}

impl Attester {
    /// Finds the EK, salts a session to it, makes the join key from `unique`.
    ///
    /// A `known` EK is the only one that will do: a TPM that has another is another TPM.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if its EK is not the one in its certificate, or not the known one.
    pub fn prepare<T: Transport>(
        tpm: &mut Tpm<T>,
        choice: EkChoice,
        known: Option<KnownEk>,
        unique: &[u8; 32],
    ) -> Result<Self, Failure> {
        let (entered, ek) = match known {
            Some(known) => (enter(tpm, &known, unique, another_tpm)?, known),
            None => match look(tpm, choice)? {
                (ek, Some(resident)) => (salted_to(tpm, &resident, unique)?, ek),
                (ek, None) => (enter(tpm, &ek, unique, mismatch)?, ek),
            },
        };
        let (ek_object, mut session, join_key) = entered;
        let policy = if ek.kind.has_user_with_auth() {
            Satisfied::EmptyAuth
        } else {
            satisfy(tpm, &mut session)?;
            Satisfied::Policy
        };
        Ok(Self { ek, ek_object, session, join_key, policy })
    }

    /// The endorsement key.
    #[must_use]
    pub const fn ek(&self) -> &KnownEk {
        &self.ek
    }

    /// The join key.
    #[must_use]
    pub const fn join_key(&self) -> &JoinKey {
        &self.join_key
    }

    /// Opens the authority's credential. It cannot be done a second time.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if the credential is not for this TPM and this join key.
    pub fn activate<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        credential_blob: &[u8],
        encrypted_seed: &[u8],
    ) -> Result<SecretBuf, Failure> {
        let too_large = |_| {
            Failure::new(Exit::Data, "the authority's challenge is larger than any", BAD_CHALLENGE)
        };
        let command = ActivateCredential {
            activate_handle: self.join_key.object,
            key_handle: self.ek_object,
            credential_blob: IdObject::new(credential_blob).map_err(too_large)?,
            secret: EncryptedSecret::new(encrypted_seed).map_err(too_large)?,
        };
        let by_policy = |tpm: &mut Tpm<T>, session: &mut Salted| {
            let auths = [Auth::EMPTY, session.session().last_auth(&[])];
            tpm.run(&command, auths).map(|answer| SecretBuf::new(answer.cert_info.octets()))
        };
        let secret = match self.policy {
            Satisfied::Policy => by_policy(tpm, &mut self.session),
            Satisfied::EmptyAuth => {
                let riding = tpm.secured(&mut self.session);
                let opened = riding
                    .run(&command, [Auth::EMPTY, Auth::EMPTY])
                    .map(|answer| SecretBuf::new(answer.cert_info.octets()));
                match opened {
                    // Locked out, an EK without noDA takes no authorization value; its policy does.
                    Err(error) if error.refusal() == Some(ResponseCode::LOCKOUT) => {
                        satisfy(tpm, &mut self.session)?;
                        choose_branch(tpm, &mut self.session, self.ek.kind)?;
                        by_policy(tpm, &mut self.session)
                    }
                    opened => opened,
                }
            }
        };
        let not_ours = || {
            Failure::new(
                Exit::Data,
                "the authority's challenge is not for this TPM and this join key",
                "if the EK certificate is another TPM's, this one cannot join with it",
            )
        };
        match secret {
            Ok(secret) => secret.ok_or_else(not_ours),
            Err(error) => match error.refusal() {
                Some(
                    ResponseCode::INTEGRITY
                    | ResponseCode::VALUE
                    | ResponseCode::SIZE
                    | ResponseCode::ECC_POINT
                    | ResponseCode::FAILURE,
                ) => Err(Failure {
                    message: format!("{} ({error})", not_ours().message),
                    ..not_ours()
                }),
                _ => Err(error.into()),
            },
        }
    }
}

const BAD_CHALLENGE: &str = "see that agent and authority are of versions that belong together";

/// A join key in the TPM: nothing of it is stored but the 32 octets that make it again.
#[derive(Clone, Debug)]
pub struct JoinKey {
    object: Object,
    public: Vec<u8>,
}

impl JoinKey {
    /// Makes a join key again, outside of a join: without a session, since its public area is known.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if it made another key: it was cleared or replaced.
    pub fn load<T: Transport>(
        tpm: &mut Tpm<T>,
        unique: &[u8; 32],
        expected: &[u8],
    ) -> Result<Self, Failure> {
        let answer = tpm.run(&create_join_key(unique), [Auth::EMPTY])?;
        let (handle, public) = (answer.object_handle, answer.out_public.0);
        let octets = marshalled(&public)?;
        if octets != expected {
            return Err(Failure::new(
                Exit::Data,
                "this TPM makes another key than the stored identity's",
                "the identity is another machine's, or the TPM was replaced: join anew",
            ));
        }
        let name = object_name(&public).map_err(Failure::bug)?;
        Ok(Self { object: handle.named(name), public: octets })
    }

    /// The public area, a `TPMT_PUBLIC`.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Signs a SHA-256 digest: r and s, 32 octets each.
    ///
    /// # Errors
    /// The TPM's.
    pub fn sign<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        digest: &[u8; 32],
    ) -> Result<[[u8; 32]; 2], Failure> {
        let command = Sign {
            key_handle: self.object,
            digest: Digest::new(digest).map_err(Failure::bug)?,
            in_scheme: AsymScheme::Null,
            validation: Ticket::NO_HASHCHECK,
        };
        let answer = tpm.run(&command, [Auth::EMPTY])?;
        let Signature::Ecdsa(signature) = answer.signature else {
            return Err(malformed("Signature", Why::Selector));
        };
        let padded = |octets: &[u8]| {
            let mut padded = [0; 32];
            let missing = padded.len().checked_sub(octets.len());
            let place = missing.and_then(|missing| padded.get_mut(missing..));
            place.ok_or_else(|| malformed("EccSignature", Why::TooLong))?.copy_from_slice(octets);
            Ok::<_, Failure>(padded)
        };
        Ok([padded(signature.r.octets())?, padded(signature.s.octets())?])
    }
}

fn malformed(what: &'static str, why: Why) -> Failure {
    let code = tpm2::types::CommandCode(0x15d);
    tpm2::Error::new(code, Fault::Malformed(Malformed::new(why, 0).named(what))).into()
}

fn create_join_key(unique: &[u8; 32]) -> CreatePrimary<'_> {
    CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(template::join_key(unique)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    }
}

fn marshalled(public: &Public<'_>) -> Result<Vec<u8>, Failure> {
    let mut octets = [0; 1024];
    let mut writer = Writer::new(&mut octets);
    public.marshal(&mut writer).map_err(Failure::bug)?;
    Ok(writer.into_written().to_vec())
}

/// The EK that is wanted. Without certificate its public area is the TPM's word: the first join pins it, and the
/// authority's rule says which one it must be.
fn look<T: Transport>(
    tpm: &mut Tpm<T>,
    choice: EkChoice,
) -> Result<(KnownEk, Option<EndorsementKey>), Failure> {
    let found = inventory::choose(tpm, choice)?;
    let kind = found.kind;
    if let Some(certificate) = found.certificate {
        let key = certificate.public_key().clone();
        return Ok((KnownEk { kind, key, certificate: Some(certificate) }, None));
    }
    let resident = match endorsement::find(tpm, kind)? {
        Some(resident) => resident,
        None => endorsement::create(tpm, kind, None)?.ok_or_else(|| mismatch(kind))?,
    };
    let key = resident_key(&resident)?;
    Ok((KnownEk { kind, key, certificate: None }, Some(resident)))
}

/// Salts a session to the EK and makes the join key under its protection. The key at a persistent handle may be another
/// than the certificate's; the session tells, and the right one is made.
fn enter<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &KnownEk,
    unique: &[u8; 32],
    absent: fn(&EkKind) -> Failure,
) -> Result<(Object, Salted, JoinKey), Failure> {
    let public = ek.kind.public(key_octets(&ek.key)).map_err(|error| {
        let message = format!("the EK certificate does not fit its place ({}): {error}", ek.kind);
        Failure::new(Exit::Data, message, "choose another endorsement key with --ek")
    })?;
    for handle in endorsement::persistent_handles(ek.kind) {
        let resident = EndorsementKey::new(*handle, &public).map_err(Failure::bug)?;
        match try_salted_to(tpm, &resident, unique) {
            Err(error) if is_not_there(&error) => tpm.flush_all()?,
            entered => return entered.map_err(Failure::from),
        }
    }
    let made = endorsement::create(tpm, ek.kind, Some(key_octets(&ek.key)))?;
    let made = made.ok_or_else(|| absent(ek.kind))?;
    salted_to(tpm, &made, unique)
}

/// The TPM does not have the endorsement key that was pinned.
fn another_tpm(kind: &EkKind) -> Failure {
    Failure::new(
        Exit::Data,
        format!(
            "this TPM is not the one that the stored identity rests on: its {kind} endorsement key is another"
        ),
        "choose another folder with --storage; if the TPM was replaced or cleared, remove the old one and join anew",
    )
}

/// Nothing is at the handle, or another key: it does not open the salt, or finds another in it, which makes our HMAC or its
/// own a wrong one.
fn is_not_there(error: &tpm2::Error) -> bool {
    matches!(error.fault(), Fault::Forged)
        || matches!(
            error.refusal(),
            Some(
                ResponseCode::HANDLE
                    | ResponseCode::VALUE
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

fn salted_to<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &EndorsementKey,
    unique: &[u8; 32],
) -> Result<(Object, Salted, JoinKey), Failure> {
    try_salted_to(tpm, ek, unique).map_err(Failure::from)
}

fn try_salted_to<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &EndorsementKey,
    unique: &[u8; 32],
) -> Result<(Object, Salted, JoinKey), tpm2::Error> {
    let command = create_join_key(unique);
    let code = <CreatePrimary<'_> as tpm2::commands::Command>::INFO.code;
    let fail = |fault: Fault| tpm2::Error::new(code, fault);
    let salt_key = ek.salt_key().map_err(|malformed| fail(malformed.into()))?;
    let mut session = tpm.start_salted_session(SessionType::POLICY, &salt_key, Encryption::On)?;
    let answer = tpm.secured(&mut session).run(&command, [Auth::EMPTY])?;
    let public = answer.out_public.0;
    let name = object_name(&public).map_err(|error| fail(error.into()))?;
    let object = answer.object_handle.named(name);
    let mut octets = [0; 1024];
    let mut writer = Writer::new(&mut octets);
    public.marshal(&mut writer).map_err(|too_large| fail(too_large.into()))?;
    let join_key = JoinKey { object, public: writer.into_written().to_vec() };
    Ok((salt_key.object(), session, join_key))
}

/// PolicySecret of the endorsement hierarchy: what every EK's policy asks for. EK profile §2.2.
fn satisfy<T: Transport>(tpm: &mut Tpm<T>, session: &mut Salted) -> Result<(), Failure> {
    let command = PolicySecret {
        auth_handle: Hierarchy::Endorsement.into(),
        policy_session: session.handle(),
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        expiration: 0,
    };
    tpm.run(&command, [Auth::EMPTY]).map(|_| ()).map_err(|error| match error.refusal() {
        Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL) => Failure::new(
            Exit::Permission,
            "the TPM's endorsement hierarchy has a password",
            "clear the password (tpm2_changeauth -c endorsement -p OLD), or join with a high-range EK, --ek p384 say",
        ),
        _ => error.into(),
    })
}

/// The high range's policy is one of two branches; ours is the first. EK profile annex B.
fn choose_branch<T: Transport>(
    tpm: &mut Tpm<T>,
    session: &mut Salted,
    kind: &EkKind,
) -> Result<(), Failure> {
    let branches: [&[u8]; 2] = match kind.template.auth_policy.octets().len() {
        32 => [&policy::A_SHA256, &policy::C_SHA256],
        _ => [&policy::A_SHA384, &policy::C_SHA384],
    };
    let digest = |octets| Digest::new(octets).map_err(Failure::bug);
    let branches = [digest(branches[0])?, digest(branches[1])?];
    let command = PolicyOr { policy_session: session.handle(), p_hash_list: List::new(&branches) };
    tpm.run(&command, []).map(|_| ()).map_err(Failure::from)
}
