//! Public keys as certificates carry them: `SubjectPublicKeyInfo`, RFC 3279 and RFC 5480.

use alloc::vec::Vec;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Document, Encode, Sequence};
use spki::{AlgorithmIdentifier, EncodePublicKey, Error, Result, SubjectPublicKeyInfo};

use crate::types::{Curve, EccPublic, Id, Public, RsaPublic};

/// RFC 3279 §2.3.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480 §2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// RFC 8017 A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

/// Of a key that is RSA or on a curve of NIST. Whether it is a sound key is not checked.
impl EncodePublicKey for Public<'_> {
    fn to_public_key_der(&self) -> Result<Document> {
        match &self.id {
            Id::Rsa(rsa) => encode(RSA_ENCRYPTION, AnyRef::NULL, &rsa_public_key(rsa)?),
            Id::Ecc(ecc) => {
                let curve = curve(ecc.curve).ok_or(Error::KeyMalformed)?;
                encode(EC_PUBLIC_KEY, (&curve).into(), &point(ecc)?)
            }
            _ => Err(Error::KeyMalformed),
        }
    }
}

fn encode(oid: ObjectIdentifier, parameters: AnyRef<'_>, key: &[u8]) -> Result<Document> {
    let algorithm = AlgorithmIdentifier { oid, parameters: Some(parameters) };
    let subject_public_key = BitStringRef::from_bytes(key)?;
    Ok(Document::encode_msg(&SubjectPublicKeyInfo { algorithm, subject_public_key })?)
}

fn rsa_public_key(rsa: &RsaPublic<'_>) -> Result<Vec<u8>> {
    let exponent = rsa.public_exponent().to_be_bytes();
    let modulus = UintRef::new(rsa.unique.octets())?;
    Ok(RsaPublicKey { modulus, public_exponent: UintRef::new(&exponent)? }.to_der()?)
}

fn point(ecc: &EccPublic<'_>) -> Result<Vec<u8>> {
    ecc.to_sec1().map(|point| point.octets().to_vec()).ok_or(Error::KeyMalformed)
}

/// RFC 5480 §2.1.1.1.
fn curve(curve: Curve) -> Option<ObjectIdentifier> {
    Some(ObjectIdentifier::new_unwrap(match curve {
        Curve::NIST_P192 => "1.2.840.10045.3.1.1",
        Curve::NIST_P224 => "1.3.132.0.33",
        Curve::NIST_P256 => "1.2.840.10045.3.1.7",
        Curve::NIST_P384 => "1.3.132.0.34",
        Curve::NIST_P521 => "1.3.132.0.35",
        _ => return None,
    }))
}
