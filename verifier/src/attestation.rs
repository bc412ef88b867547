//! What a TPM attests: quotes, and where keys are and come from. TPM 2.0 Part 2, TPMS_ATTEST.
//!
//! The signature is checked over the bytes as they came before anything in them is looked at.

use std::fmt;

use tpm2::crypto::{HashAlg, NameError, UnknownHash, object_name};
use tpm2::types::{
    Alg, Attest, Attested, ClockInfo, CreationData, NameBuf, Public, QuoteInfo, Structure,
};
use tpm2::wire::{Malformed, Unmarshal};

use crate::attestation_key::AttestationKey;
use crate::pcr::{PcrValues, QuotedPcrs};

/// The shortest nonce that makes a quote fresh, in bytes.
pub const MIN_NONCE: usize = 16;

/// An attestation with its signature, as the TPM returned them. Nothing in it is trusted yet.
#[derive(Clone, Copy, Debug)]
pub struct Attestation<'a> {
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
}

/// What a TPM says in every attestation. The key of an owner's hierarchy says resets and firmware
/// obfuscated: they can be compared with what the same key said before, and with nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The clock, how often it was reset, and whether it may have gone back.
    pub clock_info: ClockInfo,
    /// The version of the firmware, as the manufacturer counts.
    pub firmware_version: u64,
    /// The qualified Name of the key that signed.
    pub qualified_signer: NameBuf,
}

/// Values of PCRs at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The values that were quoted. Which they are, the TPM's owner chose: see to it that all that
    /// matter are among them.
    pub pcrs: QuotedPcrs,
    /// The other fields of the attestation.
    pub report: Report,
}

/// An object that was loaded in the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Its Name: that of the public area that was shown.
    pub name: NameBuf,
    /// Its qualified Name, in which those of all its ancestors are.
    pub qualified_name: NameBuf,
    /// The other fields of the attestation.
    pub report: Report,
}

/// An object that the TPM created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created<'a> {
    /// Its Name: that of the public area that was shown.
    pub name: NameBuf,
    /// Where and how.
    pub creation: CreationData<'a>,
    /// The other fields of the attestation.
    pub report: Report,
}

impl AttestationKey {
    /// Verifies TPM2_Quote's answer to `nonce`, with at least [`MIN_NONCE`] fresh bytes in it, over
    /// these values. Those that it does not cover are left behind.
    pub fn quote(
        &self,
        evidence: Attestation<'_>,
        nonce: &[u8],
        values: &PcrValues,
    ) -> Result<Quote, AttestationError> {
        if nonce.len() < MIN_NONCE {
            return Err(AttestationError::NonceTooShort(nonce.len()));
        }
        let (attested, report) = self.attested(evidence, nonce)?;
        let Attested::Quote(quote) = attested else {
            return Err(AttestationError::Kind(attested.selector()));
        };
        Ok(Quote { pcrs: quoted(&quote, self.hash(), values)?, report })
    }

    /// Verifies TPM2_Certify's answer about the object with this TPMT_PUBLIC. What the object may
    /// do, its attributes say.
    pub fn certified(
        &self,
        evidence: Attestation<'_>,
        nonce: &[u8],
        public: &[u8],
    ) -> Result<Certified, AttestationError> {
        let (attested, report) = self.attested(evidence, nonce)?;
        let Attested::Certify(info) = attested else {
            return Err(AttestationError::Kind(attested.selector()));
        };
        let (name, _) = named(public, info.name.octets())?;
        let qualified_name = NameBuf::new(info.qualified_name.octets());
        let qualified_name = qualified_name.ok_or(AttestationError::OtherObject)?;
        Ok(Certified { name, qualified_name, report })
    }

    /// Verifies TPM2_CertifyCreation's answer about the object with this TPMT_PUBLIC and this
    /// TPMS_CREATION_DATA.
    pub fn created<'a>(
        &self,
        evidence: Attestation<'_>,
        nonce: &[u8],
        public: &[u8],
        creation_data: &'a [u8],
    ) -> Result<Created<'a>, AttestationError> {
        let (attested, report) = self.attested(evidence, nonce)?;
        let Attested::Creation(info) = attested else {
            return Err(AttestationError::Kind(attested.selector()));
        };
        let (name, hash) = named(public, info.object_name.octets())?;
        if hash.digest(&[creation_data]).octets() != info.creation_hash.octets() {
            return Err(AttestationError::OtherCreation);
        }
        let creation = CreationData::from_bytes(creation_data);
        let creation = creation.map_err(AttestationError::CreationData)?;
        Ok(Created { name, creation, report })
    }

    /// What is attested, once signature, signer and nonce are as they must be.
    fn attested<'a>(
        &self,
        evidence: Attestation<'a>,
        nonce: &[u8],
    ) -> Result<(Attested<'a>, Report), AttestationError> {
        self.verify(evidence.attest, evidence.signature)
            .map_err(|_| AttestationError::Signature)?;
        let attest = Attest::from_bytes(evidence.attest).map_err(AttestationError::Malformed)?;
        if attest.extra_data.octets() != nonce {
            return Err(AttestationError::Nonce);
        }
        let signer = attest.qualified_signer.octets();
        let qualified_signer = NameBuf::new(signer).ok_or(AttestationError::Signer)?;
        if !self.is_qualified_as(signer) {
            return Err(AttestationError::Signer);
        }
        let Attest { clock_info, firmware_version, attested, .. } = attest;
        Ok((attested, Report { clock_info, firmware_version, qualified_signer }))
    }
}

/// The Name and name algorithm of a public area, if it is this Name.
fn named(public: &[u8], name: &[u8]) -> Result<(NameBuf, HashAlg), AttestationError> {
    let public = Public::from_bytes(public).map_err(AttestationError::Public)?;
    let computed = object_name(&public).map_err(AttestationError::Name)?;
    let hash = HashAlg::try_from(public.name_alg);
    let hash = hash.map_err(|UnknownHash(alg)| AttestationError::Name(NameError::NameAlg(alg)))?;
    if computed.octets() == name {
        Ok((computed, hash))
    } else {
        Err(AttestationError::OtherObject)
    }
}

/// The digest of a quote covers the values in the order of its selections. Part 3 §18.4.
fn quoted(
    quote: &QuoteInfo<'_>,
    hash: HashAlg,
    values: &PcrValues,
) -> Result<QuotedPcrs, AttestationError> {
    let mut covered = PcrValues::new();
    let mut concatenated = Vec::new();
    for selection in quote.pcr_select.iter() {
        for pcr in selection.pcrs() {
            let missing = AttestationError::PcrMissing { bank: selection.hash, pcr };
            let bank = HashAlg::try_from(selection.hash).map_err(|_| missing.clone())?;
            let value = values.of(bank, pcr).ok_or_else(|| missing.clone())?;
            concatenated.extend(value);
            covered = covered.with(bank, pcr, value).ok_or(missing)?;
        }
    }
    if concatenated.is_empty() {
        return Err(AttestationError::NothingQuoted);
    }
    if hash.digest(&[&concatenated]).octets() != quote.pcr_digest.octets() {
        return Err(AttestationError::PcrDigest);
    }
    Ok(QuotedPcrs(covered))
}

/// Why an attestation is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttestationError {
    /// Not a signature of the key over it.
    Signature,
    /// Not a TPMS_ATTEST.
    Malformed(Malformed),
    /// An attestation of something else than was asked for.
    Kind(Structure),
    /// An answer to another nonce.
    Nonce,
    /// A nonce of fewer bytes is refused.
    NonceTooShort(usize),
    /// A key with this public area, but under another parent.
    Signer,
    /// No PCR was quoted.
    NothingQuoted,
    /// A PCR was quoted whose value was not shown, or cannot be.
    PcrMissing {
        /// Its bank.
        bank: Alg,
        /// Its number.
        pcr: u8,
    },
    /// The values that were shown are not those that were quoted.
    PcrDigest,
    /// The object's public area cannot be read.
    Public(Malformed),
    /// The object's public area can have no Name.
    Name(NameError),
    /// Another object than the one that was shown.
    OtherObject,
    /// The object was created otherwise than was shown.
    OtherCreation,
    /// Not a TPMS_CREATION_DATA.
    CreationData(Malformed),
}

impl fmt::Display for AttestationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("the attestation is not signed by the attestation key"),
            Self::Malformed(error) => write!(f, "the attestation: {error}"),
            Self::Kind(kind) => write!(f, "the attestation is of another kind: {kind:?}"),
            Self::Nonce => f.write_str("the attestation answers another nonce"),
            Self::NonceTooShort(length) => {
                write!(f, "a nonce of {length} bytes is shorter than {MIN_NONCE}")
            }
            Self::Signer => f.write_str("the attestation key is under another parent"),
            Self::NothingQuoted => f.write_str("the quote covers no PCR"),
            Self::PcrMissing { bank, pcr } => {
                write!(f, "the quote covers PCR {pcr} of the bank {bank:?}, which was not shown")
            }
            Self::PcrDigest => f.write_str("the PCRs that were shown are not those of the quote"),
            Self::Public(error) => write!(f, "the object's public area: {error}"),
            Self::Name(error) => write!(f, "the object: {error}"),
            Self::OtherObject => f.write_str("the attestation is about another object"),
            Self::OtherCreation => f.write_str("the object was created otherwise than was shown"),
            Self::CreationData(error) => write!(f, "the object's creation data: {error}"),
        }
    }
}

impl std::error::Error for AttestationError {}
