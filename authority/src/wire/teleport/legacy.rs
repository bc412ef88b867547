//! `proto.JoinService`: the join service of Teleport's older clients.

use std::sync::Arc;

use proto::teleport::legacy::join_service_server::JoinService;
use proto::teleport::legacy::register_using_tpm_method_initial_request::Ek as WireEk;
use proto::teleport::legacy::register_using_tpm_method_request::Payload as Request;
use proto::teleport::legacy::register_using_tpm_method_response::Payload as Response;
use proto::teleport::legacy::{
    RegisterUsingTpmMethodInitialRequest, RegisterUsingTpmMethodRequest,
    RegisterUsingTpmMethodResponse, TpmEncryptedCredential,
};
use proto::teleport::types::RegisterUsingTokenRequest;
use tonic::{Code as Grpc, Status, Streaming};

use super::{Fault, files, kept, quoted};
use crate::resource::SystemRole;
use crate::service::Authority;
use crate::service::join::{
    AkEvidence, Ek, Evidence, Join, JoinSnapshot, KeyEvidence, KeyToCertify,
};
use crate::service::refusal::{Code, Refusal};
use crate::service::request::HostInfo;
use crate::wire::conversation::{Conversation, Replies};
use crate::wire::{peer, status};

/// The service.
pub(crate) struct Joins(pub(crate) Arc<Authority>);

type Client = Conversation<RegisterUsingTpmMethodRequest, RegisterUsingTpmMethodResponse>;

#[tonic::async_trait]
impl JoinService for Joins {
    type RegisterUsingTPMMethodStream = Replies<RegisterUsingTpmMethodResponse>;

    async fn register_using_tpm_method(
        &self,
        request: tonic::Request<Streaming<RegisterUsingTpmMethodRequest>>,
    ) -> Result<tonic::Response<Self::RegisterUsingTPMMethodStream>, Status> {
        let authority = Arc::clone(&self.0);
        if !authority.teleport.legacy_join {
            return Err(status::legacy_join_disabled());
        }
        super::check_cluster_name(&authority)?;
        let (peer, version) = (peer(&request)?, super::version(request.metadata()));
        let limit = authority.join_timeout;
        let (mut client, replies) = Conversation::new(request.into_inner(), limit);
        tokio::spawn(async move {
            let mut join = Join::new(authority, peer);
            let joined = ceremony(&mut join, &mut client, version).await;
            client.end(super::end(join, joined, "tpm join method", limit)).await;
        });
        Ok(tonic::Response::new(replies))
    }
}

/// Init, challenge, solution, certificates.
async fn ceremony(
    join: &mut Join,
    client: &mut Client,
    version: String,
) -> Result<RegisterUsingTpmMethodResponse, Fault> {
    let (request, evidence) = init(client.next().await?)?;
    let _under_way = join.begin()?;
    let snapshot = open_token(join, &request, version).await?;
    let received = kept::received(&evidence);
    let candidate = join.appraise(snapshot, evidence, received).await?;
    let [credential_blob, secret] = super::encrypted_credential(candidate.challenge())?;
    let credential = TpmEncryptedCredential { credential_blob, secret };
    client.reply(reply(Response::ChallengeRequest(credential))).await?;
    let answer = client.next().await.map_err(Fault::from);
    let solution = answer.and_then(solution).map_err(Fault::while_validating)?;
    let proven = super::check(join, candidate, solution)?;
    let key = files::key(&request.public_tls_key, &request.public_ssh_key);
    let (key, expires) = (key.map(KeyToCertify::unproven), request.expires);
    let ttl = expires.map_or(Ok(Default::default()), |end| join.ttl_until(end.seconds));
    let grant = join.grant(&proven, &key, &ttl).await?;
    Ok(reply(Response::Certs(files::certs(&grant)?)))
}

fn reply(payload: Response) -> RegisterUsingTpmMethodResponse {
    RegisterUsingTpmMethodResponse { payload: Some(payload) }
}

fn init(
    request: RegisterUsingTpmMethodRequest,
) -> Result<(RegisterUsingTokenRequest, Evidence), Fault> {
    let Some(Request::Init(init)) = request.payload else {
        return Err(Fault::bad_parameter("expected non-nil Init payload"));
    };
    let RegisterUsingTpmMethodInitialRequest { join_request, ek, attestation_params } = init;
    let request = join_request.ok_or_else(|| {
        let text = "expected JoinRequest in RegisterUsingTPMMethodRequest_Init, got nil";
        Fault::bad_parameter(text)
    })?;
    let ak = attestation_params.unwrap_or_default();
    let evidence = Evidence {
        ek: super::endorsement_key(ek.map(|ek| match ek {
            WireEk::EkCert(der) => Ek::Certificate(der),
            WireEk::EkKey(spki) => Ek::PublicKey(spki),
        })),
        ek_chain: Vec::new(),
        ek_name_alg: 0,
        key: KeyEvidence::AttestationKey(AkEvidence {
            public: ak.public,
            creation_data: ak.create_data,
            attest: ak.create_attestation,
            signature: ak.create_signature,
        }),
    };
    Ok((request, evidence))
}

/// Checks request, caller, version, token and role, in this order.
async fn open_token(
    join: &mut Join,
    request: &RegisterUsingTokenRequest,
    agent_version: String,
) -> Result<JoinSnapshot, Fault> {
    let host = HostInfo { hostname: request.node_name.clone(), agent_version };
    join.describe(&request.token, &host);
    let is_bot = SystemRole::try_from(request.role.clone()) == Ok(SystemRole::Bot);
    if request.host_id.is_empty() && !is_bot {
        return Err(Fault::bad_parameter("missing parameter HostID"));
    }
    if request.token.is_empty() {
        return Err(Fault::bad_parameter("missing parameter Token"));
    }
    join.identify()?;
    super::check_version(&host.agent_version)?;
    let [node, role] = [&request.node_name, &request.role].map(|text| quoted(text));
    let role_not_allowed = || {
        let id = quoted(&request.host_id);
        let id = id.trim_matches('"');
        format!("node {node} [{id}] can not join the cluster, the token does not allow {role} role")
    };
    let opened = join.open_token(&request.token).await.map_err(Fault::from);
    let snapshot = opened.map_err(|fault| match fault.refusal.code {
        Code::TokenUnknown | Code::TokenExpired => fault.saying(
            Grpc::PermissionDenied,
            format!("{node} can not join the cluster with role {role}, token expired or not found"),
        ),
        Code::TokenRole => fault.saying(Grpc::InvalidArgument, role_not_allowed()),
        _ => fault,
    })?;
    if !is_bot {
        let text = role_not_allowed();
        return Err(
            Fault::from(Refusal::new(Code::TokenRole, &text)).saying(Grpc::InvalidArgument, text)
        );
    }
    Ok(snapshot)
}

fn solution(request: RegisterUsingTpmMethodRequest) -> Result<Vec<u8>, Fault> {
    match request.payload {
        Some(Request::ChallengeResponse(response)) => Ok(response.solution),
        _ => Err(Fault::bad_parameter("expected non-nil ChallengeResponse payload")),
    }
}
