//! Which attestations are accepted, tested with a forged TPM that signs anything.

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use sha2::{Digest as _, Sha256};
use tpm2::crypto::{HashAlg, object_name, qualified_name};
use tpm2::types::*;
use tpm2::wire::{List, Marshal, Unmarshal, Writer};

use super::boot;
use super::forge::*;
use super::join_key::Area;
use crate::event_log::{EventLog, SecureBoot};
use crate::{
    Attestation, AttestationError, AttestationKey, AttestationKeyError, JoinKey, KeyError,
    PcrValues,
};

const NONCE: [u8; 32] = *b"a nonce that was not used before";
const AK_ATTRIBUTES: u32 = 0x0005_0472;

fn area() -> Area {
    Area::new("ak").attributes(AK_ATTRIBUTES)
}

fn key() -> AttestationKey {
    AttestationKey::appraise(&area().bytes()).unwrap()
}

fn octets(value: &impl Marshal) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    writer.write(value).unwrap();
    writer.into_written().to_vec()
}

/// The Name of the endorsement hierarchy.
fn endorsement() -> NameBuf {
    Hierarchy::Endorsement.name().unwrap()
}

/// An attestation and its signature.
#[derive(Clone)]
struct Forged {
    attest: Vec<u8>,
    signature: Vec<u8>,
}

impl Forged {
    fn new(attested: Attested<'_>) -> Self {
        Self::to(&NONCE, attested)
    }

    fn to(nonce: &[u8], attested: Attested<'_>) -> Self {
        let signer = qualified_name(&endorsement(), key().name()).unwrap();
        let attest = Attest {
            qualified_signer: Name::new(signer.octets()).unwrap(),
            extra_data: Data::new(nonce).unwrap(),
            clock_info: ClockInfo { clock: 7, reset_count: 2, restart_count: 1, safe: true },
            firmware_version: 0x2019_0502,
            attested,
        };
        Self::of(octets(&attest))
    }

    /// Signed whatever it is.
    fn of(attest: Vec<u8>) -> Self {
        let signing = SigningKey::from_slice(&noise("ak", 32)).unwrap();
        let made: p256::ecdsa::Signature = signing.sign_prehash(&Sha256::digest(&attest)).unwrap();
        let (r, s) = made.split_bytes();
        let signature = Signature::Ecdsa(EccSignature {
            hash: Alg::SHA256,
            r: EccParameter::new(&r).unwrap(),
            s: EccParameter::new(&s).unwrap(),
        });
        Self { attest, signature: octets(&signature) }
    }

    fn evidence(&self) -> Attestation<'_> {
        Attestation { attest: &self.attest, signature: &self.signature }
    }
}

/// PCR 0 to 7 of SHA-256 with values of their own, and PCR 0 of SHA-1.
fn values() -> PcrValues {
    let values = PcrValues::new().with(HashAlg::Sha1, 0, &[0xaa; 20]).unwrap();
    (0..8).fold(values, |values, pcr| values.with(HashAlg::Sha256, pcr, &[pcr; 32]).unwrap())
}

/// A quote of PCR 0 and 7 of SHA-256, then PCR 0 of SHA-1.
fn quote_to(nonce: &[u8]) -> Forged {
    let selections = [
        PcrSelection::new(Alg::SHA256, &[0x81, 0, 0]).unwrap(),
        PcrSelection::new(Alg::SHA1, &[0x01, 0, 0]).unwrap(),
    ];
    let digest = HashAlg::Sha256.digest(&[&[0; 32], &[7; 32], &[0xaa; 20]]);
    quote_of(nonce, &selections, digest.octets())
}

fn quote_of(nonce: &[u8], selections: &[PcrSelection<'_>], digest: &[u8]) -> Forged {
    let pcr_digest = Digest::new(digest).unwrap();
    Forged::to(nonce, Attested::Quote(QuoteInfo { pcr_select: List::new(selections), pcr_digest }))
}

#[test]
fn a_quote_vouches_for_what_it_covers_and_nothing_else() {
    let quote = key().quote(quote_to(&NONCE).evidence(), &NONCE, &values()).unwrap();
    let pcrs = quote.pcrs.values();
    assert!(pcrs.bank(HashAlg::Sha256).eq([(0, &[0; 32][..]), (7, &[7; 32])]));
    assert!(pcrs.bank(HashAlg::Sha1).eq([(0, &[0xaa; 20][..])]));
    assert_eq!(quote.report.clock_info.reset_count, 2);
    assert_eq!(quote.report.firmware_version, 0x2019_0502);
    let signer = qualified_name(&endorsement(), key().name()).unwrap();
    assert_eq!(quote.report.qualified_signer, signer);
}

#[test]
fn values_that_were_not_quoted_are_refused() {
    let refused =
        |values: &PcrValues| key().quote(quote_to(&NONCE).evidence(), &NONCE, values).unwrap_err();
    for pcr in [0, 7] {
        for position in 0..32 {
            let mut value = [pcr; 32];
            value[position] ^= 0x10;
            let changed = values().with(HashAlg::Sha256, pcr, &value).unwrap();
            assert_eq!(refused(&changed), AttestationError::PcrDigest);
        }
    }
    let only = PcrValues::new().with(HashAlg::Sha256, 0, &[0; 32]).unwrap();
    let missing = AttestationError::PcrMissing { bank: Alg::SHA256, pcr: 7 };
    assert_eq!(refused(&only), missing);
    assert!(values().with(HashAlg::Sha256, 0, &[0; 20]).is_none());
    assert!(values().with(HashAlg::Sha256, 24, &[0; 32]).is_none());

    let quote = |selections: &[PcrSelection<'_>]| {
        let forged = quote_of(&NONCE, selections, HashAlg::Sha256.digest(&[]).octets());
        key().quote(forged.evidence(), &NONCE, &values()).unwrap_err()
    };
    assert_eq!(quote(&[]), AttestationError::NothingQuoted);
    let none = PcrSelection::new(Alg::SHA256, &[0, 0, 0]).unwrap();
    assert_eq!(quote(&[none]), AttestationError::NothingQuoted);
    let unknown = PcrSelection::new(Alg::SM3_256, &[1, 0, 0]).unwrap();
    assert_eq!(quote(&[unknown]), AttestationError::PcrMissing { bank: Alg::SM3_256, pcr: 0 });
    let far = PcrSelection::new(Alg::SHA256, &[0, 0, 0, 1]).unwrap();
    assert_eq!(quote(&[far]), AttestationError::PcrMissing { bank: Alg::SHA256, pcr: 24 });
}

#[test]
fn an_answer_to_another_nonce_is_refused() {
    let answer = |to: &[u8], nonce: &[u8]| key().quote(quote_to(to).evidence(), nonce, &values());
    assert!(answer(&NONCE[..16], &NONCE[..16]).is_ok());
    assert_eq!(answer(&NONCE[1..], &NONCE[..31]).unwrap_err(), AttestationError::Nonce);
    assert_eq!(answer(&NONCE[..31], &NONCE).unwrap_err(), AttestationError::Nonce);
    assert_eq!(answer(&[], &NONCE).unwrap_err(), AttestationError::Nonce);
    for short in [0, 1, 15] {
        let refused = answer(&NONCE[..short], &NONCE[..short]).unwrap_err();
        assert_eq!(refused, AttestationError::NonceTooShort(short));
    }
}

#[test]
fn a_signature_alone_makes_no_attestation() {
    let good = quote_to(&NONCE);
    let refused = |attest: Vec<u8>| {
        key().quote(Forged::of(attest).evidence(), &NONCE, &values()).unwrap_err()
    };
    // What an unrestricted key could be made to sign.
    for position in 0..4 {
        let mut attest = good.attest.clone();
        attest[position] ^= 0x01;
        assert!(matches!(refused(attest), AttestationError::Malformed(_)), "magic");
    }
    assert!(matches!(refused(b"something".to_vec()), AttestationError::Malformed(_)));
    assert!(matches!(refused(vec![]), AttestationError::Malformed(_)));
    let longer = [&good.attest[..], &[0]].concat();
    assert!(matches!(refused(longer), AttestationError::Malformed(_)));
    for end in 0..good.attest.len() {
        let cut = good.attest[..end].to_vec();
        assert!(matches!(refused(cut), AttestationError::Malformed(_)), "{end}");
    }
}

#[test]
fn one_kind_of_attestation_is_not_another() {
    let public = Area::new("object").bytes();
    let name = object_name(&Public::from_bytes(&public).unwrap()).unwrap();
    let name = Name::new(name.octets()).unwrap();
    let certify = Forged::new(Attested::Certify(CertifyInfo { name, qualified_name: name }));
    let creation =
        Attested::Creation(CreationInfo { object_name: name, creation_hash: Digest::EMPTY });
    let creation = Forged::new(creation);
    let key = key();
    let quoted = |forged: &Forged| key.quote(forged.evidence(), &NONCE, &values()).unwrap_err();
    assert_eq!(quoted(&certify), AttestationError::Kind(Structure::ATTEST_CERTIFY));
    assert_eq!(quoted(&creation), AttestationError::Kind(Structure::ATTEST_CREATION));
    let quote = quote_to(&NONCE);
    let as_certified = |forged: &Forged| key.certified(forged.evidence(), &NONCE, &public);
    let kind = AttestationError::Kind(Structure::ATTEST_QUOTE);
    assert_eq!(as_certified(&quote).unwrap_err(), kind);
    let kind = AttestationError::Kind(Structure::ATTEST_CREATION);
    assert_eq!(as_certified(&creation).unwrap_err(), kind);
    let refused = key.created(certify.evidence(), &NONCE, &public, &[]).unwrap_err();
    assert_eq!(refused, AttestationError::Kind(Structure::ATTEST_CERTIFY));
}

#[test]
fn a_certified_key_is_the_one_that_was_shown() {
    let public = Area::new("object").bytes();
    let name = object_name(&Public::from_bytes(&public).unwrap()).unwrap();
    let qualified = qualified_name(&endorsement(), &name).unwrap();
    let forged = Forged::new(Attested::Certify(CertifyInfo {
        name: Name::new(name.octets()).unwrap(),
        qualified_name: Name::new(qualified.octets()).unwrap(),
    }));
    let certified = key().certified(forged.evidence(), &NONCE, &public).unwrap();
    assert_eq!((certified.name, certified.qualified_name), (name, qualified));
    for position in 0..public.len() {
        let mut other = public.clone();
        other[position] ^= 0x01;
        assert!(key().certified(forged.evidence(), &NONCE, &other).is_err(), "{position}");
    }
}

#[test]
fn a_created_key_was_created_as_was_shown() {
    let public = Area::new("object").bytes();
    let name = object_name(&Public::from_bytes(&public).unwrap()).unwrap();
    let parent = endorsement();
    let creation = octets(&CreationData {
        pcr_select: List::new(&[]),
        pcr_digest: Digest::EMPTY,
        locality: Locality::ZERO,
        parent_name_alg: Alg::NULL,
        parent_name: Name::new(parent.octets()).unwrap(),
        parent_qualified_name: Name::new(parent.octets()).unwrap(),
        outside_info: Data::from(b"from outside"),
    });
    let forged = Forged::new(Attested::Creation(CreationInfo {
        object_name: Name::new(name.octets()).unwrap(),
        creation_hash: Digest::new(HashAlg::Sha256.digest(&[&creation]).octets()).unwrap(),
    }));
    let key = key();
    let created = key.created(forged.evidence(), &NONCE, &public, &creation).unwrap();
    assert_eq!(created.creation.outside_info.octets(), b"from outside");
    assert_eq!(created.name, name);
    for position in 0..creation.len() {
        let mut other = creation.clone();
        other[position] ^= 0x01;
        let refused = key.created(forged.evidence(), &NONCE, &public, &other).unwrap_err();
        assert_eq!(refused, AttestationError::OtherCreation, "{position}");
    }
    let other = Area::new("other").bytes();
    let refused = key.created(forged.evidence(), &NONCE, &other, &creation).unwrap_err();
    assert_eq!(refused, AttestationError::OtherObject);
}

#[test]
fn no_change_of_a_byte_is_vouched_for() {
    let good = quote_to(&NONCE);
    let holds = |forged: &Forged| key().quote(forged.evidence(), &NONCE, &values()).is_ok();
    assert!(holds(&good));
    for flip in [0x01, 0x80, 0xff] {
        for position in 0..good.attest.len() {
            let mut forged = good.clone();
            forged.attest[position] ^= flip;
            assert!(!holds(&forged), "attest {position} ^ {flip:02x}");
        }
        for position in 0..good.signature.len() {
            let mut forged = good.clone();
            forged.signature[position] ^= flip;
            assert!(!holds(&forged), "signature {position} ^ {flip:02x}");
        }
        let public = area().bytes();
        for position in 0..public.len() {
            let mut public = public.clone();
            public[position] ^= flip;
            // Attributes and name algorithm are not in the signature; they are in the Name, and so
            // in the qualified signer, where the parent is known.
            let changed = AttestationKey::appraise(&public)
                .and_then(|key| key.under(&endorsement()))
                .is_ok_and(|key| key.quote(good.evidence(), &NONCE, &values()).is_ok());
            assert!(!changed, "public {position} ^ {flip:02x}");
        }
    }
    for end in 0..good.signature.len() {
        let signature = good.signature[..end].to_vec();
        assert!(!holds(&Forged { signature, ..good.clone() }), "{end}");
    }
    let signature = [&good.signature[..], &[0]].concat();
    assert!(!holds(&Forged { signature, ..good.clone() }));
}

#[test]
fn malformed_signatures_are_refused() {
    let good = quote_to(&NONCE);
    let Signature::Ecdsa(made) = Signature::from_bytes(&good.signature).unwrap() else { panic!() };
    let zero = EccParameter::from(&[0; 32]);
    let hmac = HashAlg::Sha256.hmac(&[b""], &[&good.attest]);
    for signature in [
        Signature::Null,
        Signature::Ecdsa(EccSignature { hash: Alg::SHA384, ..made }),
        Signature::Ecdsa(EccSignature { hash: Alg::NULL, ..made }),
        Signature::Ecdsa(EccSignature { r: zero, s: zero, ..made }),
        Signature::Ecdsa(EccSignature { r: EccParameter::EMPTY, s: EccParameter::EMPTY, ..made }),
        Signature::Ecdsa(EccSignature { r: made.s, s: made.r, ..made }),
        Signature::Ecdaa(made),
        Signature::Ecschnorr(made),
        Signature::Sm2(made),
        Signature::Hmac(HashValue::new(Alg::SHA256, hmac.octets()).unwrap()),
    ] {
        let forged = Forged { signature: octets(&signature), ..good.clone() };
        let refused = key().quote(forged.evidence(), &NONCE, &values()).unwrap_err();
        assert_eq!(refused, AttestationError::Signature, "{signature:?}");
    }
}

#[test]
fn every_attribute_of_an_attestation_key_counts() {
    const MAY: u32 = 1 << 2 | 1 << 6 | 1 << 7 | 1 << 10;
    for bit in 0..32 {
        let public = area().attributes(AK_ATTRIBUTES ^ 1 << bit).bytes();
        let verdict = AttestationKey::appraise(&public);
        if MAY & 1 << bit != 0 {
            assert_ne!(verdict.unwrap().name(), key().name(), "bit {bit}");
        } else {
            let refused = verdict.unwrap_err();
            assert!(matches!(refused, AttestationKeyError::Attributes(_)), "bit {bit}: {refused}");
        }
    }
    // A join key signs whatever it is given, and is no attestation key; nor the other way round.
    let join_key = Area::new("ak").bytes();
    assert!(JoinKey::appraise(&join_key).is_ok() && AttestationKey::appraise(&join_key).is_err());
    assert!(JoinKey::appraise(&area().bytes()).is_err());
}

#[test]
fn the_rest_of_an_attestation_key_counts_too() {
    let refused =
        |change: fn(&mut Area)| AttestationKey::appraise(&area().with(change).bytes()).unwrap_err();
    for (change, what) in [
        ((|area| area.set_scheme(&[0x00, 0x10])) as fn(&mut Area), "scheme is not ECDSA"),
        (|area| area.set_scheme(&[0x00, 0x1c, 0x00, 0x0b]), "scheme is not ECDSA"),
        (|area| area.set_symmetric(&[0, 6, 0, 128, 0, 0x43]), "symmetric or kdf is not null"),
        (|area| area.set_curve(5), "curve is neither P-256 nor P-384"),
    ] {
        assert_eq!(refused(change), AttestationKeyError::Template(what));
    }
    for alg in [0x0004, 0x0012] {
        let change = move |area: &mut Area| area.set_scheme(&[0x00, 0x18, 0x00, alg]);
        let refused = AttestationKey::appraise(&area().with(change).bytes()).unwrap_err();
        assert_eq!(refused, AttestationKeyError::SchemeHash(Alg(alg.into())));
    }
    assert_eq!(refused(|area| area.set_name_alg(4)), AttestationKeyError::NameAlgorithm(Alg::SHA1));
    assert_eq!(
        refused(|area| area.set_curve(4)),
        AttestationKeyError::Key(KeyError::PointOffCurve)
    );
    let bytes = area().bytes();
    for end in 0..bytes.len() {
        let refused = AttestationKey::appraise(&bytes[..end]).unwrap_err();
        assert!(matches!(refused, AttestationKeyError::Malformed(_)), "{end}");
    }
    assert!(AttestationKey::appraise(&[&bytes[..], &[0]].concat()).is_err());
    let sealed = b"\x00\x08\x00\x0b\x00\x05\x04\x72\x00\x00\x00\x10\x00\x00";
    assert!(matches!(AttestationKey::appraise(sealed), Err(AttestationKeyError::Template(_))));
}

#[test]
fn a_key_under_another_parent_is_another_key() {
    let quote = quote_to(&NONCE);
    let under = |parent: Hierarchy| key().under(&parent.name().unwrap()).unwrap();
    let verify = |key: AttestationKey| key.quote(quote.evidence(), &NONCE, &values());
    assert!(verify(under(Hierarchy::Endorsement)).is_ok());
    for parent in [Hierarchy::Owner, Hierarchy::Platform, Hierarchy::Null] {
        assert_eq!(verify(under(parent)).unwrap_err(), AttestationError::Signer);
    }
}

#[test]
fn from_a_quote_and_a_log_to_secure_boot() {
    let recipe = boot::machine();
    let log = EventLog::parse(&recipe.bytes).unwrap();
    let bank = log.replay(HashAlg::Sha256).unwrap();
    let selection = [PcrSelection::new(Alg::SHA256, &[0x81, 0x40, 0]).unwrap()];
    let value = |pcr: usize| bank.values().nth(pcr).unwrap();
    let digest = HashAlg::Sha256.digest(&[value(0), value(7), value(14)]);
    let forged = quote_of(&NONCE, &selection, digest.octets());
    // No values were sent: the log says them all, and the quote whether it is right.
    let claimed = PcrValues::new().with_bank(&bank);
    let quote = key().quote(forged.evidence(), &NONCE, &claimed).unwrap();
    let measured = log.measured(&quote.pcrs, HashAlg::Sha256).unwrap();
    assert_eq!(measured.secure_boot(), Ok(SecureBoot::On));
    assert!(measured.of_pcr(4).is_err());
}
