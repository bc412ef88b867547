//! Claims and answers of Teleport's protocols as they are kept. What both services have in common is written as the message of the
//! newer one.

use prost::Message;
use proto::teleport::join_v1::TpmInit;
use proto::teleport::join_v1::tpm_init::Ek as WireEk;
use tpm2::types::SecretBuf;

use crate::evidence::{Answer, Bytes, Protocol};
use crate::service::evidence::{Answered, Format, Received};
use crate::service::join::{AkEvidence, Ek, Evidence, KeyEvidence};

/// The longest solution that is kept, in bytes: the secret has 32.
const MAX_SOLUTION: usize = 64;

/// For evidence that is appraised again.
pub(crate) static FORMAT: Format = Format {
    protocol: Protocol::Teleport,
    read: |bytes| TpmInit::decode(bytes).ok().map(evidence),
    check: |Answered { challenge, answer, .. }| {
        let Answer::Secret(solution) = answer else {
            return Err("the answer is not of this protocol");
        };
        let is_right = SecretBuf::new(&solution.0).is_some_and(|held| held == *challenge.secret());
        if is_right { Ok(None) } else { Err("the solution is not the credential's secret") }
    },
};

pub(super) fn evidence(init: TpmInit) -> Evidence {
    let TpmInit { public, create_data, create_attestation, create_signature, ek, .. } = init;
    Evidence {
        ek: super::endorsement_key(ek.map(|ek| match ek {
            WireEk::EkCert(der) => Ek::Certificate(der),
            WireEk::EkKey(spki) => Ek::PublicKey(spki),
        })),
        ek_chain: Vec::new(),
        ek_name_alg: 0,
        key: KeyEvidence::AttestationKey(AkEvidence {
            public,
            creation_data: create_data,
            attest: create_attestation,
            signature: create_signature,
        }),
    }
}

pub(super) fn received(evidence: &Evidence) -> Received {
    let mut init = TpmInit::default();
    match &evidence.ek {
        Ok(Ek::Certificate(der)) => init.ek = Some(WireEk::EkCert(der.clone())),
        Ok(Ek::PublicKey(spki)) => init.ek = Some(WireEk::EkKey(spki.clone())),
        Err(_) => {}
    }
    if let KeyEvidence::AttestationKey(ak) = &evidence.key {
        init.public.clone_from(&ak.public);
        init.create_data.clone_from(&ak.creation_data);
        init.create_attestation.clone_from(&ak.attest);
        init.create_signature.clone_from(&ak.signature);
    }
    Received { format: &FORMAT, bytes: init.encode_to_vec().into() }
}

/// The beginning of a longer one shows that it is wrong.
pub(super) fn answer(solution: &[u8]) -> Answer {
    Answer::Secret(Bytes(solution.get(..MAX_SOLUTION).unwrap_or(solution).to_vec()))
}
