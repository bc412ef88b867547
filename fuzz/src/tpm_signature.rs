//! TPMT_SIGNATURE, from an attacker.

use tpm2::types::Signature;
use tpm2::wire::{Marshal, Unmarshal, Writer};

use crate::{Verdict, assert_harmless};

/// The input is the structure.
pub(crate) fn run(data: &[u8]) -> Verdict {
    match Signature::from_bytes(data) {
        Ok(signature) => {
            let mut buffer = [0; 4096];
            let mut writer = Writer::new(&mut buffer);
            signature.marshal(&mut writer).expect("what was read has a place on the wire");
            assert_eq!(writer.into_written(), data, "{signature:?}");
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
