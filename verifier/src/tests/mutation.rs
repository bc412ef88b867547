//! Every truncation and every change of one byte.

use super::forge::*;
use crate::chain::verify;
use crate::{CaCertificate, EkCertificate, EkPublicKey};

#[test]
fn truncations_are_refused() {
    for key in [rsa_key("ek"), ecc_key("ek")] {
        let der = Template::ek(&key.spki_der()).der();
        for end in 0..der.len() {
            assert!(EkCertificate::parse(&der[..end]).is_err(), "{end}");
            assert!(EkCertificate::from_nv(&der[..end]).is_err(), "{end}");
        }
    }
    let ca = Ca::new("ca").anchor();
    for end in 0..ca.der().len() {
        assert!(CaCertificate::parse(&ca.der()[..end]).is_err(), "{end}");
    }
}

#[test]
fn any_byte_may_become_any_other() {
    let original = Template::ek(&ecc_key("ek").spki_der()).der();
    for position in 0..original.len() {
        let mut der = original.clone();
        for value in 0..=u8::MAX {
            der[position] = value;
            if let Ok(certificate) = EkCertificate::parse(&der) {
                assert_eq!(certificate.der(), der);
                let _ = (certificate.serial(), certificate.issuer_text());
                let _ = certificate.tpm().map(ToString::to_string);
            }
            let _ = EkCertificate::from_nv(&der);
            let _ = CaCertificate::parse(&der);
        }
    }
}

#[test]
fn no_change_is_vouched_for() {
    let issuer = Ca::new("issuer");
    let anchors = [issuer.anchor()];
    for key in [rsa_key("ek"), ecc_key("ek")] {
        let original = Template::ek(&key.spki_der()).issued_by(&issuer).der();
        for position in 0..original.len() {
            for flip in [0x01, 0x80] {
                let mut der = original.clone();
                der[position] ^= flip;
                let Ok(certificate) = EkCertificate::parse(&der) else { continue };
                let verdict = verify(&certificate, &[], &anchors, NOW, Default::default());
                assert!(verdict.is_err(), "byte {position} ^ {flip:02x}");
            }
        }
    }
}

#[test]
fn changed_public_keys_are_other_keys_or_malformed() {
    for key in [rsa_key("ek"), ecc_key("ek")] {
        let original = key.spki_der();
        for position in 0..original.len() {
            let mut spki = original.clone();
            spki[position] ^= 0x04;
            if let Ok(other) = EkPublicKey::from_spki(&spki) {
                assert_ne!(other.public_hash(), key.public_hash());
                assert_eq!(other.spki_der(), spki);
            }
        }
    }
}
