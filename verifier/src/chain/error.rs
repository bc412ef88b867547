//! Why a chain is refused.

use std::fmt;

use super::{DatePolicy, MAX_DEPTH, MAX_INTERMEDIATES};
use crate::error::Fault;
use crate::signature::SignatureAlgorithm;
use crate::time::UnixTime;
use crate::x509::Certificate;

/// Why an EK certificate does not chain to a trusted CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainError {
    pub(super) certificate: Subject,
    pub(super) reason: Reason,
}

impl ChainError {
    /// Its class.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self.reason {
            Reason::Sha1 => Fault::Weak,
            Reason::Algorithm(_) => Fault::Unsupported,
            _ => Fault::Untrusted,
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What an operator can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.reason {
            Reason::NoIssuer => {
                "add the certificate of its issuer to ekcert_allowed_cas, or the root with all intermediate CAs"
            }
            Reason::Signature { .. } | Reason::KeyIdentifier { .. } => {
                "add the certificate of the CA of that name that signed it; if it is already there, this certificate is not genuine"
            }
            Reason::Sha1 => {
                "accept SHA-1 (--ek-sha1 accepted), or allow the TPM by its ek_public_hash with a \
                 token that names no CAs"
            }
            Reason::Algorithm(_) => {
                "allow the TPM by its ek_public_hash with a token that names no CAs"
            }
            Reason::PurposePolicy => {
                "set ekcert_without_purpose: accepted in the token (--ek-without-purpose accepted) if its CAs issue only EK certificates; otherwise allow the TPM by its ek_public_hash with a token that names no CAs"
            }
            Reason::NotYetValid(_) => "check the authority's clock",
            Reason::Expired(_) => {
                "accept EK certificates that have expired (--ek-expired accepted), or allow the TPM \
                 by its ek_public_hash with a token that names no CAs"
            }
            Reason::IssuerNotValid { rule: DatePolicy::Now, .. } => {
                "accept expired certificates (--ek-expired accepted), or add this CA to ekcert_allowed_cas, where its dates do not count"
            }
            Reason::IssuerNotValid { rule: DatePolicy::AtIssuance, .. }
            | Reason::Purpose
            | Reason::PathLength { .. } => {
                "add the CA that issued the EK certificate to ekcert_allowed_cas, in place of the CAs above it, if you trust it"
            }
            Reason::TooDeep | Reason::TooManyIntermediates(_) | Reason::SearchLimit => {
                "add the CA that issued the EK certificate itself to ekcert_allowed_cas"
            }
        }
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { certificate, reason } = self;
        write!(f, "{certificate} {reason}")
    }
}

impl std::error::Error for ChainError {}

/// The certificate that an error is about, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Ek { serial: String, issuer: String },
    Ca { name: String },
}

impl Subject {
    pub(super) fn of(certificate: &Certificate) -> Self {
        match certificate.extensions.basic_constraints {
            Some(constraints) if constraints.ca => Self::Ca { name: certificate.subject.text() },
            _ => Self::Ek { serial: certificate.serial_text(), issuer: certificate.issuer.text() },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ek { serial, issuer } => {
                write!(f, "the EK certificate {serial} of \"{issuer}\"")
            }
            Self::Ca { name } => write!(f, "the CA certificate \"{name}\""),
        }
    }
}

/// What is wrong with a certificate in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No anchor or intermediate has the issuer's name.
    NoIssuer,
    /// The CA with the issuer's name did not sign it.
    Signature {
        /// That CA.
        issuer: String,
    },
    /// The CA with the issuer's name has another key identifier than the certificate's authorityKeyIdentifier.
    KeyIdentifier {
        /// That CA.
        issuer: String,
    },
    /// Neither extKeyUsage nor subjectAltName marks it as an EK certificate.
    PurposePolicy,
    /// Signed over SHA-1.
    Sha1,
    /// Signed with an algorithm that is not implemented.
    Algorithm(SignatureAlgorithm),
    /// Its validity begins later.
    NotYetValid(UnixTime),
    /// It has expired, and the policy does not accept that.
    Expired(UnixTime),
    /// An intermediate that was not valid at the time that counts.
    IssuerNotValid {
        /// That time.
        when: UnixTime,
        /// The policy that requires it.
        rule: DatePolicy,
    },
    /// An intermediate whose extKeyUsage does not allow it to issue EK certificates.
    Purpose,
    /// There are more CAs below it than its pathLenConstraint allows.
    PathLength {
        /// The constraint.
        allowed: usize,
        /// The number of CAs below.
        below: usize,
    },
    /// The path has more than [`MAX_DEPTH`] CAs without an anchor.
    TooDeep,
    /// More than [`MAX_INTERMEDIATES`] certificates to look at.
    TooManyIntermediates(usize),
    /// No path was found within the limits on names to try and on signature checks.
    SearchLimit,
}

impl Reason {
    /// The most informative of several failures: that of the longest path, then the most specific one.
    pub(super) fn weight(&self, depth: usize) -> (usize, u8) {
        match self {
            Self::SearchLimit => (usize::MAX, 0),
            Self::NoIssuer | Self::Signature { .. } | Self::KeyIdentifier { .. } => (depth, 0),
            _ => (depth, 1),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIssuer => f.write_str("was issued by an unknown CA"),
            Self::Signature { issuer } => {
                write!(f, "names \"{issuer}\" as its issuer, whose key did not sign it")
            }
            Self::KeyIdentifier { issuer } => {
                write!(f, "names another key of \"{issuer}\" as its issuer's than that CA has")
            }
            Self::PurposePolicy => f.write_str(
                "is not marked as an EK certificate: it has neither the extKeyUsage tcg-kp-EKCertificate \
                 (2.23.133.8.1) nor a subjectAltName that describes a TPM",
            ),
            Self::Sha1 => f.write_str("is signed over SHA-1"),
            Self::Algorithm(algorithm) => {
                write!(f, "is signed with {algorithm}, which is not supported")
            }
            Self::NotYetValid(from) => write!(f, "is not valid before {from}"),
            Self::Expired(until) => write!(f, "expired at {until}"),
            Self::IssuerNotValid { when, rule: DatePolicy::AtIssuance } => {
                write!(f, "was not valid when the EK certificate was issued, at {when}")
            }
            Self::IssuerNotValid { when, rule: DatePolicy::Now } => {
                write!(f, "is not valid at {when}")
            }
            Self::Purpose => f.write_str("is not meant to issue EK certificates (extKeyUsage)"),
            Self::PathLength { allowed, below } => {
                write!(f, "allows {allowed} CAs below itself, but there are {below}")
            }
            Self::TooDeep => write!(f, "is the last of {MAX_DEPTH} without reaching a trusted CA"),
            Self::TooManyIntermediates(count) => {
                write!(f, "was presented with {count} others, more than {MAX_INTERMEDIATES}")
            }
            Self::SearchLimit => {
                f.write_str(
                "needs more signature checks than one host gets: too many certificates have the same names, or, \
                 in a join, too much came before on the connection",
            )
            }
        }
    }
}
