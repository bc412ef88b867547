//! A rustls `CryptoProvider` over RustCrypto: TLS 1.3, no C, no CPU beyond the baseline asked for.

mod aead;
mod hash;
mod kx;
mod sign;
mod verify;

use std::sync::Arc;

use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::{CipherSuite, SupportedCipherSuite, Tls13CipherSuite};

pub use sign::software_key;
pub(crate) use verify::ALGORITHMS;

/// The cryptography of every TLS connection here, for rustls.
///
/// | | |
/// |---|---|
/// | suites | AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305 |
/// | groups | X25519, P-256, P-384 |
/// | verifies | ECDSA on P-256 and P-384, Ed25519, RSA PKCS#1 v1.5 and PSS of 2048 to 8192 bits |
/// | signs | [`software_key`]: ECDSA on P-256 and P-384, Ed25519: PKCS #8, or SEC 1 for the curves |
///
/// RSA private keys are refused: the only implementation in pure Rust leaks through its timing
/// (RUSTSEC-2023-0071).
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![&kx::X25519, &kx::P256, &kx::P384],
        signature_verification_algorithms: ALGORITHMS,
        secure_random: &OperatingSystem,
        key_provider: &sign::NoKeys,
    })
}

/// AES-GCM seals 2^24 full records under one key, then rustls updates it: RFC 8446 section 5.5.
const GCM_RECORDS: u64 = 1 << 24;

const TLS13_AES_128_GCM_SHA256: SupportedCipherSuite =
    SupportedCipherSuite::Tls13(&Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
            hash_provider: &hash::SHA256,
            confidentiality_limit: GCM_RECORDS,
        },
        hkdf_provider: &HkdfUsingHmac(&hash::HMAC_SHA256),
        aead_alg: &aead::AES_128_GCM,
        quic: None,
    });

const TLS13_AES_256_GCM_SHA384: SupportedCipherSuite =
    SupportedCipherSuite::Tls13(&Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: CipherSuite::TLS13_AES_256_GCM_SHA384,
            hash_provider: &hash::SHA384,
            confidentiality_limit: GCM_RECORDS,
        },
        hkdf_provider: &HkdfUsingHmac(&hash::HMAC_SHA384),
        aead_alg: &aead::AES_256_GCM,
        quic: None,
    });

const TLS13_CHACHA20_POLY1305_SHA256: SupportedCipherSuite =
    SupportedCipherSuite::Tls13(&Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            hash_provider: &hash::SHA256,
            confidentiality_limit: u64::MAX,
        },
        hkdf_provider: &HkdfUsingHmac(&hash::HMAC_SHA256),
        aead_alg: &aead::CHACHA20_POLY1305,
        quic: None,
    });

/// The random number generator of the operating system, and no other.
#[derive(Debug)]
struct OperatingSystem;

impl SecureRandom for OperatingSystem {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(buffer).map_err(|_| GetRandomFailed)
    }
}

#[cfg(test)]
mod tests;
