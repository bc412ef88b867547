//! The endorsement keys of a TPM as other systems know them.

use std::fmt;
use std::str::FromStr;

use base16ct::lower::encode_string as hex;
use base64ct::{Base64UrlUnpadded, Encoding};
use host::exit::{Exit, Failure};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tpm2::Tpm;
use tpm2::commands::GetCapability;
use tpm2::crypto::object_name;
use tpm2::endorsement::{self, DEFAULT_KIND, EK_KINDS, EkKind, EkPublicKey, SM2};
use tpm2::object::Loaded;
use tpm2::transport::Transport;
use tpm2::types::{Capability, CapabilityData, Curve, Handle, Id, Property};
use verifier::{CaCertificate, EkCertificate, EkPublicKey as VerifiedKey};
use x509_cert::der::pem::{LineEnding, encode_string};

use crate::tpm::ek_certificate::{self, Stored};
use crate::tpm::failure;
use crate::tpm::passwords::Passwords;

/// Which endorsement key is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub enum EkChoice {
    /// The first that has a certificate; without any, the one that every TPM can make.
    #[default]
    Auto,
    /// This one.
    Kind(&'static EkKind),
}

impl EkChoice {
    /// What people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kind(kind) => kind.name,
        }
    }
}

impl EkChoice {
    /// Whether an endorsement key of this name is one that is wanted.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Auto => true,
            Self::Kind(kind) => kind.name == name,
        }
    }
}

impl FromStr for EkChoice {
    type Err = UnknownEk;

    fn from_str(name: &str) -> Result<Self, UnknownEk> {
        match name {
            "auto" => Ok(Self::Auto),
            name if name == SM2.name => Err(UnknownEk::Unsupported(&SM2)),
            name => EkKind::by_name(name).map(Self::Kind).ok_or(UnknownEk::Name),
        }
    }
}

impl PartialEq for EkChoice {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for EkChoice {}

impl fmt::Display for EkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of an endorsement key that can be used.
#[derive(Clone, Copy, Debug)]
pub enum UnknownEk {
    /// No kind of endorsement key has this name.
    Name,
    /// The profile has such a kind, and it is not supported.
    Unsupported(&'static EkKind),
}

impl fmt::Display for UnknownEk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Unsupported(kind) = self {
            let profile = kind.profile;
            write!(
                f,
                "endorsement keys on {kind} ({profile}), with their hash sm3, are not supported: "
            )?;
        }
        f.write_str("the endorsement key must be one of auto")?;
        EK_KINDS.iter().try_for_each(|kind| write!(f, ", {}", kind.name))
    }
}

impl std::error::Error for UnknownEk {}

/// An endorsement key as it was found: its kind and, if the TPM has one, its certificate.
#[derive(Clone, Debug)]
pub struct FoundEk {
    /// The kind.
    pub kind: &'static EkKind,
    /// The certificate.
    pub certificate: Option<EkCertificate>,
}

/// Finds the endorsement key that is wanted: two commands if the first one tried has a certificate.
///
/// # Errors
/// The TPM's, or what it holds is no certificate.
pub fn choose<T: Transport>(
    tpm: &mut Tpm<T>,
    choice: EkChoice,
    passwords: &Passwords,
) -> Result<FoundEk, Failure> {
    let first = match choice {
        EkChoice::Kind(kind) => {
            let certificate = ek_certificate::read(tpm, kind, passwords)?.certificate()?;
            return Ok(FoundEk { kind, certificate });
        }
        EkChoice::Auto => DEFAULT_KIND,
    };
    if let Stored::Certificate(certificate) = ek_certificate::read(tpm, first, passwords)? {
        return Ok(FoundEk { kind: first, certificate: Some(*certificate) });
    }
    for kind in endorsement::certified(tpm).map_err(failure::command)? {
        if let Stored::Certificate(certificate) = ek_certificate::read(tpm, kind, passwords)? {
            return Ok(FoundEk { kind, certificate: Some(*certificate) });
        }
    }
    Ok(FoundEk { kind: first, certificate: None })
}

/// The certificates of CAs that the TPM holds, and what is to be said of what else is there.
///
/// # Errors
/// The TPM's.
pub fn chain<T: Transport>(
    tpm: &mut Tpm<T>,
    passwords: &Passwords,
) -> Result<(Vec<CaCertificate>, Vec<String>), Failure> {
    let found = endorsement::chain(tpm, passwords.as_tpm()).map_err(failure::command)?;
    let odd = |index: &Handle| {
        format!(
            "NV index {:#010x} contains data that is not a certificate; the rest is used",
            index.0
        )
    };
    let mut remarks: Vec<String> = found.passed_over.iter().map(odd).collect();
    let mut chain = Vec::new();
    for der in found.certificates {
        match CaCertificate::parse(&der) {
            Ok(ca) => chain.push(ca),
            Err(error) => remarks.push(format!("a certificate in the TPM is unusable: {error}")),
        }
    }
    Ok((chain, remarks))
}

/// The bytes of a key as the TPM stack wants them.
#[must_use]
pub fn key_bytes(key: &VerifiedKey) -> EkPublicKey<'_> {
    match key {
        VerifiedKey::Rsa(rsa) => EkPublicKey::Rsa(rsa.modulus()),
        VerifiedKey::Ecc(ecc) => EkPublicKey::Ecc(ecc.x(), ecc.y()),
    }
}

/// What an operator needs to know of one endorsement key.
#[derive(Clone, Debug, Serialize)]
pub struct EkReport {
    /// Our name of the kind.
    pub kind: &'static str,
    /// The EK profile's name of its template.
    pub profile: &'static str,
    /// Where it is persistent; absent if it is not.
    pub persistent_handle: Option<String>,
    /// Lowercase hexadecimal SHA-256 of the key's SubjectPublicKeyInfo.
    pub ek_public_hash: String,
    /// The forms in which others write the same.
    pub forms: Forms,
    /// The key, PEM.
    pub public_key: String,
    /// The certificate; absent if the TPM has none.
    pub certificate: Option<CertificateReport>,
}

/// How other systems name an endorsement key.
#[derive(Clone, Debug, Serialize)]
pub struct Forms {
    /// Teleport, and SPIRE's TPM plugin: hexadecimal SHA-256 of the SubjectPublicKeyInfo.
    pub teleport: String,
    /// Vault: the same with its algorithm before it.
    pub vault: String,
    /// Keylime: hexadecimal SHA-256 of the PEM text.
    pub keylime: String,
    /// The TPM: the Name of the object.
    pub tpm_name: Option<String>,
    /// Intel's certificate service: base64url SHA-256 of the key's numbers.
    pub intel: String,
    /// AMD's certificate service: the first half of a SHA-256 of the key's numbers, hexadecimal.
    pub amd: String,
}

/// What an operator needs to know of a certificate.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateReport {
    /// Lowercase hexadecimal bytes joined by colons.
    pub serial: String,
    /// Who issued it.
    pub issuer: String,
    /// Who made the TPM, if the certificate says.
    pub vendor: Option<&'static str>,
    /// The TPM's model, if the certificate says.
    pub model: Option<String>,
    /// The certificate, PEM.
    pub pem: String,
}

/// Reports one endorsement key. The key in a certificate is compared with the one in the TPM where that is persistent;
/// without certificate the key itself is found or made, which takes many seconds on some chips.
///
/// # Errors
/// The TPM's, or the certificate is not of the key.
pub fn report<T: Transport>(
    tpm: &mut Tpm<T>,
    found: &FoundEk,
    passwords: &Passwords,
) -> Result<EkReport, Failure> {
    let kind = found.kind;
    let resident = match endorsement::find(tpm, kind).map_err(failure::command)? {
        None if found.certificate.is_none() => Some(create(tpm, kind, passwords)?),
        resident => resident,
    };
    let resident_key = resident.as_ref().map(resident_key).transpose()?;
    let key = match (&found.certificate, &resident_key) {
        (Some(certificate), Some(resident)) if certificate.public_key() != resident => {
            return Err(mismatch(kind));
        }
        (Some(certificate), _) => certificate.public_key().clone(),
        (None, Some(resident)) => resident.clone(),
        (None, None) => return Err(mismatch(kind)),
    };
    let bytes = key_bytes(&key);
    let name = kind.public(bytes).ok().and_then(|public| object_name(&public).ok());
    let persistent =
        resident.filter(|ek| endorsement::persistent_handles(kind).contains(&ek.handle()));
    let spki = key.spki_der();
    let public_key = pem("PUBLIC KEY", &spki)?;
    Ok(EkReport {
        kind: kind.name,
        profile: kind.profile,
        persistent_handle: persistent.map(|ek| format!("{:#010x}", ek.handle().0)),
        ek_public_hash: key.public_hash(),
        forms: Forms {
            teleport: key.public_hash(),
            vault: format!("sha256-{}", key.public_hash()),
            keylime: hex(&Sha256::digest(&public_key)),
            tpm_name: name.map(|name| name.to_string()),
            intel: intel(&bytes),
            amd: amd(&bytes),
        },
        public_key,
        certificate: found.certificate.as_ref().map(report_certificate).transpose()?,
    })
}

fn report_certificate(certificate: &EkCertificate) -> Result<CertificateReport, Failure> {
    Ok(CertificateReport {
        serial: certificate.serial(),
        issuer: certificate.issuer_text(),
        vendor: certificate.tpm().and_then(verifier::TpmModel::vendor),
        model: certificate.tpm().and_then(|tpm| tpm.model.clone()),
        pem: pem("CERTIFICATE", certificate.der())?,
    })
}

/// Reports every endorsement key that has a certificate, and the one that would be chosen.
///
/// # Errors
/// As [`report`].
pub fn report_all<T: Transport>(
    tpm: &mut Tpm<T>,
    passwords: &Passwords,
) -> Result<Vec<EkReport>, Failure> {
    let mut reports = Vec::new();
    for kind in endorsement::certified(tpm).map_err(failure::command)? {
        if let Stored::Certificate(certificate) = ek_certificate::read(tpm, kind, passwords)? {
            let found = FoundEk { kind, certificate: Some(*certificate) };
            reports.push(report(tpm, &found, passwords)?);
        }
    }
    if reports.is_empty() {
        let found = FoundEk { kind: DEFAULT_KIND, certificate: None };
        reports.push(report(tpm, &found, passwords)?);
    }
    Ok(reports)
}

/// Makes the key of a kind that has no certificate.
pub(crate) fn create<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &'static EkKind,
    passwords: &Passwords,
) -> Result<Loaded, Failure> {
    endorsement::create(tpm, kind, None, passwords.as_tpm())
        .map_err(|error| passwords.explain(error))?
        .ok_or_else(|| mismatch(kind))
}

/// A key in the TPM as the verifier reads it, with all its checks.
pub(crate) fn resident_key(ek: &Loaded) -> Result<VerifiedKey, Failure> {
    let wrong = |error: &dyn fmt::Display| {
        Failure::new(
            Exit::Data,
            format!("the endorsement key at {:#010x}: {error}", ek.handle().0),
            "choose another endorsement key with --ek; `agent doctor` shows known weaknesses of \
             the TPM's firmware",
        )
    };
    let public = ek.public().map_err(|error| wrong(&error))?;
    match public.id {
        Id::Rsa(rsa) => verifier::RsaKey::new(rsa.unique.octets(), 65537)
            .map(VerifiedKey::Rsa)
            .map_err(|error| wrong(&error)),
        Id::Ecc(ecc) => {
            let curve = match ecc.curve {
                Curve::NIST_P256 => verifier::Curve::P256,
                Curve::NIST_P384 => verifier::Curve::P384,
                Curve::NIST_P521 => verifier::Curve::P521,
                other => return Err(wrong(&format!("its curve is {other:?}"))),
            };
            let field = ecc.curve.field_len().unwrap_or_default();
            let [x, y] = [ecc.unique.x, ecc.unique.y].map(|number| padded(number.octets(), field));
            verifier::EccKey::new(curve, &x, &y)
                .map(VerifiedKey::Ecc)
                .map_err(|error| wrong(&error))
        }
        _ => Err(wrong(&"it is neither RSA nor ECC")),
    }
}

/// A coordinate at the size of the field: not every TPM says its leading zeros.
fn padded(number: &[u8], field: usize) -> Vec<u8> {
    let mut bytes = vec![0; field.saturating_sub(number.len())];
    bytes.extend_from_slice(number);
    bytes
}

/// A certificate that is not of the key in the TPM.
pub(crate) fn mismatch(kind: &EkKind) -> Failure {
    Failure::new(
        Exit::Data,
        format!(
            "the EK certificate at NV index {:#010x} is not for this TPM's {kind} endorsement key",
            kind.certificate.0
        ),
        "choose another key with --ek: the TPM was replaced, or its firmware was updated, after \
         the certificate was issued",
    )
}

/// Intel's service takes SHA-256 of modulus and exponent, or of both coordinates, in base64url.
fn intel(key: &EkPublicKey<'_>) -> String {
    let hash = match key {
        EkPublicKey::Rsa(modulus) => {
            Sha256::new().chain_update(modulus).chain_update([1, 0, 1]).finalize()
        }
        EkPublicKey::Ecc(x, y) => Sha256::new().chain_update(x).chain_update(y).finalize(),
    };
    Base64UrlUnpadded::encode_string(&hash)
}

/// AMD's service takes the first 16 bytes of SHA-256 of a word for the type and the key's numbers.
fn amd(key: &EkPublicKey<'_>) -> String {
    let hash = match key {
        EkPublicKey::Rsa(modulus) => Sha256::new()
            .chain_update([0, 0, 0x22, 0x22])
            .chain_update(65537_u32.to_be_bytes())
            .chain_update(modulus)
            .finalize(),
        EkPublicKey::Ecc(x, y) => Sha256::new()
            .chain_update([0, 0, 0x44, 0x44])
            .chain_update(x)
            .chain_update(y)
            .finalize(),
    };
    hex(hash.get(..16).unwrap_or(&hash))
}

/// What the TPM says of its maker and firmware.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TpmReport {
    /// Four characters, such as INTC.
    pub manufacturer: String,
    /// The vendor's words.
    pub vendor: String,
    /// Two words of the firmware's version, as vendors print them.
    pub firmware: String,
    /// Version of the library specification.
    pub revision: u32,
}

/// Asks the TPM for its maker and firmware.
///
/// # Errors
/// The TPM's.
pub fn tpm<T: Transport>(tpm: &mut Tpm<T>) -> Result<TpmReport, Failure> {
    let command = GetCapability {
        capability: Capability::TPM_PROPERTIES,
        property: Property::FAMILY_INDICATOR.0,
        property_count: 16,
    };
    let answer = tpm.run(&command, []).map_err(failure::command)?;
    let CapabilityData::TpmProperties(properties) = answer.capability_data else {
        return Ok(TpmReport::default());
    };
    let value = |property| properties.iter().find(|tagged| tagged.property == property);
    let number = |property| value(property).map_or(0, |tagged| tagged.value);
    let text = |list: &[Property]| -> String {
        let bytes = list.iter().flat_map(|property| number(*property).to_be_bytes());
        let printable = bytes.filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
        printable.map(char::from).collect::<String>().trim().to_owned()
    };
    let [v1, v2] = [Property::FIRMWARE_VERSION_1, Property::FIRMWARE_VERSION_2].map(number);
    Ok(TpmReport {
        manufacturer: text(&[Property::MANUFACTURER]),
        vendor: text(&[
            Property::VENDOR_STRING_1,
            Property::VENDOR_STRING_2,
            Property::VENDOR_STRING_3,
            Property::VENDOR_STRING_4,
        ]),
        firmware: format!("{}.{}.{}.{}", v1 >> 16, v1 & 0xffff, v2 >> 16, v2 & 0xffff),
        revision: number(Property::REVISION),
    })
}

pub(crate) fn pem(label: &str, der: &[u8]) -> Result<String, Failure> {
    encode_string(label, LineEnding::LF, der).map_err(Failure::bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsupported_key_is_distinguished_from_an_unknown_name() {
        let says = |name: &str| name.parse::<EkChoice>().unwrap_err().to_string();
        let unsupported = says("sm2");
        assert!(unsupported.starts_with("endorsement keys on sm2 (H-5)"), "{unsupported}");
        assert!(
            unsupported.contains("not supported: the endorsement key must be one of auto, rsa2048")
        );
        assert!(says("sm3").starts_with("the endorsement key must be one of auto"));
    }
}
