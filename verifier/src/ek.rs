//! Certificates of endorsement keys: TCG EK Credential Profile, and what chips really hold.

use crate::der::MAX_CERTIFICATE;
use crate::der::{Reader, tag};
use crate::error::CertificateError;
use crate::key::{EkPublicKey, Exponents};
use crate::signature::SignatureAlgorithm;
use crate::time::UnixTime;
use crate::tpm_model::TpmModel;
use crate::x509::Certificate;

/// The certificate of an endorsement key: well formed, and issued for one, but not yet verified.
#[derive(Clone, Debug)]
pub struct EkCertificate {
    certificate: Certificate,
    key: EkPublicKey,
}

impl EkCertificate {
    /// Reads a certificate as it comes over the network: nothing before it and nothing after.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Self::parse_under(der, Exponents::default())
    }

    /// The same, with a policy for the public exponent.
    pub fn parse_under(der: &[u8], exponents: Exponents) -> Result<Self, CertificateError> {
        let (certificate, spki) = Certificate::read(der)?;
        let key = EkPublicKey::read(&spki, exponents)?;
        let extensions = &certificate.extensions;
        if extensions.basic_constraints.is_some_and(|constraints| constraints.ca) {
            return Err(CertificateError::IsCa);
        }
        // keyEncipherment is for RSA and keyAgreement for ECC, but some chips have the other one:
        // Intel's EPID generation on ECC keys, Microsoft's Pluton on RSA keys.
        if extensions
            .key_usage
            .is_some_and(|usage| !usage.key_encipherment() && !usage.key_agreement())
        {
            return Err(CertificateError::KeyUsage(match key {
                EkPublicKey::Rsa(_) => "keyEncipherment",
                EkPublicKey::Ecc(_) => "keyAgreement",
            }));
        }
        if extensions.purposes.is_some_and(|purposes| !purposes.ek_certificate) {
            return Err(CertificateError::ExtendedKeyUsage);
        }
        Ok(Self { certificate, key })
    }

    /// Reads a certificate from an NV index: it may be wrapped in the header of a stored
    /// certificate (10 01 00, a length, mostly the tag 10 02 of a full certificate; TCG PC Client
    /// Specific Implementation Specification 1.2, §7.3.2), and whatever follows the outer SEQUENCE
    /// is padding. Offsets in errors count from the SEQUENCE.
    pub fn from_nv(content: &[u8]) -> Result<Self, CertificateError> {
        let der = match content {
            [0x10, 0x01, 0x00, _, _, 0x10, 0x02, wrapped @ ..]
            | [0x10, 0x01, 0x00, _, _, wrapped @ ..] => wrapped,
            plain => plain,
        };
        let cut = der.get(..MAX_CERTIFICATE).unwrap_or(der);
        let outer = Reader::new(cut).expect(tag::SEQUENCE, "certificate");
        match outer {
            Ok(outer) => Self::parse(outer.raw),
            Err(_) if der.len() > MAX_CERTIFICATE => {
                Err(CertificateError::TooLarge { length: der.len() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The DER, without header and padding.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.certificate.der
    }

    /// The key that it is about.
    #[must_use]
    pub fn public_key(&self) -> &EkPublicKey {
        &self.key
    }

    /// The serial number as allow rules write it (`ek_certificate_serial`): the bytes of its
    /// magnitude in lowercase hexadecimal, joined by colons.
    #[must_use]
    pub fn serial(&self) -> String {
        self.certificate.serial_text()
    }

    /// The issuer's Name, raw.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        self.certificate.issuer.raw()
    }

    /// The subject's Name, raw; mostly an empty one.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        self.certificate.subject.raw()
    }

    /// The issuer's Name as text.
    #[must_use]
    pub fn issuer_text(&self) -> String {
        self.certificate.issuer.text()
    }

    /// The beginning of its validity, when it was issued.
    #[must_use]
    pub fn not_before(&self) -> UnixTime {
        self.certificate.not_before
    }

    /// The end of its validity.
    #[must_use]
    pub fn not_after(&self) -> UnixTime {
        self.certificate.not_after
    }

    /// How it is signed.
    #[must_use]
    pub fn signature_algorithm(&self) -> &SignatureAlgorithm {
        &self.certificate.algorithm
    }

    /// What its subjectAltName says about the TPM.
    #[must_use]
    pub fn tpm(&self) -> Option<&TpmModel> {
        self.certificate.extensions.tpm.as_ref()
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}
