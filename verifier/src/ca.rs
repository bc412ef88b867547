//! Certificates of certification authorities.

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

use crate::error::CertificateError;
use crate::key::{Exponents, OaepIdentifier, PublicKey};
use crate::signature::{self, SignatureWrong};
use crate::time::UnixTime;
use crate::x509::Certificate;

/// A certificate that may issue others: version 3, basicConstraints cA, keyCertSign if it has a
/// keyUsage, an RSA key of 2048 to 4096 bits or one on P-256, P-384 or P-521.
#[derive(Clone, Debug)]
pub struct CaCertificate {
    certificate: Certificate,
    key: PublicKey,
    path_length: Option<u32>,
}

impl CaCertificate {
    /// Reads one certificate: nothing before it and nothing after.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Self::parse_under(der, Exponents::default())
    }

    /// The same, with a policy for the public exponent.
    pub fn parse_under(der: &[u8], exponents: Exponents) -> Result<Self, CertificateError> {
        let (certificate, spki) = Certificate::read(der)?;
        let key = PublicKey::read(&spki, exponents, OaepIdentifier::Refused)?;
        let path_length = match certificate.extensions.basic_constraints {
            Some(constraints) if constraints.ca => constraints.path_length,
            _ => return Err(CertificateError::IsNotCa),
        };
        if certificate.extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(CertificateError::KeyUsage("keyCertSign"));
        }
        if certificate.subject.is_empty() {
            return Err(CertificateError::NameMissing("subject"));
        }
        Ok(Self { certificate, key, path_length })
    }

    /// The DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.certificate.der
    }

    /// The subject's Name, raw.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        self.certificate.subject.raw()
    }

    /// The subject's Name as text.
    #[must_use]
    pub fn subject_text(&self) -> String {
        self.certificate.subject.text()
    }

    /// The beginning of its validity.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.certificate.not_before
    }

    /// The end of its validity.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.certificate.not_after
    }

    /// SHA-256 of the DER, in lowercase hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.der()))
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether this CA's key signed that certificate.
    pub(crate) fn signed(&self, certificate: &Certificate) -> Result<(), SignatureWrong> {
        let Certificate { algorithm, tbs, signature, .. } = certificate;
        signature::verify(&self.key, algorithm, tbs, signature)
    }
}
