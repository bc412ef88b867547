//! Forges certificates field by field: good ones, and any with a defect. CAs sign with P-256.
//!
//! Everything is DER in bytes, so that the crates that read certificates can use this in their own tests. The encoder and
//! the object identifiers are written a second time, independently of the code that is tested.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::der::pem;
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// X.690 identifier bytes.
pub mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;

    /// `[n]` of a primitive type, IMPLICIT.
    pub const fn context(n: u8) -> u8 {
        0x80 | n
    }

    /// `[n]` of a constructed type, or EXPLICIT.
    pub const fn constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// Content bytes of object identifiers.
pub mod oid {
    /// 1.2.840.113549.1.1.1
    pub const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    /// 1.2.840.10045.2.1
    pub const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    /// 1.2.840.10045.3.1.7
    pub const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    /// 1.2.840.10045.4.1
    pub const ECDSA_WITH_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    /// 1.2.840.10045.4.3.2
    pub const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    /// 1.2.840.10045.4.3.3
    pub const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
    /// 1.3.101.112
    pub const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    /// 2.5.29.15
    pub const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    /// 2.5.29.17
    pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    /// 2.5.29.19
    pub const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    /// 2.5.29.37
    pub const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    /// 1.3.6.1.5.5.7.3.1
    pub const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    /// 1.3.6.1.5.5.7.3.2
    pub const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
    /// 2.23.133.2.1
    pub const TPM_MANUFACTURER: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x01];
    /// 2.23.133.2.2
    pub const TPM_MODEL: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x02];
    /// 2.23.133.2.3
    pub const TPM_VERSION: &[u8] = &[0x67, 0x81, 0x05, 0x02, 0x03];
    /// 2.23.133.8.1
    pub const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
    /// 2.5.4.3
    pub const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
}

/// One element in DER.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let header = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        0x100..0x1_0000 => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        _ => panic!("{length} bytes are too long for a certificate"),
    };
    [&header, content].concat()
}

/// The INTEGER of a number, given big endian.
pub fn unsigned(number: &[u8]) -> Vec<u8> {
    let first = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    match &number[first..] {
        magnitude @ ([] | [0x80..=0xff, ..]) => element(tag::INTEGER, &[&[0], magnitude].concat()),
        magnitude => element(tag::INTEGER, magnitude),
    }
}

pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    element(tag::SEQUENCE, &parts.concat())
}

pub fn identifier(oid: &[u8]) -> Vec<u8> {
    element(tag::OID, oid)
}

pub fn utc(text: &str) -> Vec<u8> {
    element(tag::UTC_TIME, text.as_bytes())
}

pub fn generalized(text: &str) -> Vec<u8> {
    element(tag::GENERALIZED_TIME, text.as_bytes())
}

pub fn attribute(kind: &[u8], value: &str) -> Vec<u8> {
    seq(&[&identifier(kind), &element(tag::UTF8_STRING, value.as_bytes())])
}

/// A Name of one common name.
pub fn named(common_name: &str) -> Vec<u8> {
    seq(&[&element(tag::SET, &attribute(oid::COMMON_NAME, common_name))])
}

pub fn extension(kind: &[u8], value: &[u8]) -> Vec<u8> {
    seq(&[&identifier(kind), &element(tag::OCTET_STRING, value)])
}

pub fn critical(kind: &[u8], value: &[u8]) -> Vec<u8> {
    extension_saying(0xff, kind, value)
}

/// An extension whose `critical` is this very byte.
pub fn extension_saying(critical: u8, kind: &[u8], value: &[u8]) -> Vec<u8> {
    let critical = element(tag::BOOLEAN, &[critical]);
    seq(&[&identifier(kind), &critical, &element(tag::OCTET_STRING, value)])
}

pub fn key_usage(bits: &[u8]) -> Vec<u8> {
    critical(oid::KEY_USAGE, &element(tag::BIT_STRING, bits))
}

pub fn purposes(list: &[&[u8]]) -> Vec<u8> {
    let list: Vec<_> = list.iter().flat_map(|oid| identifier(oid)).collect();
    extension(oid::EXTENDED_KEY_USAGE, &seq(&[&list]))
}

pub fn not_ca() -> Vec<u8> {
    critical(oid::BASIC_CONSTRAINTS, &seq(&[]))
}

pub fn ca_constraints(path_length: Option<u8>) -> Vec<u8> {
    let ca = element(tag::BOOLEAN, &[0xff]);
    let length = path_length.map(|n| unsigned(&[n])).unwrap_or_default();
    critical(oid::BASIC_CONSTRAINTS, &seq(&[&ca, &length]))
}

/// subjectAltName of one DNS name.
pub fn dns_name(name: &str) -> Vec<u8> {
    extension(oid::SUBJECT_ALT_NAME, &seq(&[&element(tag::context(2), name.as_bytes())]))
}

/// RFC 5280, 4.2.1.6: `iPAddress`.
pub fn ip_address(address: &[u8]) -> Vec<u8> {
    extension(oid::SUBJECT_ALT_NAME, &seq(&[&element(tag::context(7), address)]))
}

/// subjectAltName of one URI.
pub fn uri(uri: &str) -> Vec<u8> {
    extension(oid::SUBJECT_ALT_NAME, &seq(&[&element(tag::context(6), uri.as_bytes())]))
}

pub const KEY_ENCIPHERMENT: &[u8] = &[5, 0x20];
pub const KEY_AGREEMENT: &[u8] = &[3, 0x08];
pub const KEY_CERT_SIGN: &[u8] = &[1, 0x06];
pub const DIGITAL_SIGNATURE: &[u8] = &[7, 0x80];

/// Pseudorandom bytes, always the same for the same seed.
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
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
pub fn modulus(seed: &str, bytes: usize) -> Vec<u8> {
    let mut modulus = noise(seed, bytes);
    modulus[0] |= 0x80;
    modulus[bytes - 1] |= 1;
    modulus
}

pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = seq(&[&unsigned(modulus), &unsigned(exponent)]);
    let algorithm = seq(&[&identifier(oid::RSA_ENCRYPTION), &[tag::NULL, 0]]);
    seq(&[&algorithm, &element(tag::BIT_STRING, &[&[0], &key[..]].concat())])
}

pub fn ecc_spki(curve: &[u8], point: &[u8]) -> Vec<u8> {
    let algorithm = seq(&[&identifier(oid::EC_PUBLIC_KEY), &identifier(curve)]);
    seq(&[&algorithm, &element(tag::BIT_STRING, &[&[0], point].concat())])
}

/// A CA: a name with a key, which is always the same for the same name.
#[derive(Clone)]
pub struct Ca {
    pub name: Vec<u8>,
    key: SigningKey,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        Self { name: named(name), key: SigningKey::from_slice(&noise(name, 32)).unwrap() }
    }

    /// Another CA of the same name.
    pub fn impostor(&self, seed: &str) -> Self {
        Self { name: self.name.clone(), ..Self::new(seed) }
    }

    /// Its public key: SEC 1, uncompressed.
    pub fn point(&self) -> Vec<u8> {
        self.key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    pub fn spki(&self) -> Vec<u8> {
        ecc_spki(oid::SECP256R1, &self.point())
    }

    /// Its private key: PKCS #8, PEM.
    pub fn key_pem(&self) -> String {
        self.key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_digest(&Sha256::digest(message))
    }

    fn sign_digest(&self, digest: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign_prehash(digest).unwrap();
        let (r, s) = signature.split_bytes();
        seq(&[&unsigned(&r), &unsigned(&s)])
    }

    /// Its certificate, issued by itself.
    pub fn root(&self) -> Template {
        Template::ca(self).issued_by(self)
    }

    /// The certificate of another CA, issued by this one.
    pub fn certify(&self, other: &Ca) -> Template {
        Template::ca(other).issued_by(self)
    }
}

/// The parts of a certificate, in DER. Tests replace any of them.
#[derive(Clone)]
pub struct Template {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    pub algorithm: Vec<u8>,
    pub outer_algorithm: Option<Vec<u8>>,
    pub not_before: Vec<u8>,
    pub not_after: Vec<u8>,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    pub extensions: Vec<Vec<u8>>,
    pub issuer: Ca,
}

impl Template {
    /// Valid from 2024 to 2099.
    pub fn new(subject: Vec<u8>, spki: Vec<u8>, extensions: Vec<Vec<u8>>) -> Self {
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
            issuer: Ca::new("issuer"),
        }
    }

    /// The certificate of an endorsement key as most chips have it: no subject, critical SAN, key usage, purpose.
    pub fn ek(spki: &[u8]) -> Self {
        let is_rsa = contains(spki, oid::RSA_ENCRYPTION);
        let usage = if is_rsa { KEY_ENCIPHERMENT } else { KEY_AGREEMENT };
        let tpm = [
            element(tag::SET, &attribute(oid::TPM_MANUFACTURER, "id:4E544300")),
            element(tag::SET, &attribute(oid::TPM_MODEL, "NPCT75x")),
            element(tag::SET, &attribute(oid::TPM_VERSION, "id:00070002")),
        ];
        let extensions = vec![
            critical(oid::SUBJECT_ALT_NAME, &san(&tpm.concat())),
            not_ca(),
            key_usage(usage),
            purposes(&[oid::EK_CERTIFICATE]),
        ];
        Self::new(seq(&[]), spki.to_vec(), extensions)
    }

    pub fn ca(ca: &Ca) -> Self {
        let extensions = vec![ca_constraints(None), key_usage(KEY_CERT_SIGN)];
        Self::new(ca.name.clone(), ca.spki(), extensions)
    }

    pub fn issued_by(mut self, issuer: &Ca) -> Self {
        self.issuer = issuer.clone();
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Puts an extension in the place of the one of its kind, or at the end.
    pub fn extension(mut self, extension: Vec<u8>) -> Self {
        let kind = kind_of(&extension);
        match self.extensions.iter_mut().find(|other| kind_of(other) == kind) {
            Some(other) => *other = extension,
            None => self.extensions.push(extension),
        }
        self
    }

    pub fn without(mut self, kind: &[u8]) -> Self {
        self.extensions.retain(|extension| kind_of(extension) != kind);
        self
    }

    /// Signed over SHA-1.
    pub fn over_sha1(mut self) -> Self {
        self.algorithm = seq(&[&identifier(oid::ECDSA_WITH_SHA1)]);
        self
    }

    pub fn der(&self) -> Vec<u8> {
        let is_over_sha1 = contains(&self.algorithm, oid::ECDSA_WITH_SHA1);
        self.signed_by(&self.issuer.name, |tbs| match is_over_sha1 {
            true => self.issuer.sign_digest(&Sha1::digest(tbs)),
            false => self.issuer.sign(tbs),
        })
    }

    /// The certificate by an issuer with any kind of key: its name, and what signs.
    pub fn signed_by(&self, issuer: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let extensions = match &self.extensions[..] {
            [] => Vec::new(),
            some => element(tag::constructed(3), &seq(&[&some.concat()])),
        };
        let tbs = seq(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            issuer,
            &seq(&[&self.not_before, &self.not_after]),
            &self.subject,
            &self.spki,
            &extensions,
        ]);
        let signature = [vec![0], sign(&tbs)].concat();
        let algorithm = self.outer_algorithm.as_ref().unwrap_or(&self.algorithm);
        seq(&[&tbs, algorithm, &element(tag::BIT_STRING, &signature)])
    }

    pub fn pem(&self) -> String {
        pem::encode_string("CERTIFICATE", LineEnding::LF, &self.der()).unwrap()
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// subjectAltName of one directoryName of these relative names.
pub fn san(rdns: &[u8]) -> Vec<u8> {
    seq(&[&element(tag::constructed(4), &seq(&[rdns]))])
}

/// The object identifier of an extension shorter than 128 bytes.
fn kind_of(extension: &[u8]) -> &[u8] {
    let start = if extension[1] & 0x80 == 0 { 2 } else { 2 + usize::from(extension[1] & 0x7f) };
    let length = usize::from(extension[start + 1]);
    &extension[start + 2..start + 2 + length]
}
