//! Certificates of endorsement keys: TCG EK Credential Profile, and what chips really hold.

use std::fmt;

use crate::der::{Reader, tag};
use crate::error::CertificateError;
use crate::key::{EkPublicKey, Exponents};
use crate::signature::SignatureAlgorithm;
use crate::time::UnixTime;
use crate::x509::{Certificate, MAX_CERTIFICATE};

/// The certificate of an endorsement key. Well formed and meant for one; not yet trusted.
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

    /// The same, with a say about the public exponent.
    pub fn parse_under(der: &[u8], exponents: Exponents) -> Result<Self, CertificateError> {
        let (certificate, spki) = Certificate::read(der)?;
        let key = EkPublicKey::read(&spki, exponents)?;
        let extensions = &certificate.extensions;
        if extensions.basic_constraints.is_some_and(|constraints| constraints.ca) {
            return Err(CertificateError::IsCa);
        }
        // Each kind has its bit, and chips have the other's: Intel's EPID generation on ECC keys,
        // Microsoft's Pluton on RSA keys.
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

    /// The issuer's Name for people.
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

/// A TPM as its endorsement certificate describes it. TCG EK Credential Profile, subjectAltName.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpmModel {
    /// `id:` and eight hexadecimal digits.
    pub manufacturer: Option<String>,
    /// The manufacturer's name of the chip.
    pub model: Option<String>,
    /// The firmware's version, mostly `id:` and hexadecimal digits.
    pub version: Option<String>,
}

impl TpmModel {
    /// The manufacturer by name, of those that are known. TCG TPM Vendor ID Registry.
    #[must_use]
    pub fn vendor(&self) -> Option<&'static str> {
        let id = self.manufacturer.as_deref()?.strip_prefix("id:")?;
        Some(match u32::from_str_radix(id, 16).ok()? {
            0x414d_4400 => "AMD",
            0x4154_4d4c => "Atmel",
            0x474f_4f47 => "Google",
            0x4942_4d00 => "IBM",
            0x4946_5800 => "Infineon",
            0x494e_5443 => "Intel",
            0x4d53_4654 => "Microsoft",
            0x4e53_4d20 => "National Semiconductor",
            0x4e54_4300 => "Nuvoton",
            0x4e54_5a00 => "Nationz",
            0x5354_4d20 => "STMicroelectronics",
            0x0000_1014 => "IBM (software TPM)",
            _ => return None,
        })
    }
}

impl fmt::Display for TpmModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manufacturer = self.vendor().or(self.manufacturer.as_deref());
        let fields = [manufacturer, self.model.as_deref(), self.version.as_deref()];
        let fields: Vec<_> = fields.into_iter().flatten().collect();
        f.write_str(&fields.join(" "))
    }
}
