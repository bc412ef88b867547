//! The keys that sign JWT-SVIDs, and their public halves as JSON Web Keys.

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use der::Encode;
use p256::PublicKey;
use p256::ecdsa::{Signature, VerifyingKey};
use pkcs8::LineEnding;
use rustls_pki_types::SignatureVerificationAlgorithm;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use signature::Signer;
use spki::{DecodePublicKey, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use verifier::{EkPublicKey, RsaKey};
use zeroize::Zeroizing;

use super::{CaKey, IssueError};
use crate::rsa_key::{self, RsaKeyError, RsaScheme, RsaSigningKey};

/// The `alg` of a JWT, RFC 7518 section 3.1. JWT-SVID allows more, but no EdDSA.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JwtAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    #[default]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, for receivers that refuse ECDSA.
    Rs256,
}

impl JwtAlgorithm {
    /// As the header of a JWT has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }

    /// Whether this machine can sign by it.
    ///
    /// # Errors
    /// Its processor cannot.
    pub fn check_supported(self) -> Result<(), RsaKeyError> {
        match self {
            Self::Es256 => Ok(()),
            Self::Rs256 => rsa_key::check_processor(),
        }
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JwtAlgorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Es256, Self::Rs256];
        let found = all.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not ES256 or RS256"))
    }
}

/// A key that signs JWT-SVIDs, has signed them, or will.
#[derive(Debug)]
pub struct JwtKey {
    public: JwtPublicKey,
    /// None of a retired key: what it has signed is verified, and it signs nothing any more.
    private: Option<Private>,
}

/// Each variant wipes itself when dropped, and shows nothing of itself.
#[derive(Debug)]
enum Private {
    Es256(Box<CaKey>),
    Rs256(Box<RsaSigningKey>),
}

impl JwtKey {
    /// A new key, from the operating system's randomness.
    pub fn generate(algorithm: JwtAlgorithm) -> Result<Self, IssueError> {
        Ok(Self::new(match algorithm {
            JwtAlgorithm::Es256 => Private::Es256(Box::new(CaKey::generate()?)),
            JwtAlgorithm::Rs256 => {
                Private::Rs256(Box::new(RsaSigningKey::generate().map_err(IssueError::jwt)?))
            }
        }))
    }

    /// The key with this private part, PKCS #8 PEM.
    pub fn from_pem(algorithm: JwtAlgorithm, pem: &str) -> Result<Self, IssueError> {
        Ok(Self::new(match algorithm {
            JwtAlgorithm::Es256 => Private::Es256(Box::new(CaKey::from_pem(pem)?)),
            JwtAlgorithm::Rs256 => {
                let (label, der) = der::pem::decode_vec(pem.as_bytes()).map_err(IssueError::jwt)?;
                let der = Zeroizing::new(der);
                if label != "PRIVATE KEY" {
                    return Err(IssueError::jwt(format!("it contains a {label}")));
                }
                Private::Rs256(Box::new(RsaSigningKey::from_pkcs8(&der).map_err(IssueError::jwt)?))
            }
        }))
    }

    /// The private part, PKCS #8 PEM; `None` if it is gone.
    pub fn to_pem(&self) -> Result<Option<Zeroizing<String>>, IssueError> {
        match &self.private {
            None => Ok(None),
            Some(Private::Es256(key)) => key.to_pem().map(Some),
            Some(Private::Rs256(key)) => {
                let der = key.to_pkcs8().map_err(IssueError::jwt)?;
                let pem = der::pem::encode_string("PRIVATE KEY", LineEnding::LF, &der);
                Ok(Some(Zeroizing::new(pem.map_err(IssueError::jwt)?)))
            }
        }
    }

    /// A key that only verifies.
    pub fn without_private(public: JwtPublicKey) -> Self {
        Self { public, private: None }
    }

    /// Whether it has its private part.
    pub fn can_sign(&self) -> bool {
        self.private.is_some()
    }

    /// The public part.
    pub fn public(&self) -> &JwtPublicKey {
        &self.public
    }

    /// The signature of a JWS (RFC 7515 section 5.1) over its signing input.
    pub(super) fn sign(&self, input: &[u8]) -> Result<Vec<u8>, IssueError> {
        match &self.private {
            None => Err(IssueError::jwt("the key that signs has no private part")),
            // Both numbers, not in DER: RFC 7518 section 3.4.
            Some(Private::Es256(key)) => {
                let signature: Signature =
                    key.signer()?.try_sign(input).map_err(IssueError::jwt)?;
                Ok(signature.to_bytes().to_vec())
            }
            Some(Private::Rs256(key)) => {
                key.sign(RsaScheme::Pkcs1Sha256, input).map_err(IssueError::jwt)
            }
        }
    }

    fn new(private: Private) -> Self {
        let public = match &private {
            Private::Es256(key) => PublicPart::P256(key.public()),
            Private::Rs256(key) => PublicPart::Rsa(key.public().clone()),
        };
        Self { public: JwtPublicKey::new(public), private: Some(private) }
    }
}

/// The public part of a key that signs JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtPublicKey {
    key: PublicPart,
    key_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PublicPart {
    P256(PublicKey),
    Rsa(RsaKey),
}

impl JwtPublicKey {
    /// Reads a SubjectPublicKeyInfo, DER.
    pub fn from_spki(der: &[u8]) -> Result<Self, IssueError> {
        if let Ok(key) = PublicKey::from_public_key_der(der) {
            return Ok(Self::new(PublicPart::P256(key)));
        }
        match EkPublicKey::from_spki(der).map_err(IssueError::jwt)? {
            EkPublicKey::Rsa(key) => Ok(Self::new(PublicPart::Rsa(key))),
            EkPublicKey::Ecc(key) => {
                Err(IssueError::jwt(format!("a key on {} signs no JWTs", key.curve())))
            }
        }
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn to_spki(&self) -> Result<Vec<u8>, IssueError> {
        match &self.key {
            PublicPart::P256(key) => {
                let info = SubjectPublicKeyInfo::from_key(key).map_err(IssueError::jwt)?;
                info.to_der().map_err(IssueError::jwt)
            }
            PublicPart::Rsa(key) => Ok(EkPublicKey::Rsa(key.clone()).spki_der()),
        }
    }

    /// The algorithm of what it verifies.
    pub fn algorithm(&self) -> JwtAlgorithm {
        match self.key {
            PublicPart::P256(_) => JwtAlgorithm::Es256,
            PublicPart::Rsa(_) => JwtAlgorithm::Rs256,
        }
    }

    /// The `kid` of JWTs: the thumbprint of the key by RFC 7638, which is in base64url.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The members of the JSON Web Key that are its own, RFC 7518 section 6.
    pub(super) fn parameters(&self) -> KeyParameters {
        self.key.parameters()
    }

    /// Verifies the signature of a JWS as the readers of the published key do, by code that signs nothing.
    pub(super) fn verify(&self, input: &[u8], signature: &[u8]) -> Result<(), IssueError> {
        let is_valid = match &self.key {
            PublicPart::P256(key) => Signature::from_slice(signature).is_ok_and(|signature| {
                use signature::Verifier;
                VerifyingKey::from(key).verify(input, &signature).is_ok()
            }),
            PublicPart::Rsa(_) => {
                let spki = self.to_spki()?;
                let info = SubjectPublicKeyInfoRef::try_from(&spki[..]).map_err(IssueError::jwt)?;
                let key = info.subject_public_key.raw_bytes();
                pkcs1_sha256()
                    .is_some_and(|scheme| scheme.verify_signature(key, input, signature).is_ok())
            }
        };
        if is_valid { Ok(()) } else { Err(IssueError::jwt("the signature is not valid")) }
    }

    fn new(key: PublicPart) -> Self {
        // Members in the order of their names, without spaces: RFC 7638 section 3.
        let canonical = serde_json::to_string(&key.parameters()).unwrap_or_default();
        let key_id = base64url(&Sha256::digest(canonical));
        Self { key, key_id }
    }
}

/// RSASSA-PKCS1-v1_5 with SHA-256.
fn pkcs1_sha256() -> Option<&'static dyn SignatureVerificationAlgorithm> {
    let rows = tls::provider().signature_verification_algorithms.mapping;
    let row = rows.iter().find(|(scheme, _)| *scheme == rustls::SignatureScheme::RSA_PKCS1_SHA256);
    row.and_then(|(_, algorithms)| algorithms.first().copied())
}

impl PublicPart {
    fn parameters(&self) -> KeyParameters {
        match self {
            Self::P256(key) => ec_parameters(key),
            Self::Rsa(key) => {
                let exponent = key.exponent().to_be_bytes();
                let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
                KeyParameters::Rsa {
                    e: base64url(exponent.get(zeros..).unwrap_or_default()),
                    kty: "RSA",
                    n: base64url(key.modulus()),
                }
            }
        }
    }
}

/// The members of a JSON Web Key that make a key, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum KeyParameters {
    Ec { crv: &'static str, kty: &'static str, x: String, y: String },
    Rsa { e: String, kty: &'static str, n: String },
}

/// Those of a key on P-256.
pub(super) fn ec_parameters(key: &PublicKey) -> KeyParameters {
    let point = VerifyingKey::from(key).to_sec1_point(false);
    let number = |number: Option<&_>| number.map(|bytes: &p256::FieldBytes| base64url(bytes));
    KeyParameters::Ec {
        crv: "P-256",
        kty: "EC",
        // A public key is not the point at infinity, which alone has none.
        x: number(point.x()).unwrap_or_default(),
        y: number(point.y()).unwrap_or_default(),
    }
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [JwtAlgorithm; 2] = [JwtAlgorithm::Es256, JwtAlgorithm::Rs256];

    #[test]
    fn key_is_read_as_written_and_never_shown() {
        for algorithm in KEYS {
            let key = JwtKey::generate(algorithm).unwrap();
            let pem = key.to_pem().unwrap().unwrap();
            let read = JwtKey::from_pem(algorithm, &pem).unwrap();
            assert_eq!(read.public(), key.public());
            assert_eq!(key.public().algorithm(), algorithm);
            let spki = key.public().to_spki().unwrap();
            assert_eq!(JwtPublicKey::from_spki(&spki).unwrap(), *key.public());
            let shown = format!("{key:?}");
            let body = pem.lines().nth(1).unwrap();
            assert!(!shown.contains(body) && shown.len() < 700, "{shown}");
            let other = KEYS.into_iter().find(|other| *other != algorithm).unwrap();
            JwtKey::from_pem(other, &pem).unwrap_err();
        }
    }

    #[test]
    fn signature_is_verified_by_its_key_alone() {
        for algorithm in KEYS {
            let [key, other] = [(); 2].map(|()| JwtKey::generate(algorithm).unwrap());
            let signature = key.sign(b"input").unwrap();
            key.public().verify(b"input", &signature).unwrap();
            key.public().verify(b"inputs", &signature).unwrap_err();
            other.public().verify(b"input", &signature).unwrap_err();
            key.public().verify(b"input", &signature[1..]).unwrap_err();
            let retired = JwtKey::without_private(key.public().clone());
            assert!(!retired.can_sign() && retired.to_pem().unwrap().is_none());
            retired.sign(b"input").unwrap_err();
            retired.public().verify(b"input", &signature).unwrap();
        }
    }

    /// RFC 7638 section 3.1.
    #[test]
    fn key_id_is_the_thumbprint_of_the_example_in_rfc_7638() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let modulus = Base64UrlUnpadded::decode_vec(n).unwrap();
        let key = JwtPublicKey::new(PublicPart::Rsa(RsaKey::new(&modulus, 65537).unwrap()));
        assert_eq!(key.key_id(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn algorithm_is_named_as_in_a_jwt() {
        for algorithm in KEYS {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(serde_json::to_string(&algorithm).unwrap(), format!("\"{algorithm}\""));
        }
        for wrong in ["", "es256", "EdDSA", "none", "HS256", "RS512"] {
            wrong.parse::<JwtAlgorithm>().unwrap_err();
        }
    }
}
