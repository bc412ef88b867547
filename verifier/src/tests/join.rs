//! The appraisal of a whole join, and the challenge that follows.

use super::forge::*;
use super::join_key::Area;
use crate::chain::{ChainPolicy, DatePolicy, MAX_INTERMEDIATES};
use crate::{
    Appraisal, AppraisalError, CaCertificate, Cause, Claim, Demand, Effort, EkClaim, EkPublicKey,
    Endorsement, KeyClaim, KnownSignatures, oid,
};

fn appraise(claim: &Claim<'_>, demand: Demand<'_>) -> Result<Appraisal, Box<AppraisalError>> {
    crate::appraise(claim, demand, &mut Effort::default())
}

fn demand(anchors: &[CaCertificate]) -> Demand<'_> {
    let known = Box::leak(Box::default());
    Demand::Certificate { anchors, policy: ChainPolicy::default(), at: NOW, known }
}

fn join(ek: EkClaim<'_>, demand: Demand<'_>) -> Result<Appraisal, Box<AppraisalError>> {
    appraise(
        &Claim {
            ek,
            ek_chain: &[],
            key: KeyClaim::JoinKey(&Area::new("join").bytes()),
            ek_name_alg: 0,
        },
        demand,
    )
}

fn code(ek: EkClaim<'_>, demand: Demand<'_>) -> &'static str {
    join(ek, demand).unwrap_err().code()
}

#[test]
fn with_a_certificate_that_is_vouched_for() {
    let issuer = Ca::new("issuer");
    let root = Ca::new("root");
    let der = Template::ek(&rsa_key("ek").spki_der()).issued_by(&issuer).der();
    let anchors = [root.anchor()];
    let ek_chain = [b"\x30\x80 not one".to_vec(), root.certify(&issuer).der()];
    let join_key = Area::new("join").bytes();
    let claim = Claim {
        ek: EkClaim::Certificate(&der),
        ek_chain: &ek_chain,
        key: KeyClaim::JoinKey(&join_key),
        ek_name_alg: 0,
    };
    let appraisal = appraise(&claim, demand(&anchors)).unwrap();
    let ek = appraisal.ek();
    assert_eq!(ek.key, rsa_key("ek"));
    assert_eq!(ek.hash, rsa_key("ek").public_hash());
    assert_eq!(ek.serial.as_deref(), Some("5e:cd:5f:8e"));
    assert_eq!(ek.issuer.as_deref(), Some("CN=issuer"));
    assert_eq!(ek.tpm.as_ref().unwrap().vendor(), Some("Nuvoton"));
    assert_eq!(ek.endorsement, Endorsement::Verified { anchor: anchors[0].fingerprint() });

    let error = appraise(&Claim { ek_chain: &ek_chain[..1], ..claim }, demand(&anchors));
    let error = error.unwrap_err();
    assert_eq!(error.code(), "ek_untrusted");
    assert!(error.to_string().ends_with("(1 certificates beside it could not be read)"), "{error}");
    let many = vec![vec![]; MAX_INTERMEDIATES + 1];
    let error = appraise(&Claim { ek_chain: &many, ..claim }, demand(&anchors)).unwrap_err();
    assert_eq!(error.code(), "ek_chain_too_long");
}

#[test]
fn a_claim_that_cannot_meet_the_demand_is_not_parsed() {
    let anchors = [Ca::new("root").anchor()];
    assert_eq!(code(EkClaim::PublicKey(&[]), demand(&anchors)), "ek_certificate_missing");
    let many = vec![vec![]; MAX_INTERMEDIATES + 1];
    let ek = EkClaim::Certificate(&[]);
    let claim = Claim { ek, ek_chain: &many, key: KeyClaim::JoinKey(&[]), ek_name_alg: 0 };
    assert_eq!(appraise(&claim, demand(&anchors)).unwrap_err().code(), "ek_chain_too_long");
}

#[test]
fn effort_allows_one_challenge_and_few_failed_signatures() {
    let issuer = Ca::new("issuer");
    let (anchors, join_key) = ([issuer.anchor()], Area::new("join").bytes());
    let [genuine, forged, lost] = [issuer.clone(), issuer.impostor("forger"), Ca::new("other")]
        .map(|by| Template::ek(&rsa_key("ek").spki_der()).issued_by(&by).der());
    let judge = |der: &[u8], demand: Demand<'_>, effort: &mut Effort| {
        let ek = EkClaim::Certificate(der);
        let claim = Claim { ek, ek_chain: &[], key: KeyClaim::JoinKey(&join_key), ek_name_alg: 0 };
        let appraised = crate::appraise(&claim, demand, effort);
        appraised.map(|_| ()).map_err(|error| error.code())
    };
    let mut effort = Effort::default();
    // The issuer is not known yet: the host sends its certificate with the next claim.
    assert_eq!(judge(&lost, demand(&anchors), &mut effort), Err("ek_untrusted"));
    assert_eq!(judge(&genuine, demand(&anchors), &mut effort), Ok(()));
    assert_eq!(judge(&genuine, demand(&anchors), &mut effort), Err("effort_spent"));

    let mut effort = Effort::default();
    for _ in 0..7 {
        assert_eq!(judge(&forged, demand(&anchors), &mut effort), Err("ek_untrusted"));
    }
    // Nothing is left, not even for a challenge.
    assert_eq!(judge(&genuine, Demand::Key, &mut effort), Err("effort_spent"));
}

#[test]
fn chain_is_accepted_after_a_ca_of_the_same_name_did_not_fit() {
    let (root, issuing) = (Ca::new("root"), Ca::new("issuing"));
    let anchors = [root.anchor(), issuing.impostor("another key").anchor()];
    let join_key = Area::new("join").bytes();
    let (der, chain) =
        (Template::ek(&rsa_key("ek").spki_der()).issued_by(&issuing).der(), root.certify(&issuing));
    let chain = [chain.der().to_vec()];
    let mut effort = Effort::default();
    // An agent sends the certificate alone, and the chain after a refusal.
    let ek = EkClaim::Certificate(&der);
    let claim = Claim { ek, ek_chain: &[], key: KeyClaim::JoinKey(&join_key), ek_name_alg: 0 };
    let refused = crate::appraise(&claim, demand(&anchors), &mut effort).unwrap_err();
    assert_eq!(refused.code(), "ek_untrusted");
    let claim = Claim { ek_chain: &chain, ..claim };
    crate::appraise(&claim, demand(&anchors), &mut effort).unwrap();
}

#[test]
fn without_a_demand() {
    let der = Template::ek(&ecc_key("ek").spki_der()).der();
    let appraisal = join(EkClaim::Certificate(&der), Demand::Key).unwrap();
    assert_eq!(appraisal.ek().endorsement, Endorsement::Unverified);
    assert_eq!(appraisal.ek().serial.as_deref(), Some("5e:cd:5f:8e"));
    let spki = ecc_key("ek").spki_der();
    let alone = join(EkClaim::PublicKey(&spki), Demand::Key).unwrap();
    assert_eq!(alone.ek().endorsement, Endorsement::Absent);
    assert_eq!((&alone.ek().serial, &alone.ek().tpm), (&None, &None));
    assert_eq!(alone.ek().hash, appraisal.ek().hash);
}

#[test]
fn each_refusal_has_its_code_and_says_what_was_known() {
    let issuer = Ca::new("issuer");
    let anchors = [issuer.anchor()];
    let ek = || Template::ek(&rsa_key("ek").spki_der()).issued_by(&issuer);
    let certificate = |template: Template| {
        let der = template.der();
        code(EkClaim::Certificate(&der), demand(&anchors))
    };
    assert_eq!(certificate(ek().with(|r| r.version = vec![])), "ek_unsupported");
    assert_eq!(certificate(ek().with(|r| r.not_after = utc("000101000000Z"))), "ek_malformed");
    assert_eq!(certificate(ek().extension(ca_constraints(None))), "ek_untrusted");
    assert_eq!(certificate(ek().issued_by(&issuer.impostor("other"))), "ek_untrusted");
    let small = rsa_spki(&modulus("ek", 128), &[1, 0, 1]);
    assert_eq!(certificate(ek().with(|r| r.spki = small.clone())), "ek_weak");
    let sha1 = seq(&[&identifier(oid::ECDSA_WITH_SHA1)]);
    assert_eq!(certificate(ek().with(|r| r.algorithm = sha1)), "ek_weak");
    assert_eq!(code(EkClaim::PublicKey(&small), Demand::Key), "ek_weak");
    assert_eq!(code(EkClaim::PublicKey(&[]), Demand::Key), "ek_malformed");
    assert_eq!(code(EkClaim::Certificate(&[]), Demand::Key), "ek_malformed");

    let spki = rsa_key("ek").spki_der();
    let missing = join(EkClaim::PublicKey(&spki), demand(&anchors)).unwrap_err();
    assert_eq!(missing.code(), "ek_certificate_missing");
    assert_eq!(missing.cause(), &Cause::EkCertificateMissing);

    let der = ek().der();
    let unverified = join(EkClaim::Certificate(&der), demand(&[])).unwrap_err();
    assert_eq!(unverified.code(), "ek_untrusted");
    assert_eq!(unverified.ek().unwrap().endorsement, Endorsement::Unverified);

    let join_key = Area::new("join").attributes(0x0005_0472).bytes();
    let claim = Claim {
        ek: EkClaim::Certificate(&der),
        ek_chain: &[],
        key: KeyClaim::JoinKey(&join_key),
        ek_name_alg: 0,
    };
    let error = appraise(&claim, demand(&anchors)).unwrap_err();
    assert_eq!(error.code(), "join_key_attributes");
    assert!(matches!(error.ek().unwrap().endorsement, Endorsement::Verified { .. }));
}

#[test]
fn the_policy_reaches_the_chain() {
    let issuer = Ca::new("issuer");
    let anchors = [issuer.anchor()];
    let expired = Template::ek(&rsa_key("ek").spki_der())
        .issued_by(&issuer)
        .with(|r| r.not_after = utc("250101000000Z"))
        .der();
    let under = |dates| {
        let policy = ChainPolicy { dates, ..ChainPolicy::default() };
        join(
            EkClaim::Certificate(&expired),
            Demand::Certificate {
                anchors: &anchors,
                policy,
                at: NOW,
                known: &KnownSignatures::default(),
            },
        )
    };
    assert!(under(DatePolicy::AtIssuance).is_ok());
    assert_eq!(under(DatePolicy::Now).unwrap_err().code(), "ek_untrusted");
}

#[test]
fn each_challenge_is_another() {
    for key in [rsa_key("ek"), ecc_key("ek")] {
        let spki = key.spki_der();
        let appraisal = join(EkClaim::PublicKey(&spki), Demand::Key).unwrap();
        let [one, two] = [(), ()].map(|()| appraisal.challenge().unwrap());
        assert_ne!(one.secret(), two.secret());
        assert_ne!(one.blob(), two.blob());
        assert_ne!(one.encrypted_seed(), two.encrypted_seed());
        assert_eq!(one.secret().expose().len(), 32);
        assert!(
            !format!("{one:?}").contains(&base16ct::lower::encode_string(one.secret().expose()))
        );
        assert_eq!(one.blob().len(), 2 + 32 + 2 + 32);
        let seed = if matches!(key, EkPublicKey::Rsa(_)) { 256 } else { 2 * (2 + 32) };
        assert_eq!(one.encrypted_seed().len(), seed);
    }
}
