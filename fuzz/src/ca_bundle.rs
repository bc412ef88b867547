//! Certification authorities as an operator pastes them: PEM.

use verifier::{CaCertificate, pem};

use crate::{Verdict, assert_harmless};

/// The input is the text.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    let blocks = pem::certificates(text);
    match CaCertificate::from_pem(text) {
        Ok(authorities) => {
            let blocks = blocks.expect("the same text");
            assert!(!authorities.is_empty());
            assert_eq!(authorities.len(), blocks.len());
            for (authority, der) in authorities.iter().zip(blocks) {
                assert_eq!(authority.der(), der);
                let again = CaCertificate::parse(&der).expect("it was read before");
                assert_eq!(again.fingerprint(), authority.fingerprint());
                assert_harmless(&authority.subject_text());
            }
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
