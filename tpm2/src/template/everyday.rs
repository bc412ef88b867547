//! Keys that a TPM makes and never gives away, used by their authorization value. Wrong values count towards a lockout.

use super::{OWN, aes_cfb, digest};
use crate::types::{
    Alg, AsymScheme, Curve, EccParameter, EccPoint, EccPublic, HashScheme, Id, KdfScheme,
    KeyedHashPublic, KeyedHashScheme, ObjectAttributes, Public, PublicKeyRsa, RsaPublic,
    SymCipherPublic, SymDefObject,
};

/// A key that signs by ECDSA digests that `hash` made.
#[must_use]
pub const fn ecc_signing(curve: Curve, hash: Alg) -> Public<'static> {
    ecc(ObjectAttributes::SIGN, curve, AsymScheme::Ecdsa(HashScheme { hash }))
}

/// A key for `TPM2_ECDH_ZGen`: what is shared is the point, and what is derived from it the caller's matter.
#[must_use]
pub const fn ecc_key_exchange(curve: Curve) -> Public<'static> {
    ecc(ObjectAttributes::DECRYPT, curve, AsymScheme::Null)
}

/// A key that signs by this scheme, such as RSASSA-PSS; by one that each use chooses, if it is the null scheme.
#[must_use]
pub const fn rsa_signing(key_bits: u16, scheme: AsymScheme) -> Public<'static> {
    rsa(ObjectAttributes::SIGN, key_bits, scheme)
}

/// A key that decrypts by this scheme, such as OAEP; by one that each use chooses, if it is the null scheme.
#[must_use]
pub const fn rsa_decryption(key_bits: u16, scheme: AsymScheme) -> Public<'static> {
    rsa(ObjectAttributes::DECRYPT, key_bits, scheme)
}

/// A key that computes HMACs with this hash.
#[must_use]
pub const fn hmac(hash: Alg) -> Public<'static> {
    let scheme = KeyedHashScheme::Hmac(HashScheme { hash });
    of(ObjectAttributes::SIGN, Id::KeyedHash(KeyedHashPublic { scheme, unique: digest(&[]) }))
}

/// A key for AES in CFB mode, of 128, 192 or 256 bits. Many TPMs have no command that uses one.
#[must_use]
pub const fn aes(key_bits: u16) -> Public<'static> {
    let both = ObjectAttributes::SIGN.with(ObjectAttributes::DECRYPT);
    let cipher = aes_cfb(key_bits);
    of(both, Id::SymCipher(SymCipherPublic { cipher, unique: digest(&[]) }))
}

const fn of(use_for: ObjectAttributes, id: Id<'static>) -> Public<'static> {
    let attributes = OWN.with(use_for);
    Public { name_alg: Alg::SHA256, attributes, auth_policy: digest(&[]), id }
}

const fn ecc(use_for: ObjectAttributes, curve: Curve, scheme: AsymScheme) -> Public<'static> {
    let unique = EccPoint { x: EccParameter::EMPTY, y: EccParameter::EMPTY };
    let (symmetric, kdf) = (SymDefObject::Null, KdfScheme::Null);
    of(use_for, Id::Ecc(EccPublic { symmetric, scheme, curve, kdf, unique }))
}

const fn rsa(use_for: ObjectAttributes, key_bits: u16, scheme: AsymScheme) -> Public<'static> {
    let (symmetric, unique) = (SymDefObject::Null, PublicKeyRsa::EMPTY);
    of(use_for, Id::Rsa(RsaPublic { symmetric, scheme, key_bits, exponent: 0, unique }))
}
