//! Why a certificate is refused.

use std::fmt;

use crate::der::{DerError, MAX_CERTIFICATE};

/// The classes of refusal, the same for keys, certificates and chains. Stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The bytes are not what they claim to be.
    Malformed,
    /// Well formed, but not verified by a trusted CA as an endorsement key.
    Untrusted,
    /// A key or a signature that another party could have made.
    Weak,
    /// Perhaps good, but of a kind that is not implemented.
    Unsupported,
}

/// Why the bytes are not an acceptable certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not the DER of RFC 5280.
    Der(DerError),
    /// Longer than [`crate::MAX_CERTIFICATE`].
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Bytes after the end of the certificate.
    TrailingBytes {
        /// Where the certificate ends.
        offset: usize,
    },
    /// Not version 3.
    Version(u32),
    /// The signed and the unsigned signatureAlgorithm differ. RFC 5280 §4.1.1.2.
    AlgorithmsDiffer,
    /// notAfter is before notBefore.
    Validity,
    /// An issuer without a name, or a CA without one.
    NameMissing(&'static str),
    /// The same extension twice. RFC 5280 §4.2.
    DuplicateExtension(String),
    /// A critical extension that is not understood.
    CriticalExtension(String),
    /// Name constraints, which are not evaluated, so that no path over them can be accepted.
    NameConstraints,
    /// An endorsement key's certificate that says that it is a CA.
    IsCa,
    /// A CA certificate that does not say that it is one.
    IsNotCa,
    /// keyUsage is there and lacks the bit that is named.
    KeyUsage(&'static str),
    /// extKeyUsage is there and lacks tcg-kp-EKCertificate.
    ExtendedKeyUsage,
    /// The public key in it.
    Key(KeyError),
}

impl CertificateError {
    /// Its class.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Der(_)
            | Self::TooLarge { .. }
            | Self::TrailingBytes { .. }
            | Self::AlgorithmsDiffer
            | Self::Validity
            | Self::NameMissing(_)
            | Self::DuplicateExtension(_) => Fault::Malformed,
            Self::Version(_) | Self::CriticalExtension(_) | Self::NameConstraints => {
                Fault::Unsupported
            }
            Self::IsCa | Self::IsNotCa | Self::KeyUsage(_) | Self::ExtendedKeyUsage => {
                Fault::Untrusted
            }
            Self::Key(error) => error.fault(),
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::TooLarge { length } => {
                write!(f, "{length} bytes are more than the {} allowed", MAX_CERTIFICATE)
            }
            Self::TrailingBytes { offset } => {
                write!(f, "bytes after the end of the certificate, at offset {offset}")
            }
            Self::Version(version) => write!(f, "version {version} instead of 3"),
            Self::AlgorithmsDiffer => {
                f.write_str("the signature algorithms inside and outside the signed part differ")
            }
            Self::Validity => f.write_str("its validity ends before it begins"),
            Self::NameMissing(whose) => write!(f, "the {whose} has no name"),
            Self::DuplicateExtension(oid) => write!(f, "duplicate extension {oid}"),
            Self::CriticalExtension(oid) => {
                write!(f, "extension {oid} is critical and not understood")
            }
            Self::NameConstraints => f.write_str("has name constraints, which are not supported"),
            Self::IsCa => f.write_str("is a CA certificate, so it is not an EK certificate"),
            Self::IsNotCa => f.write_str("is not a CA certificate (no basicConstraints cA)"),
            Self::KeyUsage(bit) => write!(f, "its keyUsage lacks {bit}"),
            Self::ExtendedKeyUsage => {
                f.write_str("its extKeyUsage lacks tcg-kp-EKCertificate (2.23.133.8.1)")
            }
            Self::Key(error) => write!(f, "its public key: {error}"),
        }
    }
}

impl std::error::Error for CertificateError {}

impl From<DerError> for CertificateError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}

impl From<KeyError> for CertificateError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Der(error) => Self::Der(error),
            error => Self::Key(error),
        }
    }
}

/// Why a public key is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the DER of a SubjectPublicKeyInfo.
    Der(DerError),
    /// Readable, but not encoded in the one canonical way.
    NotCanonical,
    /// An algorithm that is neither RSA nor ECC.
    Algorithm(String),
    /// A curve other than P-256, P-384 and P-521.
    Curve(String),
    /// A modulus of a size that is not allowed.
    ModulusSize(usize),
    /// A modulus that is even.
    ModulusEven,
    /// An exponent that is even or not allowed.
    Exponent(u32),
    /// A modulus with the fingerprint of CVE-2017-15361.
    Roca,
    /// Not two coordinates of the field's size behind 04.
    PointForm,
    /// Two coordinates of no point on the curve.
    PointOffCurve,
}

impl KeyError {
    /// Its class.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Der(_) | Self::NotCanonical | Self::PointForm => Fault::Malformed,
            Self::Algorithm(_) | Self::Curve(_) => Fault::Unsupported,
            Self::ModulusSize(_)
            | Self::ModulusEven
            | Self::Exponent(_)
            | Self::Roca
            | Self::PointOffCurve => Fault::Weak,
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Der(error) => error.fmt(f),
            Self::NotCanonical => f.write_str("is not encoded canonically"),
            Self::Algorithm(oid) => write!(f, "algorithm {oid} is neither RSA nor ECC"),
            Self::Curve(oid) => write!(f, "curve {oid} is not P-256, P-384 or P-521"),
            Self::ModulusSize(bits) => write!(f, "an RSA modulus of {bits} bits is not allowed"),
            Self::ModulusEven => f.write_str("the RSA modulus is even"),
            Self::Exponent(exponent) => write!(f, "the RSA exponent {exponent} is not allowed"),
            Self::Roca => f.write_str("the RSA modulus has the ROCA flaw (CVE-2017-15361)"),
            Self::PointForm => f.write_str("is not an uncompressed point of the curve's size"),
            Self::PointOffCurve => f.write_str("the point is not on the curve"),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<DerError> for KeyError {
    fn from(error: DerError) -> Self {
        Self::Der(error)
    }
}
