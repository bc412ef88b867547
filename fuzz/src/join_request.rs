//! What a host sends to join.

use authority::resource::{EkHash, Name, Serial};
use prost::Message;
use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::join_request::Step;
use proto::v1::{JoinAnswer, JoinInit, JoinRequest};
use verifier::chain::ChainPolicy;
use verifier::{
    Appraisal, Claim, Demand, Effort, EkClaim, EkFacts, Endorsement, JOIN_KEY_ATTRIBUTES, KeyClaim,
    KnownSignatures,
};

use crate::{Verdict, assert_harmless, fixtures};

/// The first octet chooses what the token demands, the rest is a `JoinRequest`.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((demand, request)) = data.split_first() else { return Verdict::Refused };
    match JoinRequest::decode(request).map(|request| request.step) {
        Ok(Some(Step::Init(init))) => appraise(*demand, &init),
        Ok(Some(Step::Answer(answer))) => check(&answer),
        Ok(None) | Err(_) => Verdict::Refused,
    }
}

fn appraise(demand: u8, encoded: &[u8]) -> Verdict {
    let Ok(init) = JoinInit::decode(encoded) else { return Verdict::Refused };
    let Ok(_) = init.token.parse::<Name>() else { return Verdict::Refused };
    let ek = match &init.ek {
        Some(Ek::EkCertificate(der)) => EkClaim::Certificate(der),
        Some(Ek::EkPublic(spki)) => EkClaim::PublicKey(spki),
        None => return Verdict::Refused,
    };
    let key = KeyClaim::JoinKey(&init.join_key);
    match verdict(demand, ek, &init.ek_chain, init.ek_name_alg, key) {
        Some(appraisal) => {
            assert_eq!(init.join_key.get(4..8), Some(&JOIN_KEY_ATTRIBUTES.0.to_be_bytes()[..]));
            challenge(&appraisal);
            Verdict::Accepted
        }
        None => Verdict::Refused,
    }
}

/// The appraisal of a claim, with what must hold of both verdicts.
pub(crate) fn verdict(
    demand: u8,
    ek: EkClaim<'_>,
    ek_chain: &[Vec<u8>],
    ek_name_alg: u32,
    key: KeyClaim<'_>,
) -> Option<Appraisal> {
    let anchors = [if demand & 2 == 0 { fixtures::root() } else { fixtures::issuer() }];
    let (policy, at) = (ChainPolicy::default(), fixtures::now());
    let signatures = KnownSignatures::default();
    let demand = match demand & 1 {
        0 => Demand::Certificate { anchors: &anchors, policy, at, known: &signatures },
        _ => Demand::Key,
    };
    let claim = Claim { ek, ek_chain, ek_name_alg, key };
    match verifier::appraise(&claim, demand, &mut Effort::default()) {
        Ok(appraisal) => {
            known(appraisal.ek(), ek, demand);
            Some(appraisal)
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(!error.code().is_empty() && error.code().chars().all(plain));
            if let Some(facts) = error.ek() {
                known(facts, ek, Demand::Key);
            }
            None
        }
    }
}

/// What the authority writes down of an endorsement key, and whether it may.
fn known(facts: &EkFacts, claim: EkClaim<'_>, demand: Demand<'_>) {
    assert_eq!(facts.hash.parse::<EkHash>().expect("the record takes it").as_str(), facts.hash);
    if let Some(serial) = &facts.serial {
        assert_eq!(serial.parse::<Serial>().expect("the record takes it").as_str(), serial);
    }
    let certificate = match claim {
        EkClaim::Certificate(der) => Some(der),
        EkClaim::PublicKey(_) => None,
    };
    assert_eq!(facts.serial.is_some(), certificate.is_some());
    if let Endorsement::Verified { .. } = facts.endorsement {
        let der = certificate.expect("a bare key cannot be endorsed");
        assert!(fixtures::was_signed(der, &fixtures::EK_CERTIFICATES), "no CA signed it");
    } else {
        assert!(matches!(demand, Demand::Key), "not what the token demands: {facts:?}");
    }
}

pub(crate) fn challenge(appraisal: &Appraisal) {
    match appraisal.challenge() {
        Ok(challenge) => {
            assert_eq!(challenge.secret().expose().len(), 32);
            assert!(challenge.blob().len() <= 132 && challenge.encrypted_seed().len() <= 512);
        }
        Err(error) => assert_harmless(&error.to_string()),
    }
}

/// An answer to a challenge whose secret the host does not know.
fn check(answer: &JoinAnswer) -> Verdict {
    let transcript = Transcript::new(&[7; 32], b"init", b"blob", b"seed");
    assert!(transcript.verify_mac(b"a secret that no input knows", &answer.mac).is_err());
    let message = transcript.signed_message();
    assert!(fixtures::join_key().verify(&message, &answer.signature).is_err());
    Verdict::Refused
}
