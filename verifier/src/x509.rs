//! The parts that all certificates have. RFC 5280 §4.1.

use base16ct::lower::encode_string as hex;

use crate::der::{self, Element, MAX_CERTIFICATE, Reader, tag};
use crate::error::CertificateError;
use crate::extensions::Extensions;
use crate::name::Name;
use crate::signature::SignatureAlgorithm;
use crate::time::UnixTime;

/// Limit in bytes. RFC 5280 §4.1.2.2 allows 20, but some certificates have padding.
const MAX_SERIAL: usize = 64;

/// A well-formed certificate of version 3 without unknown critical extensions.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    /// The bytes that are signed.
    pub(crate) tbs: Vec<u8>,
    /// The content octets of the INTEGER.
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) signature: Vec<u8>,
    pub(crate) issuer: Name,
    pub(crate) subject: Name,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) extensions: Extensions,
}

impl Certificate {
    /// Reads a certificate, and leaves its subjectPublicKeyInfo to the caller, which knows its purpose.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Self, Element<'_>), CertificateError> {
        if bytes.len() > MAX_CERTIFICATE {
            return Err(CertificateError::TooLarge { length: bytes.len() });
        }
        let mut input = Reader::new(bytes);
        let whole = input.expect(tag::SEQUENCE, "certificate")?;
        if !input.is_empty() {
            return Err(CertificateError::TrailingBytes { offset: input.offset() });
        }
        let mut fields = whole.reader();
        let tbs = fields.expect(tag::SEQUENCE, "tbsCertificate")?;
        let algorithm = fields.expect(tag::SEQUENCE, "signatureAlgorithm")?;
        let signature = fields.expect(tag::BIT_STRING, "signatureValue")?;
        fields.end("certificate")?;
        let signature = signature.bytes_of_bits("signatureValue")?.rest();

        let signed = Signed::read(&tbs)?;
        if signed.algorithm.raw != algorithm.raw {
            return Err(CertificateError::AlgorithmsDiffer);
        }
        let [not_before, not_after] = signed.validity;
        let certificate = Self {
            der: bytes.to_vec(),
            tbs: tbs.raw.to_vec(),
            serial: signed.serial.to_vec(),
            algorithm: SignatureAlgorithm::read(&algorithm)?,
            signature: signature.to_vec(),
            issuer: signed.issuer,
            subject: signed.subject,
            not_before,
            not_after,
            extensions: signed.extensions,
        };
        Ok((certificate, signed.key))
    }

    /// The serial number as allow rules write it: the bytes of its magnitude in lowercase
    /// hexadecimal, joined by colons.
    pub(crate) fn serial_text(&self) -> String {
        let magnitude = magnitude(&self.serial);
        let bytes: Vec<_> = magnitude.iter().map(|&byte| hex(&[byte])).collect();
        bytes.join(":")
    }
}

/// The subject's name as text, also of a certificate that is otherwise malformed.
pub(crate) fn subject_text(der: &[u8]) -> Option<String> {
    let mut fields = Reader::new(der).sequence("").ok()?.sequence("").ok()?;
    fields.optional(tag::constructed(0), "").ok()?;
    // serialNumber, signature, issuer, validity
    for _ in 0..4 {
        fields.any("").ok()?;
    }
    let subject = Name::read(&fields.expect(tag::SEQUENCE, "").ok()?, "").ok()?;
    Some(subject.text())
}

/// TBSCertificate.
struct Signed<'a> {
    serial: &'a [u8],
    algorithm: Element<'a>,
    issuer: Name,
    validity: [UnixTime; 2],
    subject: Name,
    key: Element<'a>,
    extensions: Extensions,
}

impl<'a> Signed<'a> {
    fn read(tbs: &Element<'a>) -> Result<Self, CertificateError> {
        let mut fields = tbs.reader();
        match version(&mut fields)? {
            3 => {}
            other => return Err(CertificateError::Version(other)),
        }
        let serial = fields.expect(tag::INTEGER, "serialNumber")?;
        if serial.content.is_empty() || serial.content.len() > MAX_SERIAL {
            return Err(serial.error("serialNumber", "is not of 1 to 64 bytes").into());
        }
        let algorithm = fields.expect(tag::SEQUENCE, "signature")?;
        let issuer = Name::read(&fields.expect(tag::SEQUENCE, "issuer")?, "issuer")?;
        if issuer.is_empty() {
            return Err(CertificateError::NameMissing("issuer"));
        }
        let validity = validity(&mut fields)?;
        let subject = Name::read(&fields.expect(tag::SEQUENCE, "subject")?, "subject")?;
        let key = fields.expect(tag::SEQUENCE, "subjectPublicKeyInfo")?;
        fields.optional(tag::context(1), "issuerUniqueID")?;
        fields.optional(tag::context(2), "subjectUniqueID")?;
        let extensions = match fields.optional(tag::constructed(3), "extensions")? {
            Some(extensions) => Extensions::read(&extensions)?,
            None => Extensions::default(),
        };
        fields.end("tbsCertificate")?;
        let serial = serial.content;
        Ok(Self { serial, algorithm, issuer, validity, subject, key, extensions })
    }
}

/// `[0] EXPLICIT Version DEFAULT v1`, counted from 1.
fn version(fields: &mut Reader<'_>) -> der::Result<u32> {
    let Some(explicit) = fields.optional(tag::constructed(0), "version")? else { return Ok(1) };
    let mut explicit = explicit.reader();
    let version = explicit.expect(tag::INTEGER, "version")?.small("version")?;
    explicit.end("version")?;
    Ok(version.saturating_add(1))
}

fn validity(fields: &mut Reader<'_>) -> Result<[UnixTime; 2], CertificateError> {
    let mut validity = fields.sequence("validity")?;
    let not_before = UnixTime::read(&mut validity, "notBefore")?;
    let not_after = UnixTime::read(&mut validity, "notAfter")?;
    validity.end("validity")?;
    if not_after < not_before {
        return Err(CertificateError::Validity);
    }
    Ok([not_before, not_after])
}

/// The absolute value of a two's complement number, in the fewest bytes but at least one.
fn magnitude(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    if matches!(content, [0x80..=0xff, ..]) {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(carry.into());
        }
    }
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    bytes.drain(..zeros.min(bytes.len().saturating_sub(1)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes() {
        for (content, expected) in [
            (&[0x5e, 0xcd][..], &[0x5e, 0xcd][..]),
            (&[0x00, 0x80], &[0x80]),
            (&[0x00, 0x00, 0x05], &[0x05]),
            (&[0x00], &[0x00]),
            (&[0x00, 0x00], &[0x00]),
            (&[0xff], &[0x01]),
            (&[0x80], &[0x80]),
            (&[0xff, 0x00], &[0x01, 0x00]),
            (&[0x80, 0x00], &[0x80, 0x00]),
        ] {
            assert_eq!(magnitude(content), expected, "{content:02x?}");
        }
    }
}
