//! The evidence of a join as it is kept: what the decision was based on, so that it can be appraised again.
//!
//! The secrets in it are worthless: they were for one connection, and the join is over.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::resource::{EkHash, Invalid, JoinId, Name, Rule, Timestamp};

/// The longest claim that is kept, without the certificates in it: a typical one has 200 bytes. Of a longer one only the length is
/// kept.
const MAX_CLAIM: usize = 4 * 1024;

/// The longest claim of a refused join that is kept, with its certificates.
const MAX_REFUSED_CLAIM: usize = 12 * 1024;

/// Bytes, base64 in a record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl TryFrom<String> for Bytes {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Base64::decode_vec(&text).map(Self).map_err(|cause| Invalid(cause.to_string()))
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        Base64::encode_string(&bytes.0)
    }
}

/// The protocol of a join: it says what the bytes of its claim are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// `endorse.v1`: the init message as it was received.
    #[serde(rename = "endorse.v1")]
    EndorseV1,
    /// Teleport's services: the `TPMInit` of `teleport.join.v1` with the same content.
    #[serde(rename = "teleport")]
    Teleport,
}

/// A part of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// As it was received.
    Bytes(Bytes),
    /// A certificate, which is kept apart; its SHA-256, hexadecimal.
    Certificate(String),
    /// So many bytes that were too long to be kept.
    Omitted(u64),
}

/// How a host answered the challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// By a MAC with the secret, and the signature of the key to certify.
    Mac {
        /// HMAC-SHA256.
        mac: Bytes,
        /// ECDSA, DER.
        signature: Bytes,
    },
    /// By the secret itself.
    Secret(Bytes),
}

/// How a join ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With a certificate.
    Granted {
        /// `BOT/UUID`.
        instance: String,
        /// 1 for a new instance.
        generation: u64,
        /// Of the X.509 certificate.
        certificate_serial: String,
        /// When it ends.
        certificate_expires: Timestamp,
    },
    /// Without.
    Refused {
        /// The code of the refusal.
        refusal: String,
        /// Its reason.
        reason: String,
    },
}

/// The policy by which certificates were judged; `false` is the strict choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// EK certificates may have expired.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expired_accepted: bool,
    /// SHA-1 is accepted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sha1_accepted: bool,
    /// EK certificates need not say that they are of a TPM.
    #[serde(default, skip_serializing_if = "is_false")]
    pub without_purpose_accepted: bool,
}

/// The evidence of one join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinEvidence {
    /// Which join.
    pub join_id: JoinId,
    /// When it was decided.
    pub time: Timestamp,
    /// The authority that decided, by its ID.
    pub authority: String,
    /// The version of its program.
    pub version: String,
    /// Where the connection came from.
    pub remote: String,
    /// The protocol.
    pub protocol: Protocol,
    /// What the host claimed.
    pub claim: Vec<Part>,
    /// What only the two ends of the connection could compute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exporter: Option<Bytes>,
    /// What all randomness of the challenge was derived from; absent if none was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Bytes>,
    /// The host's answer; absent if none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// The EK's hash, as far as it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek: Option<EkHash>,
    /// The token.
    pub token: Name,
    /// SHA-256 of the token as it was, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_sha256: Option<String>,
    /// Whether the token demanded an EK certificate.
    #[serde(default, skip_serializing_if = "is_false")]
    pub certificate_demanded: bool,
    /// The bot of the token.
    pub bot: Name,
    /// How certificates were judged.
    #[serde(default)]
    pub policy: Policy,
    /// SHA-256 of the CA that verified the EK certificate, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
    /// The rule that matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// How it ended.
    pub end: End,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The SHA-256 of a certificate, hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(der))
}

/// A claim whose certificates are kept apart, in the order in which they are in it.
pub(crate) fn without_certificates(claim: &[u8], certificates: &[Vec<u8>]) -> Vec<Part> {
    let (mut parts, mut rest, mut kept) = (Vec::new(), claim, 0_usize);
    for der in certificates.iter().filter(|der| !der.is_empty()) {
        let Some(start) = rest.windows(der.len()).position(|window| window == der.as_slice())
        else {
            continue;
        };
        let (before, after) = rest.split_at(start);
        kept = kept.saturating_add(before.len());
        parts.extend([Part::Bytes(Bytes(before.to_vec())), Part::Certificate(fingerprint(der))]);
        rest = after.get(der.len()..).unwrap_or_default();
    }
    parts.push(Part::Bytes(Bytes(rest.to_vec())));
    bounded(parts, claim.len(), kept.saturating_add(rest.len()) <= MAX_CLAIM)
}

/// The claim of a refused join, as it is.
pub(crate) fn whole(claim: &[u8]) -> Vec<Part> {
    let parts = vec![Part::Bytes(Bytes(claim.to_vec()))];
    bounded(parts, claim.len(), claim.len() <= MAX_REFUSED_CLAIM)
}

fn bounded(parts: Vec<Part>, length: usize, fits: bool) -> Vec<Part> {
    if fits { parts } else { vec![Part::Omitted(length as u64)] }
}

/// The claim from its parts, if `certificate` has those that were kept apart, by their SHA-256.
pub(crate) fn joined(
    parts: &[Part],
    certificate: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, String> {
    let mut claim = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(Bytes(bytes)) => claim.extend_from_slice(bytes),
            Part::Certificate(sha256) => {
                let missing = || format!("the certificate {sha256} is no longer kept");
                claim.extend(certificate(sha256).ok_or_else(missing)?);
            }
            Part::Omitted(length) => {
                return Err(format!("the claim of {length} bytes was too long to be kept"));
            }
        }
    }
    Ok(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_is_joined_again_from_its_parts() {
        let certificates = [vec![1; 700], vec![2; 300]];
        let claim = [b"token".as_slice(), &[1; 700], b"between", &[2; 300], b"end"].concat();
        let parts = without_certificates(&claim, &certificates);
        assert_eq!(parts.len(), 5);
        let find =
            |sha256: &str| certificates.iter().find(|der| fingerprint(der) == sha256).cloned();
        assert_eq!(joined(&parts, find).unwrap(), claim);
        let cause = joined(&parts, |_| None).unwrap_err();
        assert!(cause.ends_with("is no longer kept"), "{cause}");
        assert_eq!(joined(&whole(&claim), |_| None).unwrap(), claim);
    }

    #[test]
    fn certificate_that_is_not_in_the_claim_changes_nothing() {
        let parts = without_certificates(b"claim", &[vec![], vec![1; 300]]);
        assert_eq!(joined(&parts, |_| None).unwrap(), b"claim");
    }

    #[test]
    fn long_claim_is_not_kept() {
        assert_eq!(without_certificates(&[0; 5000], &[]), [Part::Omitted(5000)]);
        assert_eq!(whole(&[0; 13_000]), [Part::Omitted(13_000)]);
    }
}
