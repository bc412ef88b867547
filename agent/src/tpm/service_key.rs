//! A service's key in the TPM: an ordinary key, created once and stored outside of the TPM, which alone can read it.
//!
//! Its parent is the primary key of the owner hierarchy that OpenSSL's provider derives, so that programs with that provider can
//! load it too. A signature takes three commands; what they leave in the TPM is flushed when the TPM is closed, which behind the
//! kernel's resource manager takes none.
//!
//! ```text
//! CreatePrimary                   the parent; the same each time
//! Load
//! Sign
//! ```
//!
//! The proof that the key is in the TPM, once for each key: ReadPublic of the EK, CreatePrimary, Load, StartAuthSession, PolicySecret,
//! ActivateCredential, Sign.

use std::fmt;

use host::exit::{Exit, Failure};
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use tpm2::Tpm;
use tpm2::commands::Sign;
use tpm2::crypto::Credential;
use tpm2::endorsement::{self, ephemeral_session};
use tpm2::key_file::{KeyFile, KeyParent, Kind};
use tpm2::object::{self, Loaded, Wrapped};
use tpm2::session::Auth;
use tpm2::template::SRK_P256;
use tpm2::transport::Transport;
use tpm2::types::{
    Alg, AsymScheme, EncryptedSecret, Handle, HashScheme, Hierarchy, IdObject, Octets, Public,
    ResponseCode, SecretBuf, SensitiveCreate,
};
use tpm2::wire::{Marshal, Unmarshal};

use crate::tpm::attester::KnownEk;
use crate::tpm::failure;
use crate::tpm::inventory::{key_bytes, mismatch, resident_key};
use crate::tpm::passwords::Passwords;

/// A key as it is stored, and what it is known to be.
#[derive(Clone)]
pub struct ServiceKey {
    file: KeyFile,
    appraised: verifier::ServiceKey,
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.appraised.fmt(f)
    }
}

/// What a TPM answered that may be another one than that of the key.
#[derive(Debug)]
pub enum Used<T> {
    /// It has the key.
    Done(T),
    /// It cannot load the key: it was cleared, or it is another TPM.
    NotLoaded,
}

/// The answer to a challenge for a service's key.
#[derive(Debug)]
pub struct KeyProof<T> {
    /// What the secret of the credential was used for.
    pub mac: T,
    /// The key's signature, an Ecdsa-Sig-Value.
    pub signature: Vec<u8>,
}

impl ServiceKey {
    /// Creates a key, with an empty authorization value and without policy, as OpenSSL's provider needs it.
    ///
    /// # Errors
    /// The TPM's; its owner hierarchy has another password.
    pub fn create<T: Transport>(tpm: &mut Tpm<T>, passwords: &Passwords) -> Result<Self, Failure> {
        let parent = parent(tpm, passwords)?;
        let (template, sensitive) = (verifier::ServiceKey::template(), SensitiveCreate::EMPTY);
        let created = object::create(tpm, parent.object(), Auth::EMPTY, &template, sensitive);
        let (wrapped, _) = created.map_err(failure::command)?;
        let public = Public::from_bytes(&wrapped.public).map_err(Failure::bug)?;
        let parent = KeyParent::P256(Handle::OWNER);
        let file = KeyFile::new(Kind::Loadable, parent, &public, &wrapped.private);
        Self::of(file.map_err(Failure::bug)?).map_err(|cause| {
            let advice = "update the driver and the firmware of the TPM: one of them is faulty";
            Failure::new(Exit::Data, format!("the TPM created another key: {cause}"), advice)
        })
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// Why it is not such a key.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let file = KeyFile::from_pem(text).map_err(|error| format!("{error:#}"))?;
        if *file.kind() != Kind::Loadable || file.parent() != KeyParent::P256(Handle::OWNER) {
            return Err("it is not a key under the owner's primary".to_owned());
        }
        Self::of(file)
    }

    fn of(file: KeyFile) -> Result<Self, String> {
        let public = file.public().to_vec().map_err(|error| error.to_string())?;
        let appraised =
            verifier::ServiceKey::appraise(&public).map_err(|error| error.to_string())?;
        Ok(Self { file, appraised })
    }

    /// As OpenSSL's provider reads it: `TSS2 PRIVATE KEY`.
    ///
    /// # Errors
    /// None for a key that was created or read.
    pub fn to_pem(&self) -> Result<String, Failure> {
        self.file.to_pem().map_err(Failure::bug)
    }

    /// Its public area, a `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// None for a key that was created or read.
    pub fn public_area(&self) -> Result<Vec<u8>, Failure> {
        self.file.public().to_vec().map_err(Failure::bug)
    }

    /// The public key.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        self.appraised.verifying_key()
    }

    /// Signs a SHA-256 digest: an Ecdsa-Sig-Value, RFC 3279 2.2.3.
    ///
    /// # Errors
    /// The TPM's; or the signature does not verify.
    pub fn sign<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        passwords: &Passwords,
        digest: &[u8; 32],
    ) -> Result<Used<Vec<u8>>, Failure> {
        let Used::Done(loaded) = self.load(tpm, passwords)? else { return Ok(Used::NotLoaded) };
        self.sign_loaded(tpm, &loaded, digest).map(Used::Done)
    }

    /// Opens a credential that was made for this key and the EK, gives its secret to `mac`, and signs a SHA-256 digest.
    ///
    /// # Errors
    /// The TPM's; [`Exit::Data`] if it has another EK.
    pub fn prove<T: Transport, M>(
        &self,
        tpm: &mut Tpm<T>,
        passwords: &Passwords,
        ek: &KnownEk,
        (credential_blob, encrypted_seed): (&[u8], &[u8]),
        (mac, digest): (impl FnOnce(&SecretBuf) -> M, &[u8; 32]),
    ) -> Result<Used<KeyProof<M>>, Failure> {
        let credential = credential(credential_blob, encrypted_seed)?;
        let resident = resident(tpm, ek, passwords)?;
        let Used::Done(loaded) = self.load(tpm, passwords)? else { return Ok(Used::NotLoaded) };
        let ek = (ek.kind, &resident);
        let by = passwords.as_tpm();
        let activated =
            endorsement::activate(tpm, ek, loaded.object(), Auth::EMPTY, &credential, by);
        let secret = activated.map_err(|error| passwords.explain(error))?;
        let signature = self.sign_loaded(tpm, &loaded, digest)?;
        Ok(Used::Done(KeyProof { mac: mac(&secret), signature }))
    }

    fn load<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        passwords: &Passwords,
    ) -> Result<Used<Loaded>, Failure> {
        let parent = parent(tpm, passwords)?;
        let wrapped = Wrapped {
            public: Octets::of(&self.file.public()).map_err(Failure::bug)?,
            private: Octets::new(self.file.private()).map_err(Failure::bug)?,
        };
        match object::load(tpm, parent.object(), Auth::EMPTY, &wrapped) {
            Ok(loaded) => Ok(Used::Done(loaded)),
            // Another primary seed makes another parent, which did not protect this key.
            Err(error) if error.refusal() == Some(ResponseCode::INTEGRITY) => Ok(Used::NotLoaded),
            Err(error) => Err(failure::command(error)),
        }
    }

    /// Verifies the signature before anybody sees it, since a faulty ECDSA signature can reveal the private key.
    fn sign_loaded<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        key: &Loaded,
        digest: &[u8; 32],
    ) -> Result<Vec<u8>, Failure> {
        let in_scheme = AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 });
        let command = Sign { in_scheme, ..Sign::digest(key.object(), digest.into()) };
        let answer = tpm.run(&command, [Auth::EMPTY]).map_err(failure::command)?;
        let signature = p256::ecdsa::Signature::try_from(&answer.signature).ok();
        let verifies = |signature: &p256::ecdsa::Signature| {
            self.verifying_key().verify_prehash(digest, signature).is_ok()
        };
        let signature = signature.filter(verifies).ok_or_else(|| {
            Failure::new(
                Exit::Data,
                "the TPM's signature does not verify with the service's key",
                "check the TPM, its driver and its bus: one of them is faulty, or an attacker modifies the bus",
            )
        })?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// The parent of all services' keys. The password of the owner hierarchy is never sent: a session proves it, which takes four
/// commands more.
fn parent<T: Transport>(tpm: &mut Tpm<T>, passwords: &Passwords) -> Result<Loaded, Failure> {
    let owner = passwords.as_tpm().owner;
    let auth = match owner {
        [] => Auth::EMPTY,
        _ => ephemeral_session(tpm).map_err(failure::command)?.last_auth(owner),
    };
    let (hierarchy, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let created = object::create_primary(tpm, hierarchy, auth, &SRK_P256, empty);
    created.map(|(parent, _)| parent).map_err(|error| passwords.explain_owner(error))
}

fn credential(blob: &[u8], seed: &[u8]) -> Result<Credential, Failure> {
    let too_large = || {
        let advice = "check that the versions of agent and authority are compatible";
        Failure::new(Exit::Data, "the authority's challenge is too large", advice)
    };
    let blob = IdObject::new(blob).map_err(|_| too_large())?;
    let seed = EncryptedSecret::new(seed).map_err(|_| too_large())?;
    Credential::new(blob, seed).map_err(|_| too_large())
}

/// The name algorithm of the EK with which the host joined, a `TPM_ALG_ID`.
///
/// # Errors
/// The TPM's; [`Exit::Data`] if it has another EK.
pub fn ek_name_alg<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &KnownEk,
    passwords: &Passwords,
) -> Result<u16, Failure> {
    let resident = resident(tpm, ek, passwords)?;
    Ok(resident.public().map_err(Failure::bug)?.name_alg.0)
}

/// The EK with which the host joined: as it is persistent, or created again.
fn resident<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &KnownEk,
    passwords: &Passwords,
) -> Result<Loaded, Failure> {
    if let Some(found) = endorsement::find(tpm, ek.kind).map_err(failure::command)?
        && resident_key(&found)? == ek.key
    {
        return Ok(found);
    }
    let expected = Some(key_bytes(&ek.key));
    let created = endorsement::create(tpm, ek.kind, expected, passwords.as_tpm());
    created.map_err(|error| passwords.explain(error))?.ok_or_else(|| mismatch(ek.kind))
}
