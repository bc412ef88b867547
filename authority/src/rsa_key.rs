//! RSA private keys, for receivers that accept nothing else. Only the authority has any.
//!
//! The crate `rsa` leaks what its private operations compute by the time that they take (RUSTSEC-2023-0071), so graviola does
//! them. It needs instructions that not every processor has, and aborts without them: ask [`check_processor`] first.

use std::fmt;

use ecc::Implementation;
use verifier::{EkPublicKey, KeyError, RsaKey};
use zeroize::Zeroizing;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use self::graviola_key::Private;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use self::no_key::Private;

/// Bytes of a private key of 4096 bits: 2,375 in PKCS #8.
const MAX_PRIVATE_KEY: usize = 4096;

/// Bytes of a signature by a key of 4096 bits.
const MAX_SIGNATURE: usize = 512;

/// An RSA key that signs. It is wiped when it is dropped, and never shown.
pub struct RsaSigningKey {
    private: Private,
    public: RsaKey,
}

/// How a digest is padded and which digest it is, RFC 8017 section 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaScheme {
    /// RSASSA-PKCS1-v1_5 with SHA-256, which JWS calls RS256.
    Pkcs1Sha256,
    /// RSASSA-PSS with SHA-256 and a salt of its length.
    PssSha256,
    /// RSASSA-PSS with SHA-384 and a salt of its length.
    PssSha384,
    /// RSASSA-PSS with SHA-512 and a salt of its length.
    PssSha512,
}

/// Why an RSA key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RsaKeyError {
    /// This processor has not the instructions.
    Processor,
    /// Instructions that not every processor has are not to be used.
    Portable,
    /// It is malformed, or has more than two primes.
    Malformed,
    /// Its public key is refused.
    Public(KeyError),
    /// It cannot be computed, for example because there is no randomness.
    Failed,
}

/// Whether this program may compute with RSA private keys on this processor.
///
/// # Errors
/// It cannot, or may not.
pub fn check_processor() -> Result<(), RsaKeyError> {
    match (Private::is_supported(), ecc::implementation()) {
        (false, _) => Err(RsaKeyError::Processor),
        (true, Implementation::RustCrypto) => Err(RsaKeyError::Portable),
        (true, Implementation::Graviola) => Ok(()),
    }
}

impl RsaSigningKey {
    /// A new key of 2048 bits: what every receiver accepts, and whose tokens are short.
    ///
    /// # Errors
    /// The processor cannot, or there is no randomness.
    pub fn generate() -> Result<Self, RsaKeyError> {
        check_processor()?;
        Self::new(Private::generate()?)
    }

    /// Reads PKCS #8 DER (RFC 5958).
    ///
    /// # Errors
    /// The processor cannot use it, it is malformed, or has another size than 2048 to 4096 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, RsaKeyError> {
        check_processor()?;
        Self::new(Private::from_pkcs8(der)?)
    }

    /// Reads RSAPrivateKey DER (RFC 8017 appendix A.1.2).
    ///
    /// # Errors
    /// As [`Self::from_pkcs8`].
    pub fn from_pkcs1(der: &[u8]) -> Result<Self, RsaKeyError> {
        check_processor()?;
        Self::new(Private::from_pkcs1(der)?)
    }

    /// Writes PKCS #8 DER.
    ///
    /// # Errors
    /// It is longer than any key that is read here.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, RsaKeyError> {
        let mut buffer = Zeroizing::new([0; MAX_PRIVATE_KEY]);
        Ok(Zeroizing::new(self.private.to_pkcs8(&mut buffer[..])?.to_vec()))
    }

    /// The public key.
    pub fn public(&self) -> &RsaKey {
        &self.public
    }

    /// Signs a message.
    ///
    /// # Errors
    /// There is no randomness for the salt.
    pub fn sign(&self, scheme: RsaScheme, message: &[u8]) -> Result<Vec<u8>, RsaKeyError> {
        let mut buffer = [0; MAX_SIGNATURE];
        Ok(self.private.sign(scheme, message, &mut buffer)?.to_vec())
    }

    /// The public key is checked as that of a host would be.
    fn new(private: Private) -> Result<Self, RsaKeyError> {
        let mut buffer = [0; MAX_PRIVATE_KEY];
        match EkPublicKey::from_spki(private.to_spki(&mut buffer)?).map_err(RsaKeyError::Public)? {
            EkPublicKey::Rsa(public) => Ok(Self { private, public }),
            EkPublicKey::Ecc(_) => Err(RsaKeyError::Malformed),
        }
    }
}

impl fmt::Debug for RsaSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RsaSigningKey").field(&self.public).finish()
    }
}

impl fmt::Display for RsaKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processor => f.write_str(
                "this processor cannot sign with RSA keys: on x86-64 it needs ADX, AES, AVX2, BMI1 and PCLMULQDQ (Intel \
                 Broadwell, AMD Zen or later), on ARM64 the AES, SHA-2 and PMULL instructions",
            ),
            Self::Portable => f.write_str(
                "RSA keys sign only with instructions that not every processor has, and the configuration says `cryptography: portable`",
            ),
            Self::Malformed => f.write_str("it is no RSA key with two primes, or it is damaged"),
            Self::Public(cause) => cause.fmt(f),
            Self::Failed => f.write_str("the RSA computation failed"),
        }
    }
}

impl std::error::Error for RsaKeyError {}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod graviola_key {
    use graviola::signing::rsa::{KeySize, SigningKey};

    use super::{RsaKeyError, RsaScheme};

    /// Wipes itself. Each use needs a supported processor, which is checked before there is a value.
    pub(super) struct Private(SigningKey);

    impl Private {
        pub(super) fn is_supported() -> bool {
            graviola::util::is_cpu_supported()
        }

        pub(super) fn generate() -> Result<Self, RsaKeyError> {
            SigningKey::generate(KeySize::Rsa2048).map(Self).map_err(|_| RsaKeyError::Failed)
        }

        pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, RsaKeyError> {
            SigningKey::from_pkcs8_der(der).map(Self).map_err(|_| RsaKeyError::Malformed)
        }

        pub(super) fn from_pkcs1(der: &[u8]) -> Result<Self, RsaKeyError> {
            SigningKey::from_pkcs1_der(der).map(Self).map_err(|_| RsaKeyError::Malformed)
        }

        pub(super) fn to_pkcs8<'a>(&self, out: &'a mut [u8]) -> Result<&'a [u8], RsaKeyError> {
            self.0.to_pkcs8_der(out).map_err(|_| RsaKeyError::Failed)
        }

        pub(super) fn to_spki<'a>(&self, out: &'a mut [u8]) -> Result<&'a [u8], RsaKeyError> {
            self.0.public_key().to_spki_der(out).map_err(|_| RsaKeyError::Failed)
        }

        pub(super) fn sign<'a>(
            &self,
            scheme: RsaScheme,
            message: &[u8],
            out: &'a mut [u8],
        ) -> Result<&'a [u8], RsaKeyError> {
            match scheme {
                RsaScheme::Pkcs1Sha256 => self.0.sign_pkcs1_sha256(out, message),
                RsaScheme::PssSha256 => self.0.sign_pss_sha256(out, message),
                RsaScheme::PssSha384 => self.0.sign_pss_sha384(out, message),
                RsaScheme::PssSha512 => self.0.sign_pss_sha512(out, message),
            }
            .map_err(|_| RsaKeyError::Failed)
        }
    }
}

/// For processors that graviola has no code for.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod no_key {
    use super::{RsaKeyError, RsaScheme};

    pub(super) enum Private {}

    impl Private {
        pub(super) fn is_supported() -> bool {
            false
        }

        pub(super) fn generate() -> Result<Self, RsaKeyError> {
            Err(RsaKeyError::Processor)
        }

        pub(super) fn from_pkcs8(_: &[u8]) -> Result<Self, RsaKeyError> {
            Err(RsaKeyError::Processor)
        }

        pub(super) fn from_pkcs1(_: &[u8]) -> Result<Self, RsaKeyError> {
            Err(RsaKeyError::Processor)
        }

        pub(super) fn to_pkcs8<'a>(&self, _: &'a mut [u8]) -> Result<&'a [u8], RsaKeyError> {
            match *self {}
        }

        pub(super) fn to_spki<'a>(&self, _: &'a mut [u8]) -> Result<&'a [u8], RsaKeyError> {
            match *self {}
        }

        pub(super) fn sign<'a>(
            &self,
            _: RsaScheme,
            _: &[u8],
            _: &'a mut [u8],
        ) -> Result<&'a [u8], RsaKeyError> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::SignatureScheme;

    use super::*;

    #[test]
    fn signatures_verify_by_another_library_and_only_for_their_message() {
        let key = RsaSigningKey::generate().unwrap();
        assert_eq!((key.public().bits(), key.public().exponent()), (2048, 65537));
        let spki = EkPublicKey::Rsa(key.public().clone()).spki_der();
        let algorithms = tls::provider().signature_verification_algorithms;
        let pkcs1 = spki::SubjectPublicKeyInfoRef::try_from(&spki[..]).unwrap();
        let pkcs1 = pkcs1.subject_public_key.raw_bytes();
        for (scheme, tls) in [
            (RsaScheme::Pkcs1Sha256, SignatureScheme::RSA_PKCS1_SHA256),
            (RsaScheme::PssSha256, SignatureScheme::RSA_PSS_SHA256),
            (RsaScheme::PssSha384, SignatureScheme::RSA_PSS_SHA384),
            (RsaScheme::PssSha512, SignatureScheme::RSA_PSS_SHA512),
        ] {
            let signature = key.sign(scheme, b"message").unwrap();
            let (_, verifiers) =
                algorithms.mapping.iter().find(|(scheme, _)| *scheme == tls).unwrap();
            verifiers[0].verify_signature(pkcs1, b"message", &signature).unwrap();
            verifiers[0].verify_signature(pkcs1, b"massage", &signature).unwrap_err();
        }
    }

    #[test]
    fn key_is_read_as_written_and_not_shown() {
        let key = RsaSigningKey::generate().unwrap();
        let der = key.to_pkcs8().unwrap();
        let read = RsaSigningKey::from_pkcs8(&der).unwrap();
        assert_eq!(read.public(), key.public());
        let private = pkcs8::PrivateKeyInfoRef::try_from(&der[..]).unwrap();
        let pkcs1 = private.private_key.as_bytes();
        assert_eq!(RsaSigningKey::from_pkcs1(pkcs1).unwrap().public(), key.public());
        let shown = format!("{key:?}");
        assert!(shown.starts_with("RsaSigningKey(RsaKey(2048 bits, ") && shown.len() < 120);
        for length in [0, 1, der.len() / 2, der.len() - 1] {
            let error = RsaSigningKey::from_pkcs8(&der[..length]).unwrap_err();
            assert_eq!(error, RsaKeyError::Malformed);
        }
        // A signature of a wrong prime would reveal the other one.
        let mut damaged = der.to_vec();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        if let Ok(damaged) = RsaSigningKey::from_pkcs8(&damaged) {
            assert!(damaged.sign(RsaScheme::Pkcs1Sha256, b"message").is_err());
        }
    }
}
