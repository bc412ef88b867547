//! What the services of a Teleport cluster issue, as the agent reads it.

use agent::credential::{Credentials, Unverified, Voucher};
use prost::Message;
use proto::teleport::{join_v1, legacy};

use crate::{Verdict, assert_harmless, fixtures};

/// The input is a `Certificates` of the newer service or, after an odd byte, a `Certs` of the older one.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((service, message)) = data.split_first() else { return Verdict::Refused };
    let unverified = match service % 2 {
        0 => join_v1::Certificates::decode(message).map(Unverified::try_from),
        _ => legacy::Certs::decode(message).map(Unverified::try_from),
    };
    let Ok(unverified) = unverified else { return Verdict::Refused };
    let (key, pins) = (fixtures::join_key(), [fixtures::pin()]);
    let now = u64::try_from(fixtures::now().seconds()).expect("after 1970");
    let verify = |unverified| {
        let voucher = Voucher::ClusterCas(&pins);
        Credentials::verify(unverified, key.verifying_key(), voucher, now)
    };
    match unverified.and_then(verify) {
        Ok(credentials) => {
            let leaf = credentials.certificates.first().expect("a leaf");
            assert!(fixtures::was_signed(leaf, &[fixtures::HOST_CERTIFICATE]), "no CA signed it");
            assert_eq!(credentials.names.bot, "example");
            let ssh_cas = credentials.ssh_cas.iter().chain(&credentials.ssh_host_cas);
            for line in ssh_cas.chain([&credentials.ssh_certificate]) {
                assert!(!line.contains(['\n', '\r']), "more than a line: {line:?}");
            }
            Verdict::Accepted
        }
        Err(failure) => {
            assert_harmless(&failure.message);
            Verdict::Refused
        }
    }
}
