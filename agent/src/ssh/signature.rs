//! Signatures of SSH: RFC 4253 §6.6, RFC 5656 §3.1.2, RFC 8332, RFC 8709.

use p256::ecdsa::Signature;
use rustls::pki_types::{AlgorithmIdentifier, alg_id};
use x509_cert::der::Encode;
use x509_cert::der::asn1::UintRef;

use super::wire::{Packed, Strings};

/// Verifies a signature, with its algorithm, by a public key, with its type. `None` if it is not valid, or of an algorithm that
/// is not accepted; SHA-1 is not.
pub(crate) fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let (mut key, mut signature) = (Strings(key), Strings(signature));
    let (kind, algorithm) = (key.string()?, signature.string()?);
    let signature = signature.only()?;
    match (kind, algorithm) {
        (b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp256") => {
            let (point, signature) = (point(key, b"nistp256")?, ecdsa(signature)?);
            check(alg_id::ECDSA_P256, alg_id::ECDSA_SHA256, point, message, &signature)
        }
        (b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp384") => {
            let (point, signature) = (point(key, b"nistp384")?, ecdsa(signature)?);
            check(alg_id::ECDSA_P384, alg_id::ECDSA_SHA384, point, message, &signature)
        }
        (b"ssh-ed25519", b"ssh-ed25519") => {
            check(alg_id::ED25519, alg_id::ED25519, key.only()?, message, signature)
        }
        (b"ssh-rsa", b"rsa-sha2-256") => {
            let (family, scheme) = (alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA256);
            check(family, scheme, &rsa(key)?, message, signature)
        }
        (b"ssh-rsa", b"rsa-sha2-512") => {
            let (family, scheme) = (alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA512);
            check(family, scheme, &rsa(key)?, message, signature)
        }
        _ => None,
    }
}

/// A signature of a P-256 key, with its algorithm, which is that of the key also if the key has a certificate.
pub(crate) fn by_p256(signature: &Signature) -> Vec<u8> {
    let (r, s) = signature.split_bytes();
    let scalars = Packed::default().mpint(&r).mpint(&s).into_vec();
    Packed::default().string(b"ecdsa-sha2-nistp256").string(&scalars).into_vec()
}

/// Verifies with key and signature in the forms of X.509.
fn check(
    family: AlgorithmIdentifier,
    scheme: AlgorithmIdentifier,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    let known = tls::provider().signature_verification_algorithms.all;
    let verifier = known.iter().find(|verifier| {
        verifier.public_key_alg_id() == family && verifier.signature_alg_id() == scheme
    })?;
    verifier.verify_signature(key, message, signature).ok()
}

/// The point of an ECDSA key on this curve.
fn point<'b>(mut key: Strings<'b>, curve: &[u8]) -> Option<&'b [u8]> {
    key.string().filter(|named| *named == curve)?;
    key.only()
}

/// `RSAPublicKey`, RFC 8017 appendix A.1.1: the modulus and the exponent.
fn rsa(mut key: Strings<'_>) -> Option<Vec<u8>> {
    let (exponent, modulus) = (mpint(key.string()?)?, mpint(key.only()?)?);
    [modulus, exponent].to_der().ok()
}

/// `Ecdsa-Sig-Value`, RFC 3279 §2.2.3: r and s.
fn ecdsa(blob: &[u8]) -> Option<Vec<u8>> {
    let mut scalars = Strings(blob);
    [mpint(scalars.string()?)?, mpint(scalars.only()?)?].to_der().ok()
}

/// A positive `mpint`. RFC 4251 §5.
fn mpint(bytes: &[u8]) -> Option<UintRef<'_>> {
    let is_positive = bytes.first().is_some_and(|first| first & 0x80 == 0);
    UintRef::new(bytes).ok().filter(|_| is_positive)
}
