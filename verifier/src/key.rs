//! Public keys as certificates carry them: SubjectPublicKeyInfo, RFC 3279 and RFC 5480.

use std::fmt;

use base16ct::lower::encode_string as hex;
use rsa::{BoxedUint, RsaPublicKey};
use sha2::{Digest, Sha256};

use crate::der::{self, Element, Reader, tag};
use crate::error::KeyError;
use crate::{oid, roca};

/// Public exponents that are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exponents {
    /// 65537 and more.
    #[default]
    AtLeast65537,
    /// Includes 3, for old certification authorities.
    AtLeast65537Or3,
}

/// The public part of an endorsement key, already found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EkPublicKey {
    /// An RSA key of a size that TPMs have: 2048, 3072 or 4096 bits.
    Rsa(RsaKey),
    /// A point on a curve.
    Ecc(EccKey),
}

impl EkPublicKey {
    /// Reads a SubjectPublicKeyInfo that comes without a certificate. Nothing but its canonical
    /// encoding is accepted, so that the hash of these bytes is [`Self::public_hash`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        if spki.len() > der::MAX_CERTIFICATE {
            return Err(KeyError::NotCanonical);
        }
        let mut reader = Reader::new(spki);
        let element = reader.expect(tag::SEQUENCE, "subjectPublicKeyInfo")?;
        reader.end("subjectPublicKeyInfo")?;
        let key = Self::read(&element, Exponents::default())?;
        if key.spki_der() == spki { Ok(key) } else { Err(KeyError::NotCanonical) }
    }

    /// Reads the key of a certificate. Its algorithm may be RSAES-OAEP: chips were delivered so.
    pub(crate) fn read(spki: &Element<'_>, exponents: Exponents) -> Result<Self, KeyError> {
        match PublicKey::read(spki, exponents, OaepIdentifier::Borne)? {
            PublicKey::Rsa(key) => Self::try_from(key),
            PublicKey::Ecc(key) => Ok(Self::Ecc(key)),
        }
    }

    /// The SubjectPublicKeyInfo in canonical DER: rsaEncryption whatever the certificate said.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.spki_der(),
            Self::Ecc(key) => key.spki_der(),
        }
    }

    /// What allow rules name as `ek_public_hash`: SHA-256 of [`Self::spki_der`], in lowercase
    /// hexadecimal.
    #[must_use]
    pub fn public_hash(&self) -> String {
        hex(&Sha256::digest(self.spki_der()))
    }
}

impl TryFrom<RsaKey> for EkPublicKey {
    type Error = KeyError;

    /// TPM 2.0 Part 2, TPMI_RSA_KEY_BITS, without the sizes that are too small.
    fn try_from(key: RsaKey) -> Result<Self, KeyError> {
        match key.bits() {
            2048 | 3072 | 4096 => Ok(Self::Rsa(key)),
            bits => Err(KeyError::ModulusSize(bits)),
        }
    }
}

/// Whether RSAES-OAEP may stand where rsaEncryption should.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OaepIdentifier {
    Borne,
    Refused,
}

/// Any key that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Rsa(RsaKey),
    Ecc(EccKey),
}

impl PublicKey {
    pub(crate) fn read(
        spki: &Element<'_>,
        exponents: Exponents,
        oaep: OaepIdentifier,
    ) -> Result<Self, KeyError> {
        let mut reader = spki.reader();
        let mut algorithm = reader.sequence("subjectPublicKeyInfo.algorithm")?;
        let identifier = algorithm.expect(tag::OID, "subjectPublicKeyInfo.algorithm")?.content;
        let bits = reader.expect(tag::BIT_STRING, "subjectPublicKey")?;
        reader.end("subjectPublicKeyInfo")?;
        let bits = bits.bytes_of_bits("subjectPublicKey")?;
        match identifier {
            oid::RSA_ENCRYPTION => {
                let parameters = algorithm.expect(tag::NULL, "rsaEncryption parameters")?;
                parameters.reader().end("rsaEncryption parameters")?;
                algorithm.end("subjectPublicKeyInfo.algorithm")?;
                RsaKey::read(bits, exponents).map(Self::Rsa)
            }
            oid::RSAES_OAEP if oaep == OaepIdentifier::Borne => {
                if !algorithm.is_empty() {
                    algorithm.any("RSAES-OAEP parameters")?;
                }
                algorithm.end("subjectPublicKeyInfo.algorithm")?;
                RsaKey::read(bits, exponents).map(Self::Rsa)
            }
            oid::EC_PUBLIC_KEY => {
                let curve = algorithm.expect(tag::OID, "namedCurve")?.content;
                algorithm.end("subjectPublicKeyInfo.algorithm")?;
                EccKey::read(curve, bits.rest()).map(Self::Ecc)
            }
            other => Err(KeyError::Algorithm(oid::dotted(other))),
        }
    }
}

/// An RSA public key: 2048 to 4096 bits, odd modulus and exponent, no ROCA fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaKey {
    modulus: Vec<u8>,
    exponent: u32,
}

impl RsaKey {
    /// A key of its modulus, big endian without leading zeros, and its exponent.
    pub fn new(modulus: &[u8], exponent: u32) -> Result<Self, KeyError> {
        Self::checked(modulus, exponent, Exponents::default())
    }

    fn checked(modulus: &[u8], exponent: u32, exponents: Exponents) -> Result<Self, KeyError> {
        let bits = bits(modulus);
        if !(2048..=4096).contains(&bits) || modulus.first() == Some(&0) {
            return Err(KeyError::ModulusSize(bits));
        }
        if modulus.last().is_none_or(|last| last & 1 == 0) {
            return Err(KeyError::ModulusEven);
        }
        let exponent_allowed = match exponents {
            Exponents::AtLeast65537 => exponent >= 65537,
            Exponents::AtLeast65537Or3 => exponent >= 65537 || exponent == 3,
        };
        if !exponent_allowed || exponent & 1 == 0 {
            return Err(KeyError::Exponent(exponent));
        }
        if roca::has_fingerprint(modulus) {
            return Err(KeyError::Roca);
        }
        Ok(Self { modulus: modulus.to_vec(), exponent })
    }

    /// RSAPublicKey. RFC 8017, appendix A.1.1.
    fn read(mut bits: Reader<'_>, exponents: Exponents) -> Result<Self, KeyError> {
        let mut key = bits.sequence("RSAPublicKey")?;
        bits.end("subjectPublicKey")?;
        let modulus = key.expect(tag::INTEGER, "modulus")?.unsigned("modulus")?;
        let exponent = key.expect(tag::INTEGER, "publicExponent")?.small("publicExponent")?;
        key.end("RSAPublicKey")?;
        Self::checked(modulus, exponent, exponents)
    }

    /// The modulus, big endian, without leading zeros.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// The public exponent.
    #[must_use]
    pub fn exponent(&self) -> u32 {
        self.exponent
    }

    /// The size of the modulus in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        bits(&self.modulus)
    }

    pub(crate) fn verifying_key(&self) -> Result<RsaPublicKey, rsa::Error> {
        let modulus = BoxedUint::from_be_slice_vartime(&self.modulus);
        RsaPublicKey::new_with_size_limits(modulus, BoxedUint::from(self.exponent), 2048..=4096)
    }

    fn spki_der(&self) -> Vec<u8> {
        let mut key = der::unsigned(&self.modulus);
        key.extend(der::unsigned(&self.exponent.to_be_bytes()));
        let algorithm = [der::element(tag::OID, oid::RSA_ENCRYPTION), vec![tag::NULL, 0]].concat();
        spki(&algorithm, &der::element(tag::SEQUENCE, &key))
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({} bits, {})", self.bits(), hex(&Sha256::digest(self.spki_der())))
    }
}

/// A curve of SP 800-186.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    /// Bytes of a coordinate.
    #[must_use]
    pub fn field_size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn oid(self) -> oid::Oid {
        match self {
            Self::P256 => oid::SECP256R1,
            Self::P384 => oid::SECP384R1,
            Self::P521 => oid::SECP521R1,
        }
    }

    fn from_oid(content: &[u8]) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| curve.oid() == content)
    }

    fn has_point(self, sec1: &[u8]) -> bool {
        match self {
            Self::P256 => p256::PublicKey::from_sec1_bytes(sec1).is_ok(),
            Self::P384 => p384::PublicKey::from_sec1_bytes(sec1).is_ok(),
            Self::P521 => p521::PublicKey::from_sec1_bytes(sec1).is_ok(),
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

/// A point that was found to be on its curve, and is not the one at infinity.
#[derive(Clone, PartialEq, Eq)]
pub struct EccKey {
    curve: Curve,
    /// 04, x, y. SEC 1 §2.3.3.
    sec1: Vec<u8>,
}

impl EccKey {
    /// A key of its coordinates, big endian and padded to the size of the field.
    pub fn new(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        if x.len() != curve.field_size() || y.len() != curve.field_size() {
            return Err(KeyError::PointForm);
        }
        let sec1 = [&[0x04], x, y].concat();
        if curve.has_point(&sec1) { Ok(Self { curve, sec1 }) } else { Err(KeyError::PointOffCurve) }
    }

    /// Uncompressed points only: certificates do not use compressed ones.
    fn read(curve: &[u8], point: &[u8]) -> Result<Self, KeyError> {
        let curve = Curve::from_oid(curve).ok_or_else(|| KeyError::Curve(oid::dotted(curve)))?;
        match point {
            [0x04, coordinates @ ..] => coordinates
                .split_at_checked(curve.field_size())
                .ok_or(KeyError::PointForm)
                .and_then(|(x, y)| Self::new(curve, x, y)),
            _ => Err(KeyError::PointForm),
        }
    }

    /// The curve.
    #[must_use]
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The first coordinate, padded to the size of the field.
    #[must_use]
    pub fn x(&self) -> &[u8] {
        self.coordinates().0
    }

    /// The second coordinate, padded to the size of the field.
    #[must_use]
    pub fn y(&self) -> &[u8] {
        self.coordinates().1
    }

    /// The point, uncompressed.
    pub(crate) fn sec1(&self) -> &[u8] {
        &self.sec1
    }

    fn coordinates(&self) -> (&[u8], &[u8]) {
        let (_, coordinates) = self.sec1.split_at_checked(1).unwrap_or_default();
        coordinates.split_at_checked(self.curve.field_size()).unwrap_or_default()
    }

    pub(crate) fn spki_der(&self) -> Vec<u8> {
        let curve = der::element(tag::OID, self.curve.oid());
        spki(&[der::element(tag::OID, oid::EC_PUBLIC_KEY), curve].concat(), &self.sec1)
    }
}

impl fmt::Debug for EccKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EccKey({}, {})", self.curve, hex(&self.sec1))
    }
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut content = der::element(tag::SEQUENCE, algorithm);
    content.extend(der::element(tag::BIT_STRING, &[&[0], key].concat()));
    der::element(tag::SEQUENCE, &content)
}

/// The length in bits of what is small enough for that to be computed.
fn bits(magnitude: &[u8]) -> usize {
    let zeros = magnitude.first().map_or(0, |first| first.leading_zeros());
    let zeros = usize::try_from(zeros).unwrap_or_default();
    magnitude.len().saturating_mul(8).saturating_sub(zeros)
}
