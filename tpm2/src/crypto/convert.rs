//! Keys and signatures as values of the crates that compute with them.

use core::fmt;

#[cfg(feature = "rsa")]
use crate::types::RsaPublic;
use crate::types::{AsymScheme, Curve};
#[cfg(any(feature = "p256", feature = "p384", feature = "p521"))]
use crate::types::{EccPublic, EccSignature, Signature};
#[cfg(any(feature = "p256", feature = "p384", feature = "p521", feature = "rsa"))]
use crate::types::{Id, Public};

/// Why a key or a signature is not one that another crate can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConversionError {
    /// Of another kind, such as RSA where a point of a curve is expected.
    Kind,
    /// On another curve.
    Curve(Curve),
    /// Its numbers are none of such a key or signature: a point that is not on the curve, for one.
    Value,
    /// The key uses another scheme.
    Scheme(AsymScheme),
    /// A restricted key signs only what the TPM has hashed itself.
    Restricted,
}

impl fmt::Display for ConversionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("a key or signature of another kind"),
            Self::Curve(curve) => write!(f, "another curve: {curve:?}"),
            Self::Value => f.write_str("numbers that are not a key or a signature"),
            Self::Scheme(scheme) => write!(f, "another scheme: {scheme:?}"),
            Self::Restricted => f.write_str("a restricted key"),
        }
    }
}

impl core::error::Error for ConversionError {}

/// The conversions to the types of one curve's crate.
macro_rules! curve {
    ($feature:literal, $name:ident, $curve:ident) => {
        #[cfg(feature = $feature)]
        impl TryFrom<&EccPublic<'_>> for $name::PublicKey {
            type Error = ConversionError;

            fn try_from(public: &EccPublic<'_>) -> Result<Self, ConversionError> {
                if public.curve != Curve::$curve {
                    return Err(ConversionError::Curve(public.curve));
                }
                let sec1 = public.to_sec1().ok_or(ConversionError::Value)?;
                Self::from_sec1_bytes(sec1.octets()).map_err(|_| ConversionError::Value)
            }
        }

        #[cfg(feature = $feature)]
        impl TryFrom<&Public<'_>> for $name::PublicKey {
            type Error = ConversionError;

            fn try_from(public: &Public<'_>) -> Result<Self, ConversionError> {
                let Id::Ecc(public) = &public.id else { return Err(ConversionError::Kind) };
                Self::try_from(public)
            }
        }

        /// Whether it is one of a key of this curve, only its verification tells.
        #[cfg(feature = $feature)]
        impl TryFrom<&EccSignature<'_>> for $name::ecdsa::Signature {
            type Error = ConversionError;

            fn try_from(signature: &EccSignature<'_>) -> Result<Self, ConversionError> {
                let fixed = signature.to_fixed(Curve::$curve).ok_or(ConversionError::Value)?;
                Self::from_slice(fixed.octets()).map_err(|_| ConversionError::Value)
            }
        }

        #[cfg(feature = $feature)]
        impl TryFrom<&Signature<'_>> for $name::ecdsa::Signature {
            type Error = ConversionError;

            fn try_from(signature: &Signature<'_>) -> Result<Self, ConversionError> {
                let Signature::Ecdsa(signature) = signature else {
                    return Err(ConversionError::Kind);
                };
                Self::try_from(signature)
            }
        }
    };
}

curve!("p256", p256, NIST_P256);
curve!("p384", p384, NIST_P384);
curve!("p521", p521, NIST_P521);

#[cfg(feature = "rsa")]
impl TryFrom<&RsaPublic<'_>> for rsa::RsaPublicKey {
    type Error = ConversionError;

    fn try_from(public: &RsaPublic<'_>) -> Result<Self, ConversionError> {
        let modulus = rsa::BoxedUint::from_be_slice_vartime(public.unique.octets());
        let exponent = rsa::BoxedUint::from(public.public_exponent());
        Self::new(modulus, exponent).map_err(|_| ConversionError::Value)
    }
}

#[cfg(feature = "rsa")]
impl TryFrom<&Public<'_>> for rsa::RsaPublicKey {
    type Error = ConversionError;

    fn try_from(public: &Public<'_>) -> Result<Self, ConversionError> {
        let Id::Rsa(public) = &public.id else { return Err(ConversionError::Kind) };
        Self::try_from(public)
    }
}
