//! What an authority gives for a join, as the agent reads it.

use agent::credential::{Credentials, Voucher};
use prost::Message;
use proto::v1::JoinResponse;
use proto::v1::join_response::Step;

use crate::{Verdict, assert_harmless, fixtures};

/// The input is a `JoinResponse`.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Ok(Some(Step::Result(result))) = JoinResponse::decode(data).map(|response| response.step)
    else {
        return Verdict::Refused;
    };
    let (key, pins) = (fixtures::join_key(), [fixtures::pin()]);
    let now = u64::try_from(fixtures::now().seconds()).expect("after 1970");
    match Credentials::verify(result.into(), key.verifying_key(), Voucher::ClusterCas(&pins), now) {
        Ok(credentials) => {
            let leaf = credentials.certificates.first().expect("a leaf");
            assert!(fixtures::was_signed(leaf, &[fixtures::HOST_CERTIFICATE]), "no CA signed it");
            assert!(!credentials.bundle.certificates().is_empty());
            let spiffe_id = credentials.spiffe_id.expect("a SPIFFE ID");
            assert!(spiffe_id.starts_with("spiffe://"));
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
