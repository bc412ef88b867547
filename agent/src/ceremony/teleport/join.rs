//! `teleport.join.v1`: the messages of a join.

use proto::teleport::join_v1::challenge::Payload as ChallengePayload;
use proto::teleport::join_v1::challenge_solution::Payload as SolutionPayload;
use proto::teleport::join_v1::giving_up::Reason;
use proto::teleport::join_v1::join_request::Payload as Request;
use proto::teleport::join_v1::join_response::Payload as Response;
use proto::teleport::join_v1::join_service_client::JoinServiceClient;
use proto::teleport::join_v1::result::Payload as ResultPayload;
use proto::teleport::join_v1::{
    BotParams, ChallengeSolution, ClientInit, ClientParams, GivingUp, JoinRequest, JoinResponse,
    PublicKeys, TpmInit, TpmSolution, client_params, tpm_init,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::attempt::{Attempt, Step};
use super::{Challenge, Claim, METHOD, ROLE, Solver, Unjoined, disorder, failed, hung_up};
use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{CallTime, Connection, MAX_CALL};
use crate::ceremony::endorse_v1::MAX_ANSWER;
use crate::credential::Unverified;

/// Joins on this connection.
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
    send(&requests, Request::ClientInit(hello(&claim))).await?;
    let call = time.wait(client.join(ReceiverStream::new(outgoing)));
    let mut answers = call.await.map_err(failed(Step::Hello))?.into_inner();
    let hello = next(&mut answers, &mut time).await.map_err(failed(Step::Hello))?;
    let Some(Response::Init(init)) = hello else {
        return Err(disorder("something else than its parameters").into());
    };
    if init.join_method != METHOD {
        return Err(disorder("another join method than tpm").into());
    }

    send(&requests, Request::TpmInit(evidence(claim))).await?;
    let challenge = next(&mut answers, &mut time).await.map_err(failed(Step::Evidence))?;
    let challenge = match challenge {
        Some(Response::Challenge(challenge)) => challenge.payload,
        _ => return Err(disorder("something else than a challenge").into()),
    };
    let Some(ChallengePayload::TpmEncryptedCredential(credential)) = challenge else {
        return Err(disorder("a challenge that is not for a TPM").into());
    };
    let challenge = Challenge::new(&credential.credential_blob, &credential.secret)?;
    let solution = match solver.open(challenge).await {
        Ok(solution) => solution,
        Err(failure) => {
            // The server logs it; what it answers does not matter.
            let reason = Reason::ChallengeSolutionFailed.into();
            let giving_up = GivingUp { reason, msg: failure.message.clone() };
            let _ = send(&requests, Request::GivingUp(giving_up)).await;
            drop(requests);
            let _ = time.wait(answers.message()).await;
            return Err(failure.into());
        }
    };
    let payload = Some(SolutionPayload::TpmSolution(TpmSolution { solution }));
    send(&requests, Request::Solution(ChallengeSolution { payload })).await?;
    drop(requests);

    let result = next(&mut answers, &mut time).await.map_err(failed(Step::Solution))?;
    let result = match result {
        Some(Response::Result(result)) => result.payload,
        _ => return Err(disorder("something else than its result").into()),
    };
    let Some(ResultPayload::BotResult(result)) = result else {
        return Err(disorder("a result that is not for a bot").into());
    };
    match time.wait(answers.message()).await {
        Ok(None) => {}
        Ok(Some(_)) => return Err(disorder("another message after the result").into()),
        Err(status) => return Err(failed(Step::Solution)(status)),
    }
    let certificates = result.certificates.ok_or_else(|| disorder("no certificates"))?;
    Ok(certificates.try_into()?)
}

fn hello(claim: &Claim) -> ClientInit {
    ClientInit {
        join_method: Some(METHOD.into()),
        token_name: claim.token.clone(),
        system_role: ROLE.into(),
        ..ClientInit::default()
    }
}

fn evidence(claim: Claim) -> TpmInit {
    let Claim { ek, evidence, spki, ssh, expires, .. } = claim;
    let public_keys = Some(PublicKeys { public_tls_key: spki, public_ssh_key: ssh });
    let mut params = BotParams { public_keys, ..BotParams::default() };
    params.expires.get_or_insert_default().seconds = expires;
    let payload = Some(client_params::Payload::BotParams(params));
    TpmInit {
        client_params: Some(ClientParams { payload }),
        public: evidence.public,
        create_data: evidence.creation_data,
        create_attestation: evidence.attest,
        create_signature: evidence.signature,
        ek: Some(match &ek.certificate {
            Some(certificate) => tpm_init::Ek::EkCert(certificate.der().to_vec()),
            None => tpm_init::Ek::EkKey(ek.key.spki_der()),
        }),
    }
}

async fn send(requests: &mpsc::Sender<JoinRequest>, payload: Request) -> Result<(), Unjoined> {
    let request = JoinRequest { payload: Some(payload) };
    requests.send(request).await.map_err(|_| hung_up().into())
}

async fn next(
    answers: &mut Streaming<JoinResponse>,
    time: &mut CallTime,
) -> Result<Option<Response>, Status> {
    Ok(time.wait(answers.message()).await?.and_then(|response| response.payload))
}
