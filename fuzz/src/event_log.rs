//! A log of what was measured at boot, as a host tells it.

use tpm2::crypto::HashAlg;
use verifier::event_log::{EventLog, MAX_EVENTS, MAX_LOG};

use crate::{Verdict, assert_harmless};

const BANKS: [HashAlg; 4] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512];

/// The input is the log.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let log = match EventLog::parse(data) {
        Ok(log) => log,
        Err(error) => {
            assert_harmless(&error.to_string());
            return Verdict::Refused;
        }
    };
    assert!(data.len() <= MAX_LOG && log.len() <= MAX_EVENTS);
    assert_eq!(log.events().count(), log.len());
    for (number, event) in log.events().enumerate() {
        assert_eq!(event.number, number);
    }
    for hash in BANKS {
        match log.replay(hash) {
            Ok(bank) => assert!(bank.values().all(|value| value.len() == hash.digest_len())),
            Err(error) => assert_harmless(&error.to_string()),
        }
    }
    Verdict::Accepted
}
