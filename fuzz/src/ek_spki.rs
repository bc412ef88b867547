//! An endorsement key without certificate: a SubjectPublicKeyInfo.

use authority::resource::EkHash;
use verifier::EkPublicKey;

use crate::{Verdict, assert_harmless};

/// The input is the structure.
pub(crate) fn run(data: &[u8]) -> Verdict {
    match EkPublicKey::from_spki(data) {
        Ok(key) => {
            check(&key);
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}

/// A key has one encoding, and a hash that rules can name.
pub(crate) fn check(key: &EkPublicKey) {
    let spki = key.spki_der();
    let again = EkPublicKey::from_spki(&spki).expect("our own encoding");
    assert_eq!(&again, key);
    assert_eq!(again.spki_der(), spki);
    let hash: EkHash = key.public_hash().parse().expect("rules can name it");
    assert_eq!(hash.as_str(), key.public_hash());
}
