//! `teleport.join.v1`: the join service of Teleport's clients since the end of 2025.

use std::sync::Arc;

use proto::teleport::join_v1::challenge::Payload as ChallengePayload;
use proto::teleport::join_v1::challenge_solution::Payload as Solution;
use proto::teleport::join_v1::client_params::Payload as Params;
use proto::teleport::join_v1::giving_up::Reason;
use proto::teleport::join_v1::join_request::Payload as Request;
use proto::teleport::join_v1::join_response::Payload as Response;
use proto::teleport::join_v1::join_service_server::JoinService;
use proto::teleport::join_v1::result::Payload as ResultPayload;
use proto::teleport::join_v1::{
    BotParams, BotResult, Certificates, Challenge, ClientInit, ClientParams, GivingUp, JoinRequest,
    JoinResponse, Result as JoinResult, ServerInit, TpmEncryptedCredential,
};
use ssh_key::{Certificate, PublicKey};
use tonic::{Code as Grpc, Status, Streaming};

use super::{Fault, METHOD, SIGNATURE_ALGORITHM_SUITE, kept};
use crate::audit::bounded;
use crate::issue::SubjectKey;
use crate::resource::SystemRole;
use crate::service::Authority;
use crate::service::grant::Grant;
use crate::service::join::{Evidence, Join, JoinSnapshot, KeyToCertify};
use crate::service::refusal::{Code, Refusal};
use crate::service::request::{HostInfo, Parsed};
use crate::wire::conversation::{Conversation, Replies};
use crate::wire::{peer, status};

/// The service.
pub(crate) struct Joins(pub(crate) Arc<Authority>);

type Client = Conversation<JoinRequest, JoinResponse>;

#[tonic::async_trait]
impl JoinService for Joins {
    type JoinStream = Replies<JoinResponse>;

    async fn join(
        &self,
        request: tonic::Request<Streaming<JoinRequest>>,
    ) -> Result<tonic::Response<Self::JoinStream>, Status> {
        let authority = Arc::clone(&self.0);
        if !authority.teleport.join {
            return Err(status::unknown_service());
        }
        super::check_cluster_name(&authority)?;
        let (peer, version) = (peer(&request)?, super::version(request.metadata()));
        let limit = authority.join_timeout;
        let (mut client, replies) = Conversation::new(request.into_inner(), limit);
        tokio::spawn(async move {
            let mut join = Join::new(authority, peer);
            let joined = ceremony(&mut join, &mut client, version).await;
            client.end(super::end(join, joined, "join attempt", limit)).await;
        });
        Ok(tonic::Response::new(replies))
    }
}

/// ClientInit, ServerInit, TPMInit, challenge, solution, result.
async fn ceremony(
    join: &mut Join,
    client: &mut Client,
    version: String,
) -> Result<JoinResponse, Fault> {
    let init = client_init(payload(client.next().await?)?)?;
    let _under_way = join.begin()?;
    let snapshot = open_token(join, &init, version).await?;
    client.reply(server_init()).await?;
    let (evidence, params) = tpm_init(payload(client.next().await?)?)?;
    let received = kept::received(&evidence);
    let candidate = join.appraise(snapshot, evidence, received).await?;
    let [credential_blob, secret] = super::encrypted_credential(candidate.challenge())?;
    client.reply(challenge(TpmEncryptedCredential { credential_blob, secret })).await?;
    let answer = client.next().await.map_err(Fault::from).and_then(payload);
    let solution = answer.and_then(solution).map_err(Fault::while_validating)?;
    let proven = super::check(join, candidate, solution)?;
    let params = bot_params(params);
    let key = params.as_ref().map_err(Clone::clone).and_then(key);
    let ttl = params.and_then(|params| {
        params.expires.map_or(Ok(Default::default()), |end| join.ttl_until(end.seconds))
    });
    Ok(result(&join.grant(&proven, &key, &ttl).await?)?)
}

fn payload(request: JoinRequest) -> Result<Request, Fault> {
    let missing = || Fault::bad_parameter("the message has no payload, or an unknown one");
    request.payload.ok_or_else(missing)
}

/// A message of another type than the protocol has at this place.
fn unexpected(expected: &str, request: &Request) -> Fault {
    let got = match request {
        Request::ClientInit(_) => "ClientInit",
        Request::TpmInit(_) => "TPMInit",
        Request::Solution(_) => "ChallengeSolution",
        Request::GivingUp(_) => "GivingUp",
    };
    Fault::bad_parameter(format!("expected client to send message of type {expected}, got {got}"))
}

fn client_init(request: Request) -> Result<ClientInit, Fault> {
    let init = match request {
        Request::ClientInit(init) => init,
        other => return Err(unexpected("ClientInit", &other)),
    };
    let empty = |field: &str| {
        Fault::bad_parameter(format!("validating ClientInit message: {field} must not be empty"))
    };
    if init.token_name.is_empty() {
        return Err(empty("token_name"));
    }
    if init.system_role.is_empty() {
        return Err(empty("system_role"));
    }
    // No proxy of this cluster exists that could have proven itself.
    if init.proxy_supplied_parameters.is_some() {
        let text = "client set ProxySuppliedParameters but did not authenticate as a proxy";
        return Err(Fault::bad_parameter(text).saying(Grpc::PermissionDenied, text));
    }
    if init.forwarded_by_proxy {
        let text = "forwarded_by_proxy is set, but proxy_supplied_parameters is not";
        return Err(Fault::bad_parameter(text));
    }
    Ok(init)
}

/// Checks caller, version, token, method and role, in this order.
async fn open_token(
    join: &mut Join,
    init: &ClientInit,
    agent_version: String,
) -> Result<JoinSnapshot, Fault> {
    let host = HostInfo { hostname: String::new(), agent_version };
    join.describe(&init.token_name, &host);
    join.identify()?;
    super::check_version(&host.agent_version)?;
    let snapshot = join.open_token(&init.token_name).await?;
    if let Some(method) = init.join_method.as_deref().filter(|method| *method != METHOD) {
        let text = format!(
            "client requested join method {}, provision token only supports method {METHOD}",
            bounded(method).unwrap_or_default()
        );
        return Err(
            Fault::from(Refusal::new(Code::TokenMethod, &text)).saying(Grpc::InvalidArgument, text)
        );
    }
    if SystemRole::try_from(init.system_role.clone()) != Ok(SystemRole::Bot) {
        let role = bounded(&init.system_role).unwrap_or_default();
        let text = format!("can not join the cluster, the token does not allow role {role}");
        return Err(
            Fault::from(Refusal::new(Code::TokenRole, &text)).saying(Grpc::InvalidArgument, text)
        );
    }
    Ok(snapshot)
}

fn server_init() -> JoinResponse {
    JoinResponse {
        payload: Some(Response::Init(ServerInit {
            join_method: METHOD.to_owned(),
            signature_algorithm_suite: SIGNATURE_ALGORITHM_SUITE.to_owned(),
        })),
    }
}

fn tpm_init(request: Request) -> Result<(Evidence, ClientParams), Fault> {
    let mut init = match request {
        Request::TpmInit(init) => init,
        Request::GivingUp(given_up) => return Err(gave_up(&given_up)),
        other => return Err(unexpected("TPMInit", &other)),
    };
    let params = init.client_params.take();
    let params = params.ok_or_else(|| Fault::bad_parameter("client_params is required"))?;
    Ok((kept::evidence(init), params))
}

fn challenge(credential: TpmEncryptedCredential) -> JoinResponse {
    let payload = Some(ChallengePayload::TpmEncryptedCredential(credential));
    JoinResponse { payload: Some(Response::Challenge(Challenge { payload })) }
}

fn solution(request: Request) -> Result<Vec<u8>, Fault> {
    match request {
        Request::Solution(solution) => match solution.payload {
            Some(Solution::TpmSolution(solution)) => Ok(solution.solution),
            None => Err(Fault::bad_parameter("the solution is not of a TPM")),
        },
        Request::GivingUp(given_up) => Err(gave_up(&given_up)),
        other => Err(unexpected("ChallengeSolution", &other)),
    }
}

fn gave_up(given_up: &GivingUp) -> Fault {
    let reason = Reason::try_from(given_up.reason).unwrap_or(Reason::Unspecified);
    let text = format!(
        "client gave up on join attempt: {}: {}",
        reason.as_str_name(),
        bounded(&given_up.msg).unwrap_or_default()
    );
    Fault::from(Refusal::new(Code::Abandoned, &text)).saying(Grpc::Unknown, text)
}

fn bot_params(params: ClientParams) -> Parsed<BotParams> {
    let missing = || Refusal::new(Code::Malformed, "BotParams is required to join as a Bot");
    let Params::BotParams(params) = params.payload.ok_or_else(missing)?;
    Ok(params)
}

fn key(params: &BotParams) -> Parsed<KeyToCertify> {
    let missing = || Refusal::new(Code::KeyMalformed, "public_keys is required");
    let keys = params.public_keys.as_ref().ok_or_else(missing)?;
    SubjectKey::from_wire(&keys.public_tls_key, &keys.public_ssh_key)
        .map(KeyToCertify::unproven)
        .map_err(Refusal::because(Code::KeyMalformed))
}

fn result(grant: &Grant) -> Result<JoinResponse, Refusal> {
    let internal = |cause: ssh_key::Error| Refusal::new(Code::Internal, cause);
    let ssh_cert = Certificate::from_openssh(&grant.issued.ssh).and_then(|cert| cert.to_bytes());
    let ssh_ca_keys = grant.cas.ssh_trusted().map(|ca| {
        PublicKey::from_openssh(ca.public_key()).and_then(|key| key.to_bytes()).map_err(internal)
    });
    let certificates = Certificates {
        tls_cert: grant.issued.x509.to_vec(),
        tls_ca_certs: grant.cas.x509.trusted().map(|ca| ca.certificate().to_vec()).collect(),
        ssh_cert: ssh_cert.map_err(internal)?,
        ssh_ca_keys: ssh_ca_keys.collect::<Result<_, _>>()?,
    };
    let result = BotResult { certificates: Some(certificates) };
    let payload = Some(ResultPayload::BotResult(result));
    Ok(JoinResponse { payload: Some(Response::Result(JoinResult { payload })) })
}
