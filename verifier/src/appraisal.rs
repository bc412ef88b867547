//! The appraisal of a whole join: it takes claims, and returns facts or the reason for the refusal. RFC 9334.
//!
//! Later decisions use an [`Appraisal`] and nothing else. The challenge is made for exactly the keys that were appraised.

use std::fmt;

use tpm2::types::{Alg, NameBuf, SecretBuf};

use crate::attestation_key::AttestationKey;
use crate::ca::CaCertificate;
use crate::chain::{self, ChainError, ChainPolicy, MAX_INTERMEDIATES};
use crate::challenge::{self, Challenge, ChallengeError};
use crate::effort::{Effort, KnownSignatures};
use crate::ek::EkCertificate;
use crate::error::{CertificateError, Fault, KeyError};
use crate::join_key::{self, JoinKey};
use crate::key::EkPublicKey;
use crate::resident_key::KeyTemplateError;
use crate::self_certified::{AkClaim, AkError};
use crate::service_key::{self, ServiceKey};
use crate::time::UnixTime;
use crate::tpm_model::TpmModel;

/// A host's claims. Nothing in them is trusted.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its endorsement key.
    pub ek: EkClaim<'a>,
    /// Intermediate certificates in DER, which may connect the EK certificate with an anchor.
    /// Unreadable ones are ignored, since a host does not choose what its chip holds.
    pub ek_chain: &'a [Vec<u8>],
    /// The endorsement key's name algorithm, a TPM_ALG_ID; 0 if the host says none.
    pub ek_name_alg: u32,
    /// The key that the challenge is for.
    pub key: KeyClaim<'a>,
}

/// An endorsement key, with or without a certificate.
#[derive(Clone, Copy, Debug)]
pub enum EkClaim<'a> {
    /// An X.509 certificate in DER.
    Certificate(&'a [u8]),
    /// A SubjectPublicKeyInfo in DER.
    PublicKey(&'a [u8]),
}

/// The key that the challenge is to prove to be in the TPM.
#[derive(Clone, Copy, Debug)]
pub enum KeyClaim<'a> {
    /// TPMT_PUBLIC of a join key, which is itself the key to certify.
    JoinKey(&'a [u8]),
    /// An attestation key, which certifies its own creation. The key to certify is another one, and nothing says where it is.
    AttestationKey(AkClaim<'a>),
    /// TPMT_PUBLIC of a service's key, which is itself the key to certify.
    ServiceKey(&'a [u8]),
}

/// What an operator demands of endorsement keys.
#[derive(Clone, Copy, Debug)]
pub enum Demand<'a> {
    /// No certificate: the key itself is in the allow rules. A certificate that is sent
    /// nevertheless must be well formed, and is not verified.
    Key,
    /// A certificate that chains to one of these CAs.
    Certificate {
        /// Roots or issuing CAs, each trusted without further checks.
        anchors: &'a [CaCertificate],
        /// How chains are judged.
        policy: ChainPolicy,
        /// The time.
        at: UnixTime,
        /// Signatures that were verified before, and are not verified again.
        known: &'a KnownSignatures,
    },
}

/// What is known of an endorsement key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EkFacts {
    /// The key.
    pub key: EkPublicKey,
    /// [`EkPublicKey::public_hash`].
    pub hash: String,
    /// The serial number of its certificate, if there is one. It is only a claim unless
    /// [`Self::endorsement`] is [`Endorsement::Verified`].
    pub serial: Option<String>,
    /// The issuer of its certificate as text, see [`EkCertificate::issuer_text`]; likewise a claim.
    pub issuer: Option<String>,
    /// What its certificate says about the TPM; likewise a claim.
    pub tpm: Option<TpmModel>,
    /// Whether it was verified by a trusted CA.
    pub endorsement: Endorsement,
}

/// Whether an endorsement key was verified by a trusted CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endorsement {
    /// There is no certificate.
    Absent,
    /// There is one, and it has not been verified.
    Unverified,
    /// By the CA with this SHA-256 of its certificate, in lowercase hexadecimal.
    Verified {
        /// [`CaCertificate::fingerprint`] of the anchor.
        anchor: String,
    },
}

/// A key that can be used only in the TPM that created it, if a TPM holds it, which the challenge shows.
#[derive(Clone, Debug)]
pub enum AppraisedKey {
    /// See [`KeyClaim::JoinKey`].
    JoinKey(JoinKey),
    /// See [`KeyClaim::AttestationKey`].
    AttestationKey(AttestationKey),
    /// See [`KeyClaim::ServiceKey`].
    ServiceKey(ServiceKey),
}

impl AppraisedKey {
    fn name(&self) -> &NameBuf {
        match self {
            Self::JoinKey(key) => key.name(),
            Self::AttestationKey(key) => key.name(),
            Self::ServiceKey(key) => key.name(),
        }
    }
}

/// A host's keys, appraised. Only the answer to the challenge shows that the TPM holds them.
#[derive(Clone, Debug)]
pub struct Appraisal {
    ek: EkFacts,
    name_alg: Alg,
    key: AppraisedKey,
}

impl Appraisal {
    /// The endorsement key.
    #[must_use]
    pub fn ek(&self) -> &EkFacts {
        &self.ek
    }

    /// The key that the challenge is for.
    #[must_use]
    pub fn key(&self) -> &AppraisedKey {
        &self.key
    }

    /// A fresh challenge for these two keys in one TPM.
    pub fn challenge(&self) -> Result<Challenge, ChallengeError> {
        Challenge::new(&self.ek.key, self.name_alg, self.key.name())
    }

    /// The challenge for these two keys that was made with this origin ([`Challenge::origin`]): shows afterwards which keys a
    /// challenge was for.
    pub fn challenge_again(&self, origin: &[u8; 32]) -> Result<Challenge, ChallengeError> {
        let origin = SecretBuf::new(origin).ok_or(ChallengeError::UnknownProfile)?;
        Challenge::of_origin(&self.ek.key, self.name_alg, self.key.name(), origin)
    }
}

/// Appraises a claim.
///
/// A claim whose form cannot meet the demand is refused before anything is parsed. No claim causes
/// more computation than `effort` allows.
pub fn appraise(
    claim: &Claim<'_>,
    demand: Demand<'_>,
    effort: &mut Effort,
) -> Result<Appraisal, Box<AppraisalError>> {
    if effort.is_spent() {
        return Err(AppraisalError::of(Cause::EffortSpent, None));
    }
    if let Demand::Certificate { .. } = demand {
        if let EkClaim::PublicKey(_) = claim.ek {
            return Err(AppraisalError::of(Cause::EkCertificateMissing, None));
        }
        if claim.ek_chain.len() > MAX_INTERMEDIATES {
            return Err(AppraisalError::of(Cause::EkChainTooLong(claim.ek_chain.len()), None));
        }
    }
    let (mut ek, certificate) =
        ek_facts(claim.ek).map_err(|cause| AppraisalError::of(cause, None))?;
    match endorsement(certificate.as_ref(), claim.ek_chain, demand, effort) {
        Ok(endorsement) => ek.endorsement = endorsement,
        Err(cause) => return Err(AppraisalError::of(cause, Some(ek))),
    }
    let Some(name_alg) = challenge::name_alg(&ek.key, claim.ek_name_alg) else {
        return Err(AppraisalError::of(Cause::EkNameAlg(claim.ek_name_alg), Some(ek)));
    };
    match appraised_key(claim.key, effort) {
        Ok(key) => {
            // A challenge is next, and it costs more than all before it.
            if !effort.take_challenge(&ek.key) {
                return Err(AppraisalError::of(Cause::EffortSpent, Some(ek)));
            }
            Ok(Appraisal { ek, name_alg, key })
        }
        Err(cause) => Err(AppraisalError::of(cause, Some(ek))),
    }
}

fn appraised_key(claim: KeyClaim<'_>, effort: &mut Effort) -> Result<AppraisedKey, Cause> {
    match claim {
        KeyClaim::JoinKey(public) => {
            JoinKey::appraise(public).map(AppraisedKey::JoinKey).map_err(Cause::JoinKey)
        }
        KeyClaim::AttestationKey(claim) => match claim.appraise(effort) {
            Ok(key) => Ok(AppraisedKey::AttestationKey(key)),
            Err(AkError::EffortSpent) => Err(Cause::EffortSpent),
            Err(error) => Err(Cause::AttestationKey(error)),
        },
        KeyClaim::ServiceKey(public) => {
            ServiceKey::appraise(public).map(AppraisedKey::ServiceKey).map_err(Cause::ServiceKey)
        }
    }
}

fn ek_facts(claim: EkClaim<'_>) -> Result<(EkFacts, Option<EkCertificate>), Cause> {
    let (key, certificate) = match claim {
        EkClaim::Certificate(der) => {
            let certificate = EkCertificate::parse(der).map_err(Cause::EkCertificate)?;
            (certificate.public_key().clone(), Some(certificate))
        }
        EkClaim::PublicKey(spki) => (EkPublicKey::from_spki(spki).map_err(Cause::EkPublic)?, None),
    };
    let facts = EkFacts {
        hash: key.public_hash(),
        serial: certificate.as_ref().map(EkCertificate::serial),
        issuer: certificate.as_ref().map(EkCertificate::issuer_text),
        tpm: certificate.as_ref().and_then(EkCertificate::tpm).cloned(),
        endorsement: match certificate {
            Some(_) => Endorsement::Unverified,
            None => Endorsement::Absent,
        },
        key,
    };
    Ok((facts, certificate))
}

fn endorsement(
    certificate: Option<&EkCertificate>,
    ek_chain: &[Vec<u8>],
    demand: Demand<'_>,
    effort: &mut Effort,
) -> Result<Endorsement, Cause> {
    let Demand::Certificate { anchors, policy, at, known } = demand else {
        let is_claimed = certificate.is_some();
        return Ok(if is_claimed { Endorsement::Unverified } else { Endorsement::Absent });
    };
    let certificate = certificate.ok_or(Cause::EkCertificateMissing)?;
    let readable = ek_chain.iter().filter_map(|der| CaCertificate::parse(der).ok());
    let intermediates: Vec<_> = readable.collect();
    let path =
        chain::verify_within(effort, known, certificate, &intermediates, anchors, at, policy)
            .map_err(|error| {
                let passed_over = ek_chain.len().saturating_sub(intermediates.len());
                Cause::EkChain { error, passed_over }
            })?;
    Ok(Endorsement::Verified { anchor: path.anchor().fingerprint() })
}

/// Why a claim is refused, and what was known of its endorsement key by then, for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppraisalError {
    cause: Cause,
    ek: Option<EkFacts>,
}

impl AppraisalError {
    fn of(cause: Cause, ek: Option<EkFacts>) -> Box<Self> {
        Box::new(Self { cause, ek })
    }

    /// Why.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// What was known of the endorsement key.
    #[must_use]
    pub fn ek(&self) -> Option<&EkFacts> {
        self.ek.as_ref()
    }

    /// A short word for logs, metrics and tests. Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.cause.code()
    }

    /// Why, and what an operator can do about it where there is something.
    #[must_use]
    pub fn explain(&self) -> String {
        match &self.cause {
            Cause::EkChain { error, .. } => format!("{}: {}", self.cause, error.advice()),
            cause => cause.to_string(),
        }
    }
}

impl fmt::Display for AppraisalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for AppraisalError {}

/// Why a claim is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The EK certificate is not acceptable.
    EkCertificate(CertificateError),
    /// The endorsement key without certificate is not acceptable.
    EkPublic(KeyError),
    /// A certificate is demanded, and none came.
    EkCertificateMissing,
    /// Too many intermediate certificates.
    EkChainTooLong(usize),
    /// The EK certificate does not chain to a trusted CA.
    EkChain {
        /// Why not.
        error: ChainError,
        /// Malformed intermediate certificates.
        passed_over: usize,
    },
    /// No profile has an endorsement key like this with that name algorithm.
    EkNameAlg(u32),
    /// The join key is not acceptable.
    JoinKey(KeyTemplateError),
    /// The attestation key or its creation is not acceptable.
    AttestationKey(AkError),
    /// The service's key is not acceptable.
    ServiceKey(KeyTemplateError),
    /// Earlier claims on the connection have used up the effort that one host may cause.
    EffortSpent,
}

impl Cause {
    fn code(&self) -> &'static str {
        let fault = match self {
            Self::EkCertificate(error) => error.fault(),
            Self::EkPublic(error) => error.fault(),
            Self::EkChain { error, .. } => error.fault(),
            Self::EkNameAlg(_) => Fault::Unsupported,
            Self::EkCertificateMissing => return "ek_certificate_missing",
            Self::EkChainTooLong(_) => return "ek_chain_too_long",
            Self::JoinKey(error) => return error.code(&join_key::CODES),
            Self::AttestationKey(error) => return error.code(),
            Self::ServiceKey(error) => return error.code(&service_key::CODES),
            Self::EffortSpent => return "effort_spent",
        };
        match fault {
            Fault::Malformed => "ek_malformed",
            Fault::Untrusted => "ek_untrusted",
            Fault::Weak => "ek_weak",
            Fault::Unsupported => "ek_unsupported",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EkCertificate(error) => write!(f, "the EK certificate: {error}"),
            Self::EkPublic(error) => write!(f, "the EK public key: {error}"),
            Self::EkNameAlg(alg) => {
                write!(f, "no EK profile has this key with the name algorithm {alg:#06x}")
            }
            Self::EkCertificateMissing => {
                f.write_str("an EK certificate is required, but none was sent")
            }
            Self::EkChainTooLong(count) => {
                write!(
                    f,
                    "{count} certificates beside the EK certificate, more than \
                    {MAX_INTERMEDIATES}"
                )
            }
            Self::EkChain { error, passed_over: 0 } => error.fmt(f),
            Self::EkChain { error, passed_over } => {
                write!(f, "{error} ({passed_over} certificates beside it could not be read)")
            }
            Self::JoinKey(error) => write!(f, "the join key: {error}"),
            Self::AttestationKey(error) => error.fmt(f),
            Self::ServiceKey(error) => write!(f, "the service's key: {error}"),
            Self::EffortSpent => f.write_str(
                "earlier claims and messages on this connection cost as much as one unproven host may",
            ),
        }
    }
}
