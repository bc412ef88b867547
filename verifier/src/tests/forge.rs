//! Forged certificates and keys, parsed.

pub(crate) use testkit::forge::{
    Ca, KEY_AGREEMENT, KEY_ENCIPHERMENT, Template, attribute, ca_constraints, critical, ecc_spki,
    extension, extension_saying, generalized, identifier, key_usage, modulus, named, noise,
    purposes, rsa_spki, san, seq, utc,
};

use crate::key::{Curve, EccKey, EkPublicKey, RsaKey};
use crate::{CaCertificate, EkCertificate, UnixTime};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: UnixTime = UnixTime::from_seconds(1_767_225_600);

pub(crate) fn rsa_key(seed: &str) -> EkPublicKey {
    EkPublicKey::Rsa(RsaKey::new(&modulus(seed, 256), 65537).unwrap())
}

pub(crate) fn ecc_key(seed: &str) -> EkPublicKey {
    let point = Ca::new(seed).point();
    let (x, y) = point[1..].split_at(32);
    EkPublicKey::Ecc(EccKey::new(Curve::P256, x, y).unwrap())
}

/// A forged certificate as what it is for the verifier.
pub(crate) trait Parsed {
    fn certificate(&self) -> EkCertificate;
    fn ca_certificate(&self) -> CaCertificate;
}

impl Parsed for Template {
    fn certificate(&self) -> EkCertificate {
        EkCertificate::parse(&self.der()).unwrap()
    }

    fn ca_certificate(&self) -> CaCertificate {
        CaCertificate::parse(&self.der()).unwrap()
    }
}

pub(crate) trait Anchor {
    /// The certificate that this CA issued to itself.
    fn anchor(&self) -> CaCertificate;
}

impl Anchor for Ca {
    fn anchor(&self) -> CaCertificate {
        self.root().ca_certificate()
    }
}
