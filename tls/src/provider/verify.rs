//! Signatures of certificates and of handshakes: ECDSA (FIPS 186-5), Ed25519 (RFC 8032), RSA
//! (RFC 8017, public key operations only).

use std::fmt;

use ecc::{Curve, Hash, VerifyingKey};
use rsa::RsaPublicKey;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::{PublicKeyParts, SignatureScheme as RsaScheme};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use sha2::digest::FixedOutputReset;
use sha2::digest::const_oid::AssociatedOid;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// RFC 8446 section 4.2.3 in our order of preference; PKCS#1 v1.5 is for certificates only.
pub(crate) const ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        ECDSA_P256_SHA256,
        ECDSA_P256_SHA384,
        ECDSA_P384_SHA256,
        ECDSA_P384_SHA384,
        ED25519,
        RSA_PSS_SHA256,
        RSA_PSS_SHA384,
        RSA_PSS_SHA512,
        RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[ECDSA_P384_SHA384]),
        (SignatureScheme::ED25519, &[ED25519]),
        (SignatureScheme::RSA_PSS_SHA256, &[RSA_PSS_SHA256]),
        (SignatureScheme::RSA_PSS_SHA384, &[RSA_PSS_SHA384]),
        (SignatureScheme::RSA_PSS_SHA512, &[RSA_PSS_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[RSA_PKCS1_SHA256]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[RSA_PKCS1_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[RSA_PKCS1_SHA512]),
    ],
};

const ECDSA_P256_SHA256: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::ECDSA_P256,
    signature: alg_id::ECDSA_SHA256,
    verify: |key, message, signature| ecdsa_p256(Hash::Sha256, key, message, signature),
};
const ECDSA_P256_SHA384: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::ECDSA_P256,
    signature: alg_id::ECDSA_SHA384,
    verify: |key, message, signature| ecdsa_p256(Hash::Sha384, key, message, signature),
};
const ECDSA_P384_SHA256: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::ECDSA_P384,
    signature: alg_id::ECDSA_SHA256,
    verify: |key, message, signature| ecdsa_p384(Hash::Sha256, key, message, signature),
};
const ECDSA_P384_SHA384: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::ECDSA_P384,
    signature: alg_id::ECDSA_SHA384,
    verify: |key, message, signature| ecdsa_p384(Hash::Sha384, key, message, signature),
};
const ED25519: &dyn SignatureVerificationAlgorithm =
    &Algorithm { public_key: alg_id::ED25519, signature: alg_id::ED25519, verify: ed25519 };
const RSA_PSS_SHA256: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::RSA_ENCRYPTION,
    signature: alg_id::RSA_PSS_SHA256,
    verify: rsa_pss::<Sha256>,
};
const RSA_PSS_SHA384: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::RSA_ENCRYPTION,
    signature: alg_id::RSA_PSS_SHA384,
    verify: rsa_pss::<Sha384>,
};
const RSA_PSS_SHA512: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::RSA_ENCRYPTION,
    signature: alg_id::RSA_PSS_SHA512,
    verify: rsa_pss::<Sha512>,
};
const RSA_PKCS1_SHA256: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::RSA_ENCRYPTION,
    signature: alg_id::RSA_PKCS1_SHA256,
    verify: rsa_pkcs1::<Sha256>,
};
const RSA_PKCS1_SHA384: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::RSA_ENCRYPTION,
    signature: alg_id::RSA_PKCS1_SHA384,
    verify: rsa_pkcs1::<Sha384>,
};
const RSA_PKCS1_SHA512: &dyn SignatureVerificationAlgorithm = &Algorithm {
    public_key: alg_id::RSA_ENCRYPTION,
    signature: alg_id::RSA_PKCS1_SHA512,
    verify: rsa_pkcs1::<Sha512>,
};

/// A row of the table: the two identifiers as certificates carry them, and the check.
struct Algorithm {
    public_key: AlgorithmIdentifier,
    signature: AlgorithmIdentifier,
    verify: Verify,
}

/// Public key as in the BIT STRING of its SubjectPublicKeyInfo, message, signature.
type Verify = fn(&[u8], &[u8], &[u8]) -> Result<(), signature::Error>;

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        (self.verify)(public_key, message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.public_key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Algorithm")
            .field("public_key", &self.public_key)
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

fn ecdsa_p256(
    hash: Hash,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), signature::Error> {
    let signature = p256::ecdsa::Signature::from_der(signature)?;
    VerifyingKey { curve: Curve::P256, hash, point }.verify(message, &signature.to_bytes())
}

fn ecdsa_p384(
    hash: Hash,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), signature::Error> {
    let signature = p384::ecdsa::Signature::from_der(signature)?;
    VerifyingKey { curve: Curve::P384, hash, point }.verify(message, &signature.to_bytes())
}

/// Strict: a key of small order verifies nothing.
fn ed25519(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), signature::Error> {
    ed25519_dalek::VerifyingKey::try_from(key)?
        .verify_strict(message, &ed25519_dalek::Signature::from_slice(signature)?)
}

/// The salt is as long as the digest: RFC 8446 section 4.2.3, and the identifiers above say so.
fn rsa_pss<D: Digest + FixedOutputReset>(
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), signature::Error> {
    rsa(key, rsa::Pss::<D>::new(), &D::digest(message), signature)
}

fn rsa_pkcs1<D: Digest + AssociatedOid>(
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), signature::Error> {
    rsa(key, rsa::Pkcs1v15Sign::new::<D>(), &D::digest(message), signature)
}

/// The shortest modulus that proves anything; the library refuses those above 8192 bits.
const RSA_MIN_BITS: u32 = 2048;

fn rsa(
    key: &[u8],
    scheme: impl RsaScheme,
    digest: &[u8],
    signature: &[u8],
) -> Result<(), signature::Error> {
    let key = RsaPublicKey::from_pkcs1_der(key).map_err(|_| signature::Error::new())?;
    // A signature is exactly as long as the modulus: RFC 8017 sections 8.1.2 and 8.2.2.
    if key.n().bits() < RSA_MIN_BITS || signature.len() != key.size() {
        return Err(signature::Error::new());
    }
    key.verify(scheme, digest, signature).map_err(|_| signature::Error::new())
}
