//! Which public areas may be certified.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use sha2::{Digest, Sha256};
use tpm2::types::Public;
use tpm2::wire::Unmarshal;

use super::forge::*;
use crate::join_key::CODES;
use crate::{JoinKey, KeyError, KeyTemplateError};

/// TPMT_PUBLIC, field by field.
#[derive(Clone)]
pub(crate) struct Area {
    kind: u16,
    name_alg: u16,
    attributes: u32,
    policy: Vec<u8>,
    symmetric: Vec<u8>,
    scheme: Vec<u8>,
    curve: u16,
    kdf: Vec<u8>,
    x: Vec<u8>,
    y: Vec<u8>,
}

impl Area {
    pub(crate) fn new(seed: &str) -> Self {
        let point = Ca::new(seed).point();
        Self {
            kind: 0x0023,
            name_alg: 0x000b,
            attributes: 0x0004_0472,
            policy: vec![],
            symmetric: vec![0x00, 0x10],
            scheme: vec![0x00, 0x18, 0x00, 0x0b],
            curve: 0x0003,
            kdf: vec![0x00, 0x10],
            x: point[1..33].to_vec(),
            y: point[33..].to_vec(),
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn attributes(self, attributes: u32) -> Self {
        Self { attributes, ..self }
    }

    pub(crate) fn set_name_alg(&mut self, alg: u16) {
        self.name_alg = alg;
    }

    pub(crate) fn set_symmetric(&mut self, symmetric: &[u8]) {
        self.symmetric = symmetric.to_vec();
    }

    pub(crate) fn set_scheme(&mut self, scheme: &[u8]) {
        self.scheme = scheme.to_vec();
    }

    pub(crate) fn set_policy(&mut self, policy: &[u8]) {
        self.policy = policy.to_vec();
    }

    pub(crate) fn set_curve(&mut self, curve: u16) {
        self.curve = curve;
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let sized =
            |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        [
            &self.kind.to_be_bytes()[..],
            &self.name_alg.to_be_bytes(),
            &self.attributes.to_be_bytes(),
            &sized(&self.policy),
            &self.symmetric,
            &self.scheme,
            &self.curve.to_be_bytes(),
            &self.kdf,
            &sized(&self.x),
            &sized(&self.y),
        ]
        .concat()
    }
}

fn refused(change: impl FnOnce(&mut Area)) -> (KeyTemplateError, &'static str) {
    let error = JoinKey::appraise(&Area::new("join").with(change).bytes()).unwrap_err();
    let code = error.code(&CODES);
    (error, code)
}

#[test]
fn the_template_and_its_name() {
    let area = Area::new("join");
    let bytes = area.bytes();
    assert_eq!(bytes.len(), 88);
    assert_eq!(bytes[..12], *b"\x00\x23\x00\x0b\x00\x04\x04\x72\x00\x00\x00\x10");
    let key = JoinKey::appraise(&bytes).unwrap();
    assert_eq!(key.name().octets(), [&[0x00, 0x0b], &Sha256::digest(&bytes)[..]].concat());
    assert_eq!(key.spki_der(), ecc_key("join").spki_der());
    #[cfg(feature = "p256")]
    assert_eq!(key.verifying_key().to_sec1_point(false).x().unwrap()[..], area.x);
}

#[test]
fn template_is_that_of_the_protocol() {
    let area = Area::new("join").with(|area| (area.x, area.y) = (vec![0xab; 32], vec![0; 32]));
    assert_eq!(Ok(JoinKey::template(&[0xab; 32])), Public::from_bytes(&area.bytes()));
}

#[test]
fn every_attribute_counts() {
    for bit in 0..32 {
        let (error, code) = refused(|area| area.attributes ^= 1 << bit);
        assert!(matches!(error, KeyTemplateError::Attributes(_)), "bit {bit}: {error}");
        assert_eq!(code, "join_key_attributes");
    }
    // A restricted key signs no TLS handshake, and is no join key.
    assert_eq!(refused(|area| area.attributes = 0x0005_0472).1, "join_key_attributes");
}

#[test]
fn every_other_field_counts() {
    for alg in [0x0010, 0x0004, 0x0012, 0x0027, 0x0000, 0xffff] {
        assert_eq!(refused(|area| area.name_alg = alg).1, "join_key_name_algorithm", "{alg:04x}");
    }
    for name_alg in [0x000c, 0x000d] {
        let area = Area::new("join").with(|area| area.name_alg = name_alg);
        assert_eq!(JoinKey::appraise(&area.bytes()).unwrap().name().octets()[1], name_alg as u8);
    }
    assert_eq!(refused(|area| area.policy = vec![0; 32]).1, "join_key_policy");
    assert_eq!(refused(|area| area.policy = vec![0; 1]).1, "join_key_policy");
    let aes = vec![0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
    let template: [fn(&mut Area); 7] = [
        |area| area.scheme = vec![0x00, 0x10],
        |area| area.scheme = vec![0x00, 0x18, 0x00, 0x0c],
        |area| area.scheme = vec![0x00, 0x18, 0x00, 0x04],
        |area| area.scheme = vec![0x00, 0x1c, 0x00, 0x0b],
        |area| area.scheme = vec![0x00, 0x1a, 0x00, 0x0b, 0x00, 0x00],
        |area| area.curve = 0x0004,
        |area| area.kdf = vec![0x00, 0x20, 0x00, 0x0b],
    ];
    for change in template {
        assert_eq!(refused(change).1, "join_key_template");
    }
    assert_eq!(refused(|area| area.symmetric = aes).1, "join_key_template");
    let rsa = [
        &b"\x00\x01\x00\x0b\x00\x04\x04\x72\x00\x00\x00\x10\x00\x10\x08\x00\x00\x00\x00\x00\x01\x00"[..],
        &modulus("join", 256),
    ]
    .concat();
    assert_eq!(JoinKey::appraise(&rsa).unwrap_err().code(&CODES), "join_key_template");
    assert_eq!(refused(|area| area.kind = 0x0044).1, "join_key_malformed");
}

#[test]
fn coordinates() {
    let point_form = KeyTemplateError::Key(KeyError::PointForm);
    let off_curve = KeyTemplateError::Key(KeyError::PointOffCurve);
    assert_eq!(refused(|area| area.x.insert(0, 0)).0, point_form);
    assert_eq!(refused(|area| area.y.push(0)).0, point_form);
    assert_eq!(refused(|area| area.y[31] ^= 1).0, off_curve);
    assert_eq!(refused(|area| (area.x, area.y) = (vec![], vec![])).0, off_curve);
    assert_eq!(refused(|area| (area.x, area.y) = (vec![0xff; 32], vec![0xff; 32])).0, off_curve);
    assert_eq!(refused(|area| area.x = vec![0; 67]).1, "join_key_malformed");
}

#[test]
fn leading_zeros_may_be_left_out() {
    let seed = (0..).map(|n| format!("short {n}")).find(|seed| Area::new(seed).x[0] == 0).unwrap();
    let padded = Area::new(&seed);
    let short = padded.clone().with(|area| {
        area.x.retain({
            let mut first = true;
            move |_| !std::mem::take(&mut first)
        })
    });
    let [padded, short] = [padded, short].map(|area| JoinKey::appraise(&area.bytes()).unwrap());
    assert_eq!(padded.spki_der(), short.spki_der());
    assert_ne!(padded.name(), short.name());
}

#[test]
fn nothing_missing_nothing_left_over() {
    let bytes = Area::new("join").bytes();
    for end in 0..bytes.len() {
        let error = JoinKey::appraise(&bytes[..end]).unwrap_err();
        assert_eq!(error.code(&CODES), "join_key_malformed", "{end}");
    }
    let error = JoinKey::appraise(&[&bytes[..], &[0]].concat()).unwrap_err();
    assert!(matches!(error, KeyTemplateError::Malformed(_)), "{error}");
    for position in 0..bytes.len() {
        for flip in 1..=u8::MAX {
            let mut changed = bytes.clone();
            changed[position] ^= flip;
            if let Ok(other) = JoinKey::appraise(&changed) {
                assert_eq!((position, flip & !7), (3, 0), "only the name algorithm may be another");
                assert_ne!(other.name(), JoinKey::appraise(&bytes).unwrap().name());
            }
        }
    }
}

#[test]
fn signatures_of_the_key() {
    let key = JoinKey::appraise(&Area::new("join").bytes()).unwrap();
    let signing = SigningKey::from_slice(&noise("join", 32)).unwrap();
    let message = b"transcript";
    let signature: p256::ecdsa::Signature = signing.sign_prehash(&Sha256::digest(message)).unwrap();
    let signature = signature.to_der();
    assert_eq!(key.verify(message, signature.as_bytes()), Ok(()));
    assert_eq!(Ca::new("join").sign(b"transcript"), signature.as_bytes());
    let other = JoinKey::appraise(&Area::new("other").bytes()).unwrap();
    assert!(other.verify(message, signature.as_bytes()).is_err());
    assert!(key.verify(b"another", signature.as_bytes()).is_err());
    for end in 0..signature.len() {
        assert!(key.verify(message, &signature.as_bytes()[..end]).is_err());
    }
    for position in 0..signature.len() {
        let mut changed = signature.as_bytes().to_vec();
        changed[position] ^= 0x01;
        assert!(key.verify(message, &changed).is_err(), "{position}");
    }
    let zero = [0x30, 0x06, 0x02, 0x01, 0x00, 0x02, 0x01, 0x00];
    assert!(key.verify(message, &zero).is_err());
    assert!(key.verify(message, &[signature.as_bytes(), &[0]].concat()).is_err());
}
