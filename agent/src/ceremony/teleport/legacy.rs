//! `RegisterUsingTPMMethod` of Teleport's older join service.

use proto::teleport::legacy::join_service_client::JoinServiceClient;
use proto::teleport::legacy::register_using_tpm_method_initial_request::Ek;
use proto::teleport::legacy::register_using_tpm_method_request::Payload as Request;
use proto::teleport::legacy::register_using_tpm_method_response::Payload as Response;
use proto::teleport::legacy::{
    RegisterUsingTpmMethodChallengeResponse, RegisterUsingTpmMethodInitialRequest,
    RegisterUsingTpmMethodRequest, TpmAttestationParameters,
};
use proto::teleport::types::RegisterUsingTokenRequest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::attempt::{Attempt, Step};
use super::{Challenge, Claim, ROLE, Solver, Unjoined, disorder, failed, hung_up};
use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{CallTime, Connection, MAX_CALL};
use crate::ceremony::endorse_v1::MAX_ANSWER;
use crate::credential::Unverified;
use crate::ssh;
use crate::tpm::inventory::pem;

/// Joins on this connection. A host that cannot open the challenge cancels the call.
pub(super) async fn run(
    connection: &Connection,
    claim: Claim,
    solver: Solver<'_>,
    attempt: Attempt,
) -> Result<Unverified, Unjoined> {
    let failed = |step: Step| {
        move |status: Status| failed(&status, connection, attempt.after(step, &status))
    };
    connection.budget.set(Some(MAX_CALL));
    let mut client = JoinServiceClient::with_origin(connection.channel.clone(), Channel::origin())
        .max_decoding_message_size(MAX_ANSWER);
    let (requests, outgoing) = mpsc::channel(2);
    let mut time = CallTime::new();
    send(&requests, Request::Init(init(claim)?)).await?;
    let call = time.wait(client.register_using_tpm_method(ReceiverStream::new(outgoing)));
    let mut answers = call.await.map_err(failed(Step::Evidence))?.into_inner();
    let challenge = time.wait(answers.message()).await.map_err(failed(Step::Evidence))?;
    let Some(Response::ChallengeRequest(credential)) = challenge.and_then(|answer| answer.payload)
    else {
        return Err(disorder("something else than a challenge").into());
    };
    let challenge = Challenge::new(&credential.credential_blob, &credential.secret)?;
    let solution = solver.open(challenge).await?;
    let response = RegisterUsingTpmMethodChallengeResponse { solution };
    send(&requests, Request::ChallengeResponse(response)).await?;
    drop(requests);

    let result = time.wait(answers.message()).await.map_err(failed(Step::Solution))?;
    let Some(Response::Certs(certs)) = result.and_then(|answer| answer.payload) else {
        return Err(disorder("something else than certificates").into());
    };
    match time.wait(answers.message()).await {
        Ok(None) => Ok(certs.try_into()?),
        Ok(Some(_)) => Err(disorder("another message after the certificates").into()),
        Err(status) => Err(failed(Step::Solution)(status)),
    }
}

fn init(claim: Claim) -> Result<RegisterUsingTpmMethodInitialRequest, Unjoined> {
    let Claim { token, ek, evidence, spki, ssh, expires } = claim;
    let line = ssh::key::line(&ssh).unwrap_or_default();
    let mut request = RegisterUsingTokenRequest {
        role: ROLE.into(),
        token,
        public_tls_key: pem("PUBLIC KEY", &spki)?.into(),
        public_ssh_key: format!("{line}\n").into(),
        ..RegisterUsingTokenRequest::default()
    };
    request.expires.get_or_insert_default().seconds = expires;
    Ok(RegisterUsingTpmMethodInitialRequest {
        join_request: Some(request),
        ek: Some(match &ek.certificate {
            Some(certificate) => Ek::EkCert(certificate.der().to_vec()),
            None => Ek::EkKey(ek.key.spki_der()),
        }),
        attestation_params: Some(TpmAttestationParameters {
            public: evidence.public,
            create_data: evidence.creation_data,
            create_attestation: evidence.attest,
            create_signature: evidence.signature,
        }),
    })
}

async fn send(
    requests: &mpsc::Sender<RegisterUsingTpmMethodRequest>,
    payload: Request,
) -> Result<(), Unjoined> {
    let request = RegisterUsingTpmMethodRequest { payload: Some(payload) };
    requests.send(request).await.map_err(|_| hung_up().into())
}
