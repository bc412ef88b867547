//! Who vouches for whom.

use p256::elliptic_curve::sec1::ToSec1Point;

use super::forge::*;
use crate::chain::{
    ChainError, ChainPolicy, DatePolicy, MAX_DEPTH, MAX_INTERMEDIATES, PurposePolicy, Reason,
    Sha1Policy, verify, verify_within,
};
use crate::der::{element, tag};
use crate::{
    CaCertificate, Effort, EkCertificate, EkPublicKey, Fault, KnownSignatures, RsaKey,
    SignatureAlgorithm, UnixTime, oid,
};

const STRICT: ChainPolicy = ChainPolicy {
    dates: DatePolicy::Now,
    sha1: Sha1Policy::Refused,
    purpose: PurposePolicy::Refused,
};
const BURNED_IN: ChainPolicy = ChainPolicy { dates: DatePolicy::AtIssuance, ..STRICT };

fn ek(issuer: &Ca) -> Template {
    Template::ek(&rsa_key("ek").spki_der()).issued_by(issuer)
}

fn failure(
    ek: &EkCertificate,
    intermediates: &[CaCertificate],
    anchors: &[CaCertificate],
) -> ChainError {
    verify(ek, intermediates, anchors, NOW, BURNED_IN).unwrap_err()
}

/// A chain of CAs, each issued by the previous one, the first self-signed.
fn row(length: usize) -> (Vec<Ca>, Vec<CaCertificate>) {
    let cas: Vec<_> = (0..length).map(|n| Ca::new(&format!("ca {n}"))).collect();
    let mut certificates = vec![cas[0].anchor()];
    certificates.extend(cas.windows(2).map(|pair| pair[0].certify(&pair[1]).ca_certificate()));
    (cas, certificates)
}

#[test]
fn root_and_intermediate_or_either_as_the_anchor() {
    let (cas, certificates) = row(2);
    let [root, issuing] = &certificates[..] else { panic!("a row of two") };
    let leaf = ek(&cas[1]).certificate();
    for (intermediates, anchors, steps) in [
        (vec![issuing], vec![root], 1),
        (vec![root, issuing], vec![root], 1),
        (vec![], vec![issuing], 0),
        (vec![], vec![root, issuing], 0),
        (vec![root], vec![issuing], 0),
    ] {
        let intermediates: Vec<_> = intermediates.into_iter().cloned().collect();
        let anchors: Vec<_> = anchors.into_iter().cloned().collect();
        let path = verify(&leaf, &intermediates, &anchors, NOW, STRICT).unwrap();
        assert_eq!(path.intermediates().len(), steps);
        let expected = if steps == 1 { root } else { issuing };
        assert_eq!(path.anchor().der(), expected.der());
    }
}

#[test]
fn unknown_issuer_is_refused() {
    let (cas, certificates) = row(2);
    let leaf = ek(&cas[1]).certificate();
    let error = failure(&leaf, &[], &certificates[..1]);
    assert_eq!((error.reason(), error.fault()), (&Reason::NoIssuer, Fault::Untrusted));
    assert_eq!(
        error.to_string(),
        "the EK certificate 5e:cd:5f:8e of \"CN=ca 1\" was issued by an unknown CA"
    );
    let error = failure(&leaf, &certificates, &[]);
    assert!(error.to_string().starts_with("the CA certificate \"CN=ca 0\""), "{error}");
    assert_eq!(failure(&leaf, &[], &[]).reason(), &Reason::NoIssuer);
}

#[test]
fn another_authority_of_the_same_name() {
    let (cas, certificates) = row(2);
    let leaf = ek(&cas[1]).certificate();
    let false_root = cas[0].impostor("other root");
    let false_issuing = cas[1].impostor("other issuing");
    let error = failure(&leaf, &[], &[false_issuing.anchor()]);
    assert_eq!(error.reason(), &Reason::Signature { issuer: "CN=ca 1".to_owned() });
    assert_eq!(error.fault(), Fault::Untrusted);
    // The agent brings a chain that is whole, but for the anchor.
    let error = failure(&leaf, &certificates, &[false_root.anchor()]);
    assert!(matches!(error.reason(), Reason::Signature { .. }), "{error}");
    // The leaf is false and the chain is true.
    let false_leaf = ek(&false_issuing).certificate();
    let error = failure(&false_leaf, &certificates[1..], &certificates[..1]);
    assert!(matches!(error.reason(), Reason::Signature { .. }), "{error}");
}

#[test]
fn all_of_the_same_name_are_tried() {
    let (cas, certificates) = row(2);
    let leaf = ek(&cas[1]).certificate();
    let others = |n: usize| cas[n].impostor(&format!("other {n}")).anchor();
    let anchors = [others(0), others(1), certificates[0].clone()];
    let intermediates = [others(1), certificates[1].clone()];
    let path = verify(&leaf, &intermediates, &anchors, NOW, STRICT).unwrap();
    assert_eq!(path.anchor().der(), certificates[0].der());
    assert_eq!(path.intermediates()[0].der(), certificates[1].der());
}

#[test]
fn issuer_and_subject_need_not_be_encoded_alike() {
    let ca = |name: &[u8]| {
        let mut ca = Ca::new("ca");
        ca.name = name.to_vec();
        ca
    };
    let attribute = |kind, tag, value: &[u8]| seq(&[&identifier(kind), &element(tag, value)]);
    let rdns = |rdns: &[&[&[u8]]]| {
        let sets: Vec<_> = rdns.iter().flat_map(|rdn| element(tag::SET, &rdn.concat())).collect();
        seq(&[&sets])
    };
    let country = attribute(oid::COUNTRY, tag::PRINTABLE_STRING, b"DE");
    let [organization, common] = [oid::ORGANIZATION, oid::COMMON_NAME]
        .map(|kind| attribute(kind, tag::UTF8_STRING, "Ün  CA".as_bytes()));
    let name = rdns(&[&[&country, &organization], &[&common]]);
    let leaf = ek(&ca(&name)).certificate();
    let found = |other: &[u8]| verify(&leaf, &[], &[ca(other).anchor()], NOW, STRICT).is_ok();
    for (tag, value) in [
        (tag::UTF8_STRING, "Ün CA".as_bytes()),
        (tag::UTF8_STRING, " üN\tca ".as_bytes()),
        (tag::TELETEX_STRING, b"\xdcN CA"),
        (tag::BMP_STRING, b"\0\xfc\0n\0 \0c\0a"),
        (tag::UNIVERSAL_STRING, b"\0\0\0\xfc\0\0\0n\0\0\0 \0\0\0c\0\0\0a"),
    ] {
        let other = attribute(oid::COMMON_NAME, tag, value);
        assert!(found(&rdns(&[&[&country, &organization], &[&other]])), "{tag:#x} {value:02x?}");
        assert!(found(&rdns(&[&[&organization, &country], &[&other]])), "{tag:#x} {value:02x?}");
    }
    for (tag, value) in [
        (tag::UTF8_STRING, "ÜnCA".as_bytes()),
        (tag::UTF8_STRING, b"Un CA"),
        (tag::UTF8_STRING, b"\xdcN CA"),
        (tag::BMP_STRING, b"\0\xfc\0n\0 \0c\0a\0"),
        (tag::OCTET_STRING, "Ün  CA".as_bytes()),
    ] {
        let other = attribute(oid::COMMON_NAME, tag, value);
        assert!(!found(&rdns(&[&[&country, &organization], &[&other]])), "{tag:#x} {value:02x?}");
    }
    // Another order, another division, another type.
    assert!(!found(&rdns(&[&[&common], &[&country, &organization]])));
    assert!(!found(&rdns(&[&[&country], &[&organization], &[&common]])));
    assert!(!found(&rdns(&[&[&country, &common], &[&organization]])));
    assert!(!found(&rdns(&[&[&country, &organization]])));
}

/// What a search finds, and how many signatures it checks.
fn counted(
    ek: &EkCertificate,
    intermediates: &[CaCertificate],
    anchors: &[CaCertificate],
) -> (Result<(), Reason>, usize) {
    counted_with(&KnownSignatures::default(), ek, intermediates, anchors)
}

/// The same, with signatures that are known.
fn counted_with(
    known: &KnownSignatures,
    ek: &EkCertificate,
    intermediates: &[CaCertificate],
    anchors: &[CaCertificate],
) -> (Result<(), Reason>, usize) {
    let mut effort = Effort::default();
    effort.signatures_left = 1000;
    let found = verify_within(&mut effort, known, ek, intermediates, anchors, NOW, BURNED_IN);
    let found = found.map(|_| ()).map_err(|error| error.reason().clone());
    (found, 1000 - effort.signatures_left)
}

fn subject_key_id(seed: &str) -> Vec<u8> {
    extension(oid::SUBJECT_KEY_IDENTIFIER, &element(tag::OCTET_STRING, &noise(seed, 20)))
}

fn authority_key_id(seed: &str) -> Vec<u8> {
    let id = seq(&[&element(tag::context(0), &noise(seed, 20))]);
    extension(oid::AUTHORITY_KEY_IDENTIFIER, &id)
}

#[test]
fn anchors_of_one_name_cost_a_bounded_number_of_checks() {
    let issuer = Ca::new("ca");
    let root = |ca: &Ca, seed: &str| {
        Template::ca(ca).issued_by(ca).extension(subject_key_id(seed)).ca_certificate()
    };
    let others = 0..200;
    let mut anchors: Vec<_> =
        others.map(|n| root(&issuer.impostor(&format!("o {n}")), &format!("o {n}"))).collect();
    let unnamed = ek(&issuer).certificate();
    assert_eq!(failure(&unnamed, &[], &anchors).reason(), &Reason::SearchLimit);
    // The key identifier finds the one among all of them.
    anchors.push(root(&issuer, "right"));
    let leaf = ek(&issuer).extension(authority_key_id("right")).certificate();
    assert_eq!(counted(&leaf, &[], &anchors), (Ok(()), 1));
}

#[test]
fn intermediates_with_another_key_identifier_are_not_tried() {
    let root = Ca::new("root");
    let issuer = Ca::new("ca");
    let certified = |ca: &Ca, by: &Ca, seed| {
        Template::ca(ca).issued_by(by).extension(subject_key_id(seed)).ca_certificate()
    };
    let leaf = ek(&issuer).extension(authority_key_id("right")).certificate();
    // Fifteen of the right name and key; only the last is the one that the leaf names.
    let mut intermediates = vec![certified(&issuer, &root, "wrong"); 15];
    intermediates.push(certified(&issuer, &root, "right"));
    let anchors = [root.anchor()];
    let path = verify(&leaf, &intermediates, &anchors, NOW, STRICT).unwrap();
    assert_eq!(path.intermediates()[0].der(), intermediates[15].der());
    let (found, checks) = counted(&leaf, &intermediates[..15], &anchors);
    assert_eq!((found, checks), (Err(Reason::KeyIdentifier { issuer: "CN=ca".to_owned() }), 0));
    // Of anchors, an identifier is a hint and no proof.
    let liar = issuer.impostor("liar");
    let anchors = [certified(&liar, &liar, "right"), certified(&issuer, &issuer, "wrong")];
    let path = verify(&leaf, &[], &anchors, NOW, STRICT).unwrap();
    assert_eq!(path.anchor().der(), anchors[1].der());
}

#[test]
fn depth_is_bounded() {
    let (cas, certificates) = row(MAX_DEPTH + 1);
    for length in 1..=MAX_DEPTH {
        let leaf = ek(&cas[length - 1]).certificate();
        let below = &certificates[1..length];
        let path = verify(&leaf, below, &certificates[..1], NOW, STRICT).unwrap();
        assert_eq!(path.intermediates().len(), length - 1);
    }
    let leaf = ek(&cas[MAX_DEPTH]).certificate();
    let error = failure(&leaf, &certificates[1..], &certificates[..1]);
    assert_eq!(error.reason(), &Reason::TooDeep);
    let mut backwards = certificates[1..MAX_DEPTH].to_vec();
    backwards.reverse();
    let leaf = ek(&cas[MAX_DEPTH - 1]).certificate();
    verify(&leaf, &backwards, &certificates[..1], NOW, STRICT).unwrap();
}

/// Sixteen certificates of one name, each issued by all of these keys' holders.
fn knot(keys: usize) -> (Ca, Vec<CaCertificate>) {
    let ca = Ca::new("ca");
    let holders: Vec<_> = (0..keys).map(|n| ca.impostor(&format!("key {n}"))).collect();
    let certificate = |n: u8| {
        let (holder, by) = (&holders[usize::from(n) % keys], &holders[usize::from(n / 2) % keys]);
        let serial = element(tag::INTEGER, &[n]);
        Template::ca(holder).issued_by(by).with(|r| r.serial = serial).ca_certificate()
    };
    (holders[0].clone(), (0..16).map(certificate).collect())
}

#[test]
fn chain_that_names_no_anchor_costs_no_check() {
    // Every one of them issues every other, so that all 32 signatures that could be checked are
    // genuine.
    let other = [Ca::new("other").anchor()];
    for keys in [1, 5] {
        let (issuer, knot) = knot(keys);
        let leaf = ek(&issuer).certificate();
        let (found, checks) = counted(&leaf, &knot, &other);
        assert!(found.is_err());
        assert_eq!(checks, 0, "{keys} keys");
    }
    let (issuer, knot) = knot(1);
    let leaf = ek(&issuer).certificate();
    let error = failure(&leaf, &[&knot[..], &knot[..1]].concat(), &other);
    assert_eq!(error.reason(), &Reason::TooManyIntermediates(MAX_INTERMEDIATES + 1));
}

#[test]
fn chain_that_no_anchor_signed_costs_few_checks() {
    let (issuer, knot) = knot(5);
    let leaf = ek(&issuer).certificate();
    // The anchor has the name of all of them, and another key.
    let anchor = Ca::new("ca").impostor("the anchor's key");
    let on = |curve: &[u8], point: &[u8]| {
        let spki = ecc_spki(curve, point);
        Template::ca(&anchor).issued_by(&anchor).with(|r| r.spki = spki).ca_certificate()
    };
    let p384 = p384::SecretKey::from_slice(&noise("key", 48)).unwrap().public_key();
    let p521 = p521::SecretKey::from_slice(&[&[0; 2], &noise("key", 64)[..]].concat()).unwrap();
    let p384 = on(oid::SECP384R1, p384.to_sec1_point(false).as_bytes());
    let p521 = on(oid::SECP521R1, p521.public_key().to_sec1_point(false).as_bytes());
    for (anchor, expected) in [(anchor.anchor(), 7), (p384, 1), (p521, 1)] {
        let (found, checks) = counted(&leaf, &knot, &[anchor]);
        assert_eq!((found, checks), (Err(Reason::SearchLimit), expected));
    }
    let rsa = seq(&[&identifier(oid::SHA256_WITH_RSA), &[tag::NULL, 0]]);
    let leaf = ek(&issuer).with(|r| r.algorithm = rsa.clone()).certificate();
    let certificate = |n| {
        let serial = element(tag::INTEGER, &[n]);
        let ca = Template::ca(&issuer).issued_by(&issuer).with(|r| r.serial = serial);
        ca.with(|r| r.algorithm = rsa.clone()).ca_certificate()
    };
    let knot: Vec<_> = (0..16).map(certificate).collect();
    // Beyond the eight checks in all that a chain may cost, which are not counted here.
    for (bytes, expected) in [(256, 14), (512, 4)] {
        let key = EkPublicKey::Rsa(RsaKey::new(&modulus("anchor", bytes), 65537).unwrap());
        let template = Template::ca(&anchor).issued_by(&anchor).with(|r| r.spki = key.spki_der());
        let (found, checks) = counted(&leaf, &knot, &[template.ca_certificate()]);
        assert_eq!((found, checks), (Err(Reason::SearchLimit), expected));
    }
}

#[test]
fn key_of_another_kind_than_the_signature_is_not_tried() {
    let issuer = Ca::new("ca");
    let rsa = Template::ca(&issuer).with(|r| r.spki = rsa_key("ca").spki_der()).ca_certificate();
    let leaf = ek(&issuer).certificate();
    let wrong = Reason::Signature { issuer: "CN=ca".to_owned() };
    assert_eq!(counted(&leaf, &[], std::slice::from_ref(&rsa)), (Err(wrong), 0));
    assert_eq!(counted(&leaf, &[], &[rsa.clone(), rsa, issuer.anchor()]), (Ok(()), 1));
}

#[test]
fn genuine_signature_is_checked_once() {
    let (cas, certificates) = row(3);
    let (between, anchor) = (&certificates[1..], &certificates[..1]);
    let known = KnownSignatures::default();
    let leaf = ek(&cas[2]).certificate();
    assert_eq!(counted_with(&known, &leaf, between, anchor), (Ok(()), 3));
    assert_eq!(counted_with(&known, &leaf, between, anchor), (Ok(()), 0));
    let next = ek(&cas[2]).with(|r| r.serial = element(tag::INTEGER, &[7])).certificate();
    assert_eq!(counted_with(&known, &next, between, anchor), (Ok(()), 1));
    // The same content with another signature, and the same certificates under another anchor.
    let forged = ek(&cas[2].impostor("forger")).certificate();
    let (found, checks) = counted_with(&known, &forged, between, anchor);
    assert!(found.is_err() && checks == 1, "{found:?} {checks}");
    let other = [cas[0].impostor("other").anchor()];
    let (found, checks) = counted_with(&known, &leaf, between, &other);
    assert!(found.is_err() && checks == 1, "{found:?} {checks}");
}

#[test]
fn chain_with_an_anchor_is_refused_beyond_eight_checks() {
    let (cas, certificates) = row(3);
    let leaf = ek(&cas[2]).certificate();
    let mut effort = Effort::default();
    assert_eq!(effort.signatures_left, 8);
    effort.signatures_left = 2;
    let (between, anchor) = (&certificates[1..], &certificates[..1]);
    let known = KnownSignatures::default();
    let error = verify_within(&mut effort, &known, &leaf, between, anchor, NOW, STRICT);
    assert_eq!(error.unwrap_err().reason(), &Reason::SearchLimit);
    assert_eq!(effort.signatures_left, 0);
}

#[test]
fn path_length_constraints() {
    let (cas, mut certificates) = row(3);
    let leaf = ek(&cas[2]).certificate();
    let limited = |n: usize, by: usize, length| {
        Template::ca(&cas[n])
            .issued_by(&cas[by])
            .extension(ca_constraints(Some(length)))
            .ca_certificate()
    };
    certificates[0] = limited(0, 0, 2);
    certificates[1] = limited(1, 0, 1);
    certificates[2] = limited(2, 1, 0);
    verify(&leaf, &certificates[1..], &certificates[..1], NOW, STRICT).unwrap();
    certificates[1] = limited(1, 0, 0);
    let error = failure(&leaf, &certificates[1..], &certificates[..1]);
    assert_eq!(error.reason(), &Reason::PathLength { allowed: 0, below: 1 });
    assert!(error.to_string().starts_with("the CA certificate \"CN=ca 1\""), "{error}");
    // An anchor's constraint also counts.
    certificates[1] = limited(1, 0, 1);
    let anchor = [limited(0, 0, 1)];
    let error = failure(&leaf, &certificates[1..], &anchor);
    assert_eq!(error.reason(), &Reason::PathLength { allowed: 1, below: 2 });
}

#[test]
fn a_leaf_issues_nothing() {
    // Signed by the key of an EK certificate, which is no authority's.
    let root = Ca::new("root");
    let middle = Ca::new("middle");
    let not_ca = Template::ca(&middle).issued_by(&root).without(oid::BASIC_CONSTRAINTS).der();
    assert!(CaCertificate::parse(&not_ca).is_err());
    let no_sign = Template::ca(&middle).issued_by(&root).extension(key_usage(&[7, 0x80])).der();
    assert!(CaCertificate::parse(&no_sign).is_err());
}

#[test]
fn purposes_of_intermediates() {
    let root = Ca::new("root");
    let issuing = Ca::new("issuing");
    let leaf = ek(&issuing).certificate();
    let with = |list: &[&[u8]]| {
        [Template::ca(&issuing).issued_by(&root).extension(purposes(list)).ca_certificate()]
    };
    let anchors = [root.anchor()];
    for list in [&[oid::EK_CERTIFICATE][..], &[oid::ANY_EXTENDED_KEY_USAGE]] {
        verify(&leaf, &with(list), &anchors, NOW, STRICT).unwrap();
    }
    let tls = with(&[&[0x2b, 6, 1, 5, 5, 7, 3, 1]]);
    assert_eq!(failure(&leaf, &tls, &anchors).reason(), &Reason::Purpose);
    // Pinned for this very purpose.
    verify(&leaf, &[], &tls, NOW, STRICT).unwrap();
}

#[test]
fn leaf_that_does_not_say_that_it_is_an_ek_is_refused_unless_it_may() {
    let ca = Ca::new("ca");
    let anchors = [ca.anchor()];
    let lenient = ChainPolicy { purpose: PurposePolicy::Accepted, ..STRICT };
    // As the same CA might issue for a TLS server.
    let uri = extension(oid::SUBJECT_ALT_NAME, &seq(&[&element(tag::context(6), b"https://x")]));
    let nothing = ek(&ca).without(oid::EXTENDED_KEY_USAGE).without(oid::SUBJECT_ALT_NAME);
    for leaf in [nothing.clone(), nothing.extension(uri)] {
        let leaf = leaf.certificate();
        let error = failure(&leaf, &[], &anchors);
        assert_eq!((error.reason(), error.fault()), (&Reason::PurposePolicy, Fault::Untrusted));
        assert!(error.advice().contains("ekcert_without_purpose: accepted"), "{}", error.advice());
        verify(&leaf, &[], &anchors, NOW, lenient).unwrap();
    }
    for one_of_them in [oid::EXTENDED_KEY_USAGE, oid::SUBJECT_ALT_NAME] {
        verify(&ek(&ca).without(one_of_them).certificate(), &[], &anchors, NOW, STRICT).unwrap();
    }
}

#[test]
fn dates_of_the_leaf() {
    let ca = Ca::new("ca");
    let leaf = ek(&ca).with(|r| r.not_after = utc("250101000000Z")).certificate();
    let anchors = [ca.anchor()];
    verify(&leaf, &[], &anchors, NOW, BURNED_IN).unwrap();
    let error = verify(&leaf, &[], &anchors, NOW, STRICT).unwrap_err();
    assert!(matches!(error.reason(), Reason::Expired(_)));
    assert!(error.to_string().ends_with("expired at 2025-01-01T00:00:00Z"), "{error}");
    let end = leaf.not_after();
    verify(&leaf, &[], &anchors, end, STRICT).unwrap();
    let begin = leaf.not_before();
    for policy in [BURNED_IN, STRICT] {
        verify(&leaf, &[], &anchors, begin, policy).unwrap();
        let before = UnixTime::from_seconds(begin.seconds() - 1);
        let error = verify(&leaf, &[], &anchors, before, policy).unwrap_err();
        assert_eq!(error.reason(), &Reason::NotYetValid(begin));
    }
}

#[test]
fn dates_of_the_authorities() {
    let root = Ca::new("root");
    let issuing = Ca::new("issuing");
    let between = |from, until| {
        Template::ca(&issuing)
            .issued_by(&root)
            .with(|r| (r.not_before, r.not_after) = (utc(from), utc(until)))
            .ca_certificate()
    };
    let leaf = ek(&issuing).certificate();
    let anchors = [root.anchor()];
    let expired = [between("200101000000Z", "250101000000Z")];
    verify(&leaf, &expired, &anchors, NOW, BURNED_IN).unwrap();
    let error = verify(&leaf, &expired, &anchors, NOW, STRICT).unwrap_err();
    assert_eq!(error.reason(), &Reason::IssuerNotValid { when: NOW, rule: DatePolicy::Now });
    for not_valid in
        [[between("200101000000Z", "230101000000Z")], [between("240101000001Z", "300101000000Z")]]
    {
        let error = failure(&leaf, &not_valid, &anchors);
        assert!(matches!(error.reason(), Reason::IssuerNotValid { .. }), "{error}");
        assert!(error.to_string().starts_with("the CA certificate \"CN=issuing\""), "{error}");
        // Pinned, its dates do not count.
        verify(&leaf, &[], &not_valid, NOW, STRICT).unwrap();
    }
}

#[test]
fn algorithms_that_do_not_count() {
    let ca = Ca::new("ca");
    let signed_with = |oid| {
        let algorithm = seq(&[&identifier(oid)]);
        ek(&ca).with(|r| r.algorithm = algorithm).certificate()
    };
    let anchors = [ca.anchor()];
    let sha1 = failure(&signed_with(oid::ECDSA_WITH_SHA1), &[], &anchors);
    assert_eq!((sha1.reason(), sha1.fault()), (&Reason::Sha1, Fault::Weak));
    let pss =
        failure(&signed_with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0a]), &[], &anchors);
    let algorithm = SignatureAlgorithm::Other("1.2.840.113549.1.1.10".to_owned());
    assert_eq!((pss.reason(), pss.fault()), (&Reason::Algorithm(algorithm), Fault::Unsupported));
    // An algorithm that is not the issuer's key's.
    let rsa = failure(&signed_with(oid::SHA256_WITH_RSA), &[], &anchors);
    assert!(matches!(rsa.reason(), Reason::Signature { .. }));
    let sha512 = failure(&signed_with(oid::ECDSA_WITH_SHA512), &[], &anchors);
    assert!(matches!(sha512.reason(), Reason::Signature { .. }));
}
