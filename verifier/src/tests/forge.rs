//! Forges certificates field by field. Authorities sign with P-256.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256};

use crate::der::{element, tag, unsigned};
use crate::key::{Curve, EccKey, EkPublicKey, RsaKey};
use crate::{CaCertificate, EkCertificate, UnixTime, oid};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW: UnixTime = UnixTime::from_seconds(1_767_225_600);

pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, &parts.concat())
}

pub(crate) fn identifier(oid: &[u8]) -> Vec<u8> {
    element(tag::OID, oid)
}

pub(crate) fn utc(text: &str) -> Vec<u8> {
    element(tag::UTC_TIME, text.as_bytes())
}

pub(crate) fn generalized(text: &str) -> Vec<u8> {
    element(tag::GENERALIZED_TIME, text.as_bytes())
}

pub(crate) fn attribute(kind: &[u8], value: &str) -> Vec<u8> {
    seq(&[&identifier(kind), &element(tag::UTF8_STRING, value.as_bytes())])
}

/// A Name of one common name.
pub(crate) fn named(common_name: &str) -> Vec<u8> {
    seq(&[&element(tag::SET, &attribute(oid::COMMON_NAME, common_name))])
}

pub(crate) fn extension(kind: &[u8], value: &[u8]) -> Vec<u8> {
    seq(&[&identifier(kind), &element(tag::OCTET_STRING, value)])
}

pub(crate) fn critical(kind: &[u8], value: &[u8]) -> Vec<u8> {
    extension_saying(0xff, kind, value)
}

/// An extension whose `critical` is this very byte.
pub(crate) fn extension_saying(critical: u8, kind: &[u8], value: &[u8]) -> Vec<u8> {
    let critical = element(tag::BOOLEAN, &[critical]);
    seq(&[&identifier(kind), &critical, &element(tag::OCTET_STRING, value)])
}

pub(crate) fn key_usage(bits: &[u8]) -> Vec<u8> {
    critical(oid::KEY_USAGE, &element(tag::BIT_STRING, bits))
}

pub(crate) fn purposes(list: &[&[u8]]) -> Vec<u8> {
    let list: Vec<_> = list.iter().flat_map(|oid| identifier(oid)).collect();
    extension(oid::EXTENDED_KEY_USAGE, &seq(&[&list]))
}

pub(crate) fn ca_constraints(path_length: Option<u8>) -> Vec<u8> {
    let ca = element(tag::BOOLEAN, &[0xff]);
    let length = path_length.map(|n| unsigned(&[n])).unwrap_or_default();
    critical(oid::BASIC_CONSTRAINTS, &seq(&[&ca, &length]))
}

pub(crate) const KEY_ENCIPHERMENT: &[u8] = &[5, 0x20];
pub(crate) const KEY_AGREEMENT: &[u8] = &[3, 0x08];
pub(crate) const KEY_CERT_SIGN: &[u8] = &[1, 0x06];

/// Bytes that look like nothing, always the same for the same seed.
pub(crate) fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for counter in 0u32.. {
        if bytes.len() >= length {
            break;
        }
        bytes.extend(Sha256::digest([seed.as_bytes(), &counter.to_be_bytes()].concat()));
    }
    bytes.truncate(length);
    bytes
}

/// A modulus whose factors are unknown.
pub(crate) fn modulus(seed: &str, bytes: usize) -> Vec<u8> {
    let mut modulus = noise(seed, bytes);
    modulus[0] |= 0x80;
    modulus[bytes - 1] |= 1;
    modulus
}

pub(crate) fn rsa_key(seed: &str) -> EkPublicKey {
    EkPublicKey::Rsa(RsaKey::new(&modulus(seed, 256), 65537).unwrap())
}

pub(crate) fn ecc_key(seed: &str) -> EkPublicKey {
    EkPublicKey::Ecc(Authority::new(seed).key())
}

pub(crate) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = seq(&[&unsigned(modulus), &unsigned(exponent)]);
    let algorithm = seq(&[&identifier(oid::RSA_ENCRYPTION), &[tag::NULL, 0]]);
    seq(&[&algorithm, &element(tag::BIT_STRING, &[&[0], &key[..]].concat())])
}

pub(crate) fn ecc_spki(curve: &[u8], point: &[u8]) -> Vec<u8> {
    let algorithm = seq(&[&identifier(oid::EC_PUBLIC_KEY), &identifier(curve)]);
    seq(&[&algorithm, &element(tag::BIT_STRING, &[&[0], point].concat())])
}

/// A name with a key.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) name: Vec<u8>,
    key: SigningKey,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: named(name), key: SigningKey::from_slice(&noise(name, 32)).unwrap() }
    }

    /// Another one of the same name.
    pub(crate) fn impostor(&self, seed: &str) -> Self {
        Self { name: self.name.clone(), ..Self::new(seed) }
    }

    pub(crate) fn key(&self) -> EccKey {
        let point = self.key.verifying_key().to_sec1_point(false);
        let (_, coordinates) = point.as_bytes().split_at(1);
        let (x, y) = coordinates.split_at(32);
        EccKey::new(Curve::P256, x, y).unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign_prehash(&Sha256::digest(message)).unwrap();
        let (r, s) = signature.split_bytes();
        seq(&[&unsigned(&r), &unsigned(&s)])
    }

    /// A certificate about itself.
    pub(crate) fn root(&self) -> CaCertificate {
        Recipe::ca(self).issued_by(self).ca_certificate()
    }

    /// A certificate about that one.
    pub(crate) fn certify(&self, other: &Authority) -> CaCertificate {
        Recipe::ca(other).issued_by(self).ca_certificate()
    }
}

/// Everything that goes into a certificate, in DER, to be spoiled at will.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) algorithm: Vec<u8>,
    pub(crate) outer_algorithm: Option<Vec<u8>>,
    pub(crate) not_before: Vec<u8>,
    pub(crate) not_after: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
    pub(crate) issuer: Authority,
}

impl Recipe {
    fn new(subject: Vec<u8>, spki: Vec<u8>, extensions: Vec<Vec<u8>>) -> Self {
        Self {
            version: element(tag::constructed(0), &unsigned(&[2])),
            serial: element(tag::INTEGER, &[0x5e, 0xcd, 0x5f, 0x8e]),
            algorithm: seq(&[&identifier(oid::ECDSA_WITH_SHA256)]),
            outer_algorithm: None,
            not_before: utc("240101000000Z"),
            not_after: generalized("20991231235959Z"),
            subject,
            spki,
            extensions,
            issuer: Authority::new("issuer"),
        }
    }

    /// As most chips have it: no subject, critical SAN, key usage, purpose.
    pub(crate) fn ek(key: &EkPublicKey) -> Self {
        let usage = match key {
            EkPublicKey::Rsa(_) => KEY_ENCIPHERMENT,
            EkPublicKey::Ecc(_) => KEY_AGREEMENT,
        };
        let tpm = [
            element(tag::SET, &attribute(oid::TPM_MANUFACTURER, "id:4E544300")),
            element(tag::SET, &attribute(oid::TPM_MODEL, "NPCT75x")),
            element(tag::SET, &attribute(oid::TPM_VERSION, "id:00070002")),
        ];
        let extensions = vec![
            critical(oid::SUBJECT_ALT_NAME, &san(&tpm.concat())),
            critical(oid::BASIC_CONSTRAINTS, &seq(&[])),
            key_usage(usage),
            purposes(&[oid::EK_CERTIFICATE]),
        ];
        Self::new(seq(&[]), key.spki_der(), extensions)
    }

    pub(crate) fn ca(authority: &Authority) -> Self {
        let extensions = vec![ca_constraints(None), key_usage(KEY_CERT_SIGN)];
        Self::new(authority.name.clone(), authority.key().spki_der(), extensions)
    }

    pub(crate) fn issued_by(mut self, issuer: &Authority) -> Self {
        self.issuer = issuer.clone();
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Puts an extension in the place of the one of its kind, or at the end.
    pub(crate) fn extension(mut self, extension: Vec<u8>) -> Self {
        let kind = kind_of(&extension);
        match self.extensions.iter_mut().find(|other| kind_of(other) == kind) {
            Some(other) => *other = extension,
            None => self.extensions.push(extension),
        }
        self
    }

    pub(crate) fn without(mut self, kind: &[u8]) -> Self {
        self.extensions.retain(|extension| kind_of(extension) != kind);
        self
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let extensions = match &self.extensions[..] {
            [] => Vec::new(),
            some => element(tag::constructed(3), &seq(&[&some.concat()])),
        };
        let tbs = seq(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer.name,
            &seq(&[&self.not_before, &self.not_after]),
            &self.subject,
            &self.spki,
            &extensions,
        ]);
        let signature = [vec![0], self.issuer.sign(&tbs)].concat();
        let algorithm = self.outer_algorithm.as_ref().unwrap_or(&self.algorithm);
        seq(&[&tbs, algorithm, &element(tag::BIT_STRING, &signature)])
    }

    pub(crate) fn certificate(&self) -> EkCertificate {
        EkCertificate::parse(&self.der()).unwrap()
    }

    pub(crate) fn ca_certificate(&self) -> CaCertificate {
        CaCertificate::parse(&self.der()).unwrap()
    }
}

/// subjectAltName of one directoryName of these relative names.
pub(crate) fn san(rdns: &[u8]) -> Vec<u8> {
    seq(&[&element(tag::constructed(4), &seq(&[rdns]))])
}

/// The object identifier of an extension shorter than 128 bytes.
fn kind_of(extension: &[u8]) -> &[u8] {
    let start = if extension[1] & 0x80 == 0 { 2 } else { 2 + usize::from(extension[1] & 0x7f) };
    let length = usize::from(extension[start + 1]);
    &extension[start + 2..start + 2 + length]
}
