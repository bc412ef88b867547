//! TPMS_ATTEST, from an attacker.

use tpm2::types::Attest;
use tpm2::wire::{Marshal, Unmarshal, Writer};

use crate::{Verdict, assert_harmless};

/// The input is the structure.
pub(crate) fn run(data: &[u8]) -> Verdict {
    match Attest::from_bytes(data) {
        Ok(attest) => {
            let mut buffer = vec![0; data.len()];
            let mut writer = Writer::new(&mut buffer);
            attest.marshal(&mut writer).expect("there is as much room");
            assert_eq!(writer.into_written(), data, "{attest:?}");
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
