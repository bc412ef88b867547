//! The key of a service: in the TPM as the join key is, but one that other programs can use, such as those that use OpenSSL.

use std::fmt;

#[cfg(feature = "p256")]
use p256::ecdsa::VerifyingKey;
use tpm2::types::{AsymScheme, EccParameter, EccPoint, NameBuf, Public};

use crate::resident_key::{self, Codes, KeyTemplateError, ResidentKey};
use crate::signature::{self, Hash, SignatureWrong};

/// OpenSSL's provider names the scheme with each signature.
const SCHEME: AsymScheme = AsymScheme::Null;

pub(crate) const CODES: Codes = Codes {
    malformed: "service_key_malformed",
    attributes: "service_key_attributes",
    name_algorithm: "service_key_name_algorithm",
    policy: "service_key_policy",
    template: "service_key_template",
};

/// A public area that is as it must be: a signing key on P-256 without a scheme of its own, the attributes of
/// [`JOIN_KEY_ATTRIBUTES`](crate::JOIN_KEY_ATTRIBUTES), no policy. Whether a TPM holds the key is for the activation to show.
///
/// The scheme differs from that of a [`JoinKey`](crate::JoinKey), so a key is never both.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceKey(ResidentKey);

impl ServiceKey {
    /// The template of a service's key, to be created under a parent that other programs can load too.
    #[must_use]
    pub const fn template() -> Public<'static> {
        let unique = EccPoint { x: EccParameter::EMPTY, y: EccParameter::EMPTY };
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

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({})", self.0.name)
    }
}
