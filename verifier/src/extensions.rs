//! The extensions that are understood. RFC 5280 §4.2.

use crate::der::{self, Element, Reader, tag};
use crate::error::CertificateError;
use crate::tpm_model::TpmModel;
use crate::{name, oid};

/// RFC 5280 §4.2.1.3, by bit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyUsage(u16);

impl KeyUsage {
    const KEY_ENCIPHERMENT: u16 = 1 << 2;
    const KEY_AGREEMENT: u16 = 1 << 4;
    const KEY_CERT_SIGN: u16 = 1 << 5;

    pub(crate) fn key_encipherment(self) -> bool {
        self.0 & Self::KEY_ENCIPHERMENT != 0
    }

    pub(crate) fn key_agreement(self) -> bool {
        self.0 & Self::KEY_AGREEMENT != 0
    }

    pub(crate) fn key_cert_sign(self) -> bool {
        self.0 & Self::KEY_CERT_SIGN != 0
    }
}

/// RFC 5280 §4.2.1.12, as far as it concerns endorsement keys.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Purposes {
    pub(crate) ek_certificate: bool,
    pub(crate) any: bool,
}

/// RFC 5280 §4.2.1.9.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    pub(crate) path_length: Option<u32>,
}

/// What the extensions of one certificate say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) basic_constraints: Option<BasicConstraints>,
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) purposes: Option<Purposes>,
    pub(crate) subject_key_id: Option<Vec<u8>>,
    pub(crate) authority_key_id: Option<Vec<u8>>,
    pub(crate) tpm: Option<TpmModel>,
}

impl Extensions {
    /// Whether they say that the certificate is an endorsement key's, or describe a TPM.
    pub(crate) fn concerns_a_tpm(&self) -> bool {
        self.purposes.is_some_and(|purposes| purposes.ek_certificate) || self.tpm.is_some()
    }

    /// Reads `[3] EXPLICIT Extensions`.
    pub(crate) fn read(outer: &Element<'_>) -> Result<Self, CertificateError> {
        let mut explicit = outer.reader();
        let mut list = explicit.sequence("extensions")?;
        explicit.end("extensions")?;
        let mut extensions = Self::default();
        let mut seen = Vec::new();
        while !list.is_empty() {
            let mut extension = list.sequence("extension")?;
            let kind = extension.expect(tag::OID, "extnID")?.content;
            let critical = match extension.optional(tag::BOOLEAN, "critical")? {
                Some(critical) => critical.boolean("critical")?,
                None => false,
            };
            let value = extension.expect(tag::OCTET_STRING, "extnValue")?;
            extension.end("extension")?;
            if seen.contains(&kind) {
                return Err(CertificateError::DuplicateExtension(oid::dotted(kind)));
            }
            seen.push(kind);
            let understood = extensions.take(kind, &value)?;
            if critical && !understood {
                return Err(CertificateError::CriticalExtension(oid::dotted(kind)));
            }
        }
        Ok(extensions)
    }

    /// Reads one extension. False: not understood.
    fn take(&mut self, kind: &[u8], value: &Element<'_>) -> Result<bool, CertificateError> {
        let mut reader = value.reader();
        match kind {
            oid::BASIC_CONSTRAINTS => {
                self.basic_constraints = Some(basic_constraints(&mut reader)?);
                reader.end("basicConstraints")?;
            }
            oid::KEY_USAGE => {
                let bits = reader.expect(tag::BIT_STRING, "keyUsage")?;
                self.key_usage = Some(KeyUsage(bits.named_bits("keyUsage")?));
                reader.end("keyUsage")?;
            }
            oid::EXTENDED_KEY_USAGE => {
                self.purposes = Some(purposes(&mut reader)?);
                reader.end("extKeyUsage")?;
            }
            oid::SUBJECT_ALT_NAME => {
                self.tpm = subject_alt_name(&mut reader)?;
                reader.end("subjectAltName")?;
            }
            oid::CERTIFICATE_POLICIES => {
                certificate_policies(&mut reader)?;
                reader.end("certificatePolicies")?;
            }
            oid::NAME_CONSTRAINTS => return Err(CertificateError::NameConstraints),
            oid::SUBJECT_KEY_IDENTIFIER => {
                let id = reader.expect(tag::OCTET_STRING, "subjectKeyIdentifier")?;
                self.subject_key_id = Some(id.content.to_vec());
                reader.end("subjectKeyIdentifier")?;
            }
            oid::AUTHORITY_KEY_IDENTIFIER => {
                let mut fields = reader.sequence("authorityKeyIdentifier")?;
                let id = fields.optional(tag::context(0), "authorityKeyIdentifier")?;
                self.authority_key_id = id.map(|id| id.content.to_vec());
                reader.end("authorityKeyIdentifier")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// cA is FALSE by default, and may say so.
fn basic_constraints(reader: &mut Reader<'_>) -> der::Result<BasicConstraints> {
    let mut fields = reader.sequence("basicConstraints")?;
    let ca = match fields.optional(tag::BOOLEAN, "cA")? {
        Some(ca) => ca.boolean("cA")?,
        None => false,
    };
    let path_length = match fields.optional(tag::INTEGER, "pathLenConstraint")? {
        Some(length) if ca => Some(length.small("pathLenConstraint")?),
        Some(length) => return Err(length.error("pathLenConstraint", "is there without cA")),
        None => None,
    };
    fields.end("basicConstraints")?;
    Ok(BasicConstraints { ca, path_length })
}

fn purposes(reader: &mut Reader<'_>) -> der::Result<Purposes> {
    let mut list = reader.sequence("extKeyUsage")?;
    let mut purposes = Purposes::default();
    while !list.is_empty() {
        match list.expect(tag::OID, "keyPurposeId")?.content {
            oid::EK_CERTIFICATE => purposes.ek_certificate = true,
            oid::ANY_EXTENDED_KEY_USAGE => purposes.any = true,
            _ => {}
        }
    }
    Ok(purposes)
}

/// Any policy will do: no path is ever asked for an explicit one. RFC 5280 §6.1.1 (c), (e).
fn certificate_policies(reader: &mut Reader<'_>) -> der::Result<()> {
    let mut list = reader.sequence("certificatePolicies")?;
    while !list.is_empty() {
        let mut policy = list.sequence("policyInformation")?;
        policy.expect(tag::OID, "policyIdentifier")?;
        policy.optional(tag::SEQUENCE, "policyQualifiers")?;
        policy.end("policyInformation")?;
    }
    Ok(())
}

/// TCG EK Credential Profile: the TPM is described in a directoryName; other names may stand
/// beside.
fn subject_alt_name(reader: &mut Reader<'_>) -> der::Result<Option<TpmModel>> {
    let mut names = reader.sequence("subjectAltName")?;
    let mut tpm = TpmModel::default();
    while !names.is_empty() {
        let general = names.any("generalName")?;
        if general.tag != tag::constructed(4) {
            continue;
        }
        let mut explicit = general.reader();
        let directory = explicit.expect(tag::SEQUENCE, "directoryName")?;
        explicit.end("directoryName")?;
        for attribute in name::attributes(&directory, "directoryName")? {
            let field = match attribute.kind {
                oid::TPM_MANUFACTURER => &mut tpm.manufacturer,
                oid::TPM_MODEL => &mut tpm.model,
                oid::TPM_VERSION => &mut tpm.version,
                _ => continue,
            };
            field.get_or_insert_with(|| attribute.text());
        }
    }
    Ok((tpm != TpmModel::default()).then_some(tpm))
}
