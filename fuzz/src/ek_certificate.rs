//! The certificate of an endorsement key, from NV memory or from a host.

use verifier::{EkCertificate, MAX_CERTIFICATE};

use crate::{Verdict, assert_harmless, ek_spki};

/// The input is the certificate.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let parsed = EkCertificate::parse(data);
    let stored = EkCertificate::from_nv(data);
    if let Ok(stored) = &stored {
        assert!(data.windows(stored.der().len()).any(|window| window == stored.der()));
        check(stored);
    }
    match parsed {
        Ok(certificate) => {
            assert_eq!(certificate.der(), data);
            let stored = stored.expect("without padding it is the same");
            assert_eq!(stored.der(), data);
            assert_eq!(stored.public_key(), certificate.public_key());
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            match stored {
                Ok(_) => Verdict::Accepted,
                Err(_) => Verdict::Refused,
            }
        }
    }
}

fn check(certificate: &EkCertificate) {
    assert!(certificate.der().len() <= MAX_CERTIFICATE);
    let again = EkCertificate::parse(certificate.der()).expect("it was read before");
    assert_eq!(again.public_key(), certificate.public_key());
    assert_eq!(again.serial(), certificate.serial());
    ek_spki::check(certificate.public_key());
    assert!(certificate.not_before() <= certificate.not_after());
    assert_harmless(&certificate.issuer_text());
    assert_harmless(&format!("{} {}", certificate.not_before(), certificate.not_after()));
    if let Some(tpm) = certificate.tpm() {
        assert_harmless(&tpm.to_string());
    }
}
