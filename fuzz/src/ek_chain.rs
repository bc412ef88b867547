//! An EK certificate and those that may lead to an anchor.

use verifier::chain::{ChainPolicy, DatePolicy, MAX_DEPTH, PurposePolicy, Sha1Policy, verify};
use verifier::{CaCertificate, EkCertificate};

use crate::{Verdict, assert_harmless, fixtures, parts};

/// The first octet chooses anchor and policy; then come the certificates, each behind its 16-bit length.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((choice, certificates)) = data.split_first() else { return Verdict::Refused };
    let mut certificates = parts(certificates);
    let Some(Ok(ek)) = certificates.next().map(EkCertificate::parse) else {
        return Verdict::Refused;
    };
    let intermediates: Vec<_> =
        certificates.filter_map(|der| CaCertificate::parse(der).ok()).collect();
    let anchors = [if choice & 1 == 0 { fixtures::root() } else { fixtures::issuer() }];
    let policy = ChainPolicy {
        dates: if choice & 2 == 0 { DatePolicy::AtIssuance } else { DatePolicy::Now },
        sha1: if choice & 4 == 0 { Sha1Policy::Refused } else { Sha1Policy::Accepted },
        purpose: PurposePolicy::Refused,
    };
    match verify(&ek, &intermediates, &anchors, fixtures::now(), policy) {
        Ok(path) => {
            assert!(fixtures::was_signed(ek.der(), &fixtures::EK_CERTIFICATES), "no CA signed it");
            assert!(path.intermediates().len() < MAX_DEPTH);
            assert_eq!(path.anchor().der(), anchors[0].der());
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
