//! Which public areas may be certified as services' keys in the TPM.

use tpm2::types::{Alg, EccParameter, EccPoint, EccPublic, Id, Public};
use tpm2::wire::{Marshal, Unmarshal};

use super::forge::*;
use super::join_key::Area;
use crate::{
    AppraisedKey, Claim, Demand, Effort, EkClaim, JoinKey, KeyClaim, KeyTemplateError, ServiceKey,
};

/// No scheme, as OpenSSL's provider creates signing keys and reads them.
fn area() -> Area {
    Area::new("service").with(|area| area.set_scheme(&[0x00, 0x10]))
}

/// The code of the refusal of this key by the whole appraisal.
fn refused(change: impl FnOnce(&mut Area)) -> &'static str {
    let (spki, public) = (ecc_key("ek").spki_der(), area().with(change).bytes());
    let ek = EkClaim::PublicKey(&spki);
    let claim = Claim { ek, ek_chain: &[], key: KeyClaim::ServiceKey(&public), ek_name_alg: 0 };
    crate::appraise(&claim, Demand::Key, &mut Effort::default()).unwrap_err().code()
}

#[test]
fn key_of_the_template_is_appraised_and_challenged() {
    let (spki, public) = (ecc_key("ek").spki_der(), area().bytes());
    let ek = EkClaim::PublicKey(&spki);
    let claim = Claim { ek, ek_chain: &[], key: KeyClaim::ServiceKey(&public), ek_name_alg: 0 };
    let appraisal = crate::appraise(&claim, Demand::Key, &mut Effort::default()).unwrap();
    let AppraisedKey::ServiceKey(key) = appraisal.key() else { panic!("{appraisal:?}") };
    assert_eq!(key.spki_der(), ecc_key("service").spki_der());
    assert_eq!(key, &ServiceKey::appraise(&public).unwrap());
    assert_eq!(key.name().octets().len(), 2 + 32);
    assert!(appraisal.challenge().is_ok());
}

#[test]
fn template_is_what_is_appraised() {
    let public = area().bytes();
    let mut expected = Public::from_bytes(&public).unwrap();
    let Id::Ecc(ecc) = expected.id else { panic!("{expected:?}") };
    let unique = EccPoint { x: EccParameter::EMPTY, y: EccParameter::EMPTY };
    expected.id = Id::Ecc(EccPublic { unique, ..ecc });
    assert_eq!(ServiceKey::template(), expected);
    assert_eq!(expected.name_alg, Alg::SHA256);
    assert!(ServiceKey::template().to_vec().is_ok());
}

/// Software keys, exportable keys, restricted keys, keys that decrypt, keys that were not created in the TPM.
#[test]
fn every_attribute_counts() {
    for bit in 0..32 {
        let attributes = 0x0004_0472 ^ (1 << bit);
        let code = refused(|area| *area = area.clone().attributes(attributes));
        assert_eq!(code, "service_key_attributes", "bit {bit}");
    }
}

#[test]
fn every_other_field_counts() {
    assert_eq!(refused(|area| area.set_name_alg(0x0004)), "service_key_name_algorithm");
    assert_eq!(refused(|area| area.set_policy(&[0; 32])), "service_key_policy");
    assert_eq!(refused(|area| area.set_curve(0x0004)), "service_key_template");
    for scheme in
        [&[0x00, 0x18, 0x00, 0x0b][..], &[0x00, 0x18, 0x00, 0x04], &[0x00, 0x1c, 0x00, 0x0b]]
    {
        assert_eq!(refused(|area| area.set_scheme(scheme)), "service_key_template");
    }
    let aes = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
    assert_eq!(refused(|area| area.set_symmetric(&aes)), "service_key_template");
    let public = area().bytes();
    for end in 0..public.len() {
        assert!(ServiceKey::appraise(&public[..end]).is_err(), "{end}");
    }
    assert!(ServiceKey::appraise(&[&public[..], &[0]].concat()).is_err());
}

#[test]
fn no_key_is_both_a_join_key_and_a_services_key() {
    let join = Area::new("service").bytes();
    let scheme =
        |error| matches!(error, KeyTemplateError::Template(what) if what.contains("scheme"));
    assert!(scheme(ServiceKey::appraise(&join).unwrap_err()));
    assert!(scheme(JoinKey::appraise(&area().bytes()).unwrap_err()));
}
