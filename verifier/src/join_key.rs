//! The key that a host wants certified as its identity: one that a TPM made, keeps, and uses for signing only.

use std::fmt;

#[cfg(feature = "p256")]
use p256::ecdsa::VerifyingKey;
use tpm2::types::{
    Alg, AsymScheme, EccParameter, EccPoint, HashScheme, NameBuf, ObjectAttributes, Public,
};

use crate::resident_key::{self, Codes, KeyTemplateError, ResidentKey};
use crate::signature::{self, Hash, SignatureWrong};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign; every other bit is clear: a signing key that its TPM
/// made and never gives away, free to sign what TLS asks for, and outside the dictionary-attack logic, so that a lockout does
/// not cut the host off. Part 2 §8.3, `TPMA_OBJECT`.
pub const JOIN_KEY_ATTRIBUTES: ObjectAttributes = resident_key::ATTRIBUTES;

const SCHEME: AsymScheme = AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 });

pub(crate) const CODES: Codes = Codes {
    malformed: "join_key_malformed",
    attributes: "join_key_attributes",
    name_algorithm: "join_key_name_algorithm",
    policy: "join_key_policy",
    template: "join_key_template",
};

/// A public area that is as it must be: ECDSA with SHA-256 on P-256, [`JOIN_KEY_ATTRIBUTES`], no
/// policy. Whether a TPM holds the key is for the activation to show.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinKey(ResidentKey);

impl JoinKey {
    /// The template of a join key, to be created as a primary key, so that nothing is stored: the TPM derives the key from
    /// its hierarchy's seed and this template. Each `unique` gives another key.
    #[must_use]
    pub fn template(unique: &[u8; 32]) -> Public<'_> {
        let unique = EccPoint { x: EccParameter::from(unique), y: EccParameter::from(&[0; 32]) };
        resident_key::template(SCHEME, unique)
    }

    /// Appraises a TPMT_PUBLIC, nothing before it and nothing after.
    pub fn appraise(public: &[u8]) -> Result<Self, KeyTemplateError> {
        ResidentKey::appraise(public, SCHEME).map(Self)
    }

    /// Its Name, computed here.
    #[must_use]
    pub fn name(&self) -> &NameBuf {
        &self.0.name
    }

    /// Its SubjectPublicKeyInfo, canonical.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.0.key.spki_der()
    }

    /// The public key as that of the crate `p256`, such as for a certificate.
    #[cfg(feature = "p256")]
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.0.verifying_key
    }

    /// Checks the key's signature (Ecdsa-Sig-Value in DER) of a message, by ECDSA with SHA-256.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureWrong> {
        signature::verify_ecdsa(&self.0.key, Hash::Sha256, message, signature)
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinKey({})", self.0.name)
    }
}
