//! TPMT_PUBLIC, from a TPM or from a host that wants its key certified.

use tpm2::crypto::object_name;
use tpm2::types::{Alg, Id, Public};
use tpm2::wire::{Marshal, Unmarshal, Writer};
use verifier::{JOIN_KEY_ATTRIBUTES, JoinKey};

use crate::Verdict;

/// The input is the structure.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let read = Public::from_bytes(data);
    let appraised = JoinKey::appraise(data);
    let Ok(public) = read else {
        assert!(appraised.is_err());
        return Verdict::Refused;
    };
    let mut buffer = [0; 4096];
    let mut writer = Writer::new(&mut buffer);
    public.marshal(&mut writer).expect("what was read has a place on the wire");
    assert_eq!(writer.into_written(), data, "{public:?}");

    let name = object_name(&public);
    if let Ok(name) = &name {
        assert_eq!(name.octets().get(..2), Some(&public.name_alg.0.to_be_bytes()[..]));
    }
    if let Ok(key) = appraised {
        assert_eq!(Ok(key.name()), name.as_ref());
        assert_eq!(public.attributes, JOIN_KEY_ATTRIBUTES);
        assert!(matches!(public.id, Id::Ecc(_)) && public.auth_policy.octets().is_empty());
        assert!(matches!(public.name_alg, Alg::SHA256 | Alg::SHA384 | Alg::SHA512));
    }
    Verdict::Accepted
}
