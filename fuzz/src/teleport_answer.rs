//! What the services of a Teleport cluster answer before they issue certificates, as the agent reads it.

use agent::ceremony::teleport::{Challenge, ClaimedCas, refused};
use host::exit::Exit;
use prost::Message;
use proto::teleport::join_v1::challenge::Payload as ChallengePayload;
use proto::teleport::join_v1::join_response::Payload as Newer;
use proto::teleport::join_v1::{JoinResponse, TpmEncryptedCredential};
use proto::teleport::legacy::register_using_tpm_method_response::Payload as Older;
use proto::teleport::legacy::{GetClusterCaCertResponse, RegisterUsingTpmMethodResponse};
use tls::CaPin;
use tonic::{Code, Status};

use crate::{Verdict, assert_harmless, fixtures};

/// The first octet chooses the message: that of the newer service, of the older one, the CAs of the cluster; or a
/// refusal, whose code is the next octet and whose text is the rest.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Some((what, message)) = data.split_first() else { return Verdict::Refused };
    match what % 4 {
        0 => newer(message),
        1 => older(message),
        2 => cas(message),
        _ => refusal(message),
    }
}

fn newer(message: &[u8]) -> Verdict {
    let Ok(JoinResponse { payload: Some(payload) }) = JoinResponse::decode(message) else {
        return Verdict::Refused;
    };
    let Newer::Challenge(challenge) = payload else { return Verdict::Refused };
    let Some(ChallengePayload::TpmEncryptedCredential(credential)) = challenge.payload else {
        return Verdict::Refused;
    };
    let TpmEncryptedCredential { credential_blob, secret } = credential;
    opened(&credential_blob, &secret)
}

fn older(message: &[u8]) -> Verdict {
    let Ok(answer) = RegisterUsingTpmMethodResponse::decode(message) else {
        return Verdict::Refused;
    };
    let Some(Older::ChallengeRequest(credential)) = answer.payload else {
        return Verdict::Refused;
    };
    opened(&credential.credential_blob, &credential.secret)
}

/// The parts that the TPM gets are those that were sent, without their lengths.
fn opened(credential_blob: &[u8], secret: &[u8]) -> Verdict {
    match Challenge::new(credential_blob, secret) {
        Ok(challenge) => {
            let sized = |part: &[u8]| {
                let length = u16::try_from(part.len()).expect("its length has two octets");
                [&length.to_be_bytes(), part].concat()
            };
            assert_eq!(sized(&challenge.credential_blob), credential_blob);
            assert_eq!(sized(&challenge.encrypted_seed), secret);
            Verdict::Accepted
        }
        Err(failure) => {
            assert_harmless(&failure.message);
            Verdict::Refused
        }
    }
}

/// Only a list of pinned CAs is believed.
fn cas(message: &[u8]) -> Verdict {
    let Ok(answer) = GetClusterCaCertResponse::decode(message) else { return Verdict::Refused };
    let pin = fixtures::pin();
    let pinned = |claimed: ClaimedCas| claimed.pinned(&[pin], fixtures::now().seconds());
    match ClaimedCas::read(&answer.tls_ca).and_then(pinned) {
        Ok(cas) => {
            assert!(!cas.is_empty());
            for ca in cas {
                assert_eq!(CaPin::of_certificate(&ca).ok(), Some(pin));
            }
            Verdict::Accepted
        }
        Err(failure) => {
            assert_harmless(&failure.message);
            Verdict::Refused
        }
    }
}

/// A refusal is reported on one line that does not steer a terminal, with an advice on another.
fn refusal(message: &[u8]) -> Verdict {
    let Some((code, text)) = message.split_first() else { return Verdict::Refused };
    let Ok(text) = std::str::from_utf8(text) else { return Verdict::Refused };
    let failure = refused(&Status::new(Code::from_i32((code % 17).into()), text));
    assert_ne!(failure.exit, Exit::Bug, "{failure}");
    assert!(!failure.advice.is_empty());
    let report = failure.to_string();
    assert_eq!(report.lines().count(), 2, "{report:?}");
    report.lines().for_each(assert_harmless);
    Verdict::Accepted
}
