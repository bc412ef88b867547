//! The file that a host keeps to be itself again.

use agent::credential::identity::Identity;
use verifier::JoinKey;

use crate::{Verdict, assert_harmless};

/// The input is the file.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    match Identity::from_json(text) {
        Ok(identity) => {
            let stored = serde_json::to_string(&identity).expect("an identity is JSON");
            let again = Identity::from_json(&stored).expect("our own file");
            assert_eq!(serde_json::to_string(&again).expect("an identity is JSON"), stored);
            let known = again.known_ek().expect("it was checked");
            if let Some(certificate) = known.certificate {
                assert_eq!(*certificate.public_key(), known.key);
            }
            let join_key = again.join_key().expect("it was checked");
            JoinKey::appraise(&join_key.public).expect("it was checked");
            again.pins().expect("it was checked");
            again.validity().expect("it was checked");
            Verdict::Accepted
        }
        Err(message) => {
            assert_harmless(&message);
            Verdict::Refused
        }
    }
}
