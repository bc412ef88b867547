//! What a host sends to join by Teleport's two services.

use authority::issue::SubjectKey;
use prost::Message;
use proto::teleport::join_v1::join_request::Payload as Newer;
use proto::teleport::join_v1::{JoinRequest, TpmInit, client_params, tpm_init};
use proto::teleport::legacy::register_using_tpm_method_initial_request::Ek as OlderEk;
use proto::teleport::legacy::register_using_tpm_method_request::Payload as Older;
use proto::teleport::legacy::{
    RegisterUsingTpmMethodInitialRequest, RegisterUsingTpmMethodRequest,
};
use verifier::{AkClaim, AppraisedKey, Attestation, EkClaim, KeyClaim};

use crate::{Verdict, assert_harmless, join_request};

/// fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign, of which none may be clear; decrypt must be.
const REQUIRED: u32 = 0x0005_0032;
const DECRYPT: u32 = 0x0002_0000;

/// The first octet chooses what the token demands, the rest is a `JoinRequest` of `teleport.join.v1`.
pub(crate) fn newer(data: &[u8]) -> Verdict {
    let Some((demand, request)) = data.split_first() else { return Verdict::Refused };
    let Ok(JoinRequest { payload: Some(Newer::TpmInit(init)) }) = JoinRequest::decode(request)
    else {
        return Verdict::Refused;
    };
    let TpmInit { public, create_data, create_attestation, create_signature, ek, .. } = &init;
    let ek = match ek {
        Some(tpm_init::Ek::EkCert(der)) => EkClaim::Certificate(der),
        Some(tpm_init::Ek::EkKey(spki)) => EkClaim::PublicKey(spki),
        None => return Verdict::Refused,
    };
    let attestation = Attestation { attest: create_attestation, signature: create_signature };
    let ak = AkClaim { public, creation_data: create_data, attestation };
    let params = init.client_params.as_ref().and_then(|params| params.payload.as_ref());
    let Some(client_params::Payload::BotParams(params)) = params else { return Verdict::Refused };
    let Some(keys) = &params.public_keys else { return Verdict::Refused };
    both(
        appraise(*demand, ek, ak),
        certifiable(SubjectKey::from_wire(&keys.public_tls_key, &keys.public_ssh_key)),
    )
}

/// The first octet chooses what the token demands, the rest is a `RegisterUsingTPMMethodRequest`.
pub(crate) fn older(data: &[u8]) -> Verdict {
    let Some((demand, request)) = data.split_first() else { return Verdict::Refused };
    let Ok(RegisterUsingTpmMethodRequest { payload: Some(Older::Init(init)) }) =
        RegisterUsingTpmMethodRequest::decode(request)
    else {
        return Verdict::Refused;
    };
    let RegisterUsingTpmMethodInitialRequest { join_request, ek, attestation_params } = &init;
    let ek = match ek {
        Some(OlderEk::EkCert(der)) => EkClaim::Certificate(der),
        Some(OlderEk::EkKey(spki)) => EkClaim::PublicKey(spki),
        None => return Verdict::Refused,
    };
    let (Some(ak), Some(request)) = (attestation_params, join_request) else {
        return Verdict::Refused;
    };
    let attestation =
        Attestation { attest: &ak.create_attestation, signature: &ak.create_signature };
    let ak = AkClaim { public: &ak.public, creation_data: &ak.create_data, attestation };
    both(
        appraise(*demand, ek, ak),
        certifiable(SubjectKey::from_text(&request.public_tls_key, &request.public_ssh_key)),
    )
}

fn both(one: Verdict, other: Verdict) -> Verdict {
    if one == Verdict::Accepted { other } else { one }
}

fn appraise(demand: u8, ek: EkClaim<'_>, ak: AkClaim<'_>) -> Verdict {
    let Some(appraisal) = join_request::verdict(demand, ek, &[], 0, KeyClaim::AttestationKey(ak))
    else {
        return Verdict::Refused;
    };
    assert!(matches!(appraisal.key(), AppraisedKey::AttestationKey(_)));
    let attributes = ak.public.get(4..8).expect("a public area has attributes");
    let attributes = u32::from_be_bytes(attributes.try_into().expect("four octets"));
    assert_eq!(attributes & (REQUIRED | DECRYPT), REQUIRED, "{attributes:08x}");
    assert_eq!(ak.attestation.attest.get(..6), Some(&b"\xffTCG\x80\x1a"[..]));
    join_request::challenge(&appraisal);
    Verdict::Accepted
}

/// A key that certificates can be issued for has one encoding, and a form in SSH.
fn certifiable<E: std::fmt::Display>(key: Result<SubjectKey, E>) -> Verdict {
    match key {
        Ok(key) => {
            let spki = key.to_spki().expect("it was read");
            assert_eq!(SubjectKey::from_spki(&spki).as_ref().ok(), Some(&key));
            key.ssh().expect("SSH has a form for it");
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
