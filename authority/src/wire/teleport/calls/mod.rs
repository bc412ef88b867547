//! What agents of Teleport ask besides joining. Everything else that Teleport's services have is answered by
//! [`status::not_supported`], which a client distinguishes from a failure.

mod auth;
mod bot_instance;
mod cluster;
mod trust;
mod workload_identity;

use std::sync::Arc;

use proto::teleport::clusterconfig_v1::cluster_config_service_server::{
    ClusterConfigServiceServer, SERVICE_NAME as CLUSTER_CONFIG,
};
use proto::teleport::legacy::auth_service_server::{AuthServiceServer, SERVICE_NAME as AUTH};
use proto::teleport::machineid_v1::bot_instance_service_server::{
    BotInstanceServiceServer, SERVICE_NAME as BOT_INSTANCE,
};
use proto::teleport::machineid_v1::spiffe_federation_service_server::{
    SERVICE_NAME as FEDERATION, SpiffeFederationServiceServer,
};
use proto::teleport::presence_v1::presence_service_server::{
    PresenceServiceServer, SERVICE_NAME as PRESENCE,
};
use proto::teleport::trust_v1::trust_service_server::{SERVICE_NAME as TRUST, TrustServiceServer};
use proto::teleport::types::SignatureAlgorithmSuite;
use proto::teleport::workloadidentity_v1::workload_identity_issuance_service_server::{
    SERVICE_NAME as WORKLOAD_IDENTITY, WorkloadIdentityIssuanceServiceServer,
};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tower::Service;

use crate::config::TeleportServices;
use crate::issue::Keys;
use crate::service::caller::Caller;
use crate::service::{Authority, Peer};
use crate::wire::status;
use crate::wire::teleport::files;

/// The suite by which clients create ECDSA keys on P-256.
const SUITE: SignatureAlgorithmSuite = SignatureAlgorithmSuite::BalancedV1;

/// The served methods, by service.
const METHODS: [(&str, &[&str]); 7] = [
    (AUTH, &["Ping", "GetClusterCACert", "WatchEvents", "GetRole", "GenerateUserCerts"]),
    (BOT_INSTANCE, &["SubmitHeartbeat"]),
    (CLUSTER_CONFIG, &["GetAuthPreference"]),
    (FEDERATION, &["ListSPIFFEFederations"]),
    (PRESENCE, &["ListRemoteClusters"]),
    (TRUST, &["GetCertAuthority", "GetCertAuthorities"]),
    (WORKLOAD_IDENTITY, &["IssueWorkloadIdentity", "IssueWorkloadIdentities"]),
];

/// What the services have in common.
#[derive(Clone)]
struct Calls {
    authority: Arc<Authority>,
    /// The address that clients receive to connect to.
    public_addr: Option<String>,
    /// Whether the authority stops, which ends streams.
    stop: watch::Receiver<bool>,
}

/// The services, for the router.
#[derive(Clone)]
pub(crate) struct Services {
    /// Whether hosts can join in a way of Teleport.
    is_on: bool,
    auth: AuthServiceServer<Calls>,
    bot_instance: BotInstanceServiceServer<Calls>,
    cluster_config: ClusterConfigServiceServer<Calls>,
    federation: SpiffeFederationServiceServer<Calls>,
    presence: PresenceServiceServer<Calls>,
    trust: TrustServiceServer<Calls>,
    workload_identity: WorkloadIdentityIssuanceServiceServer<Calls>,
}

impl Services {
    /// The services of an authority that listens at this port, for messages up to so many bytes.
    pub(crate) fn new(
        authority: Arc<Authority>,
        port: u16,
        max_message: usize,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let public_addr = authority.public_names.address().map(|addr| addr.with_port(port));
        let calls = Calls { authority, public_addr, stop };
        let TeleportServices { join, legacy_join } = calls.authority.teleport;
        Self {
            is_on: join || legacy_join,
            auth: AuthServiceServer::new(calls.clone()).max_decoding_message_size(max_message),
            bot_instance: BotInstanceServiceServer::new(calls.clone())
                .max_decoding_message_size(max_message),
            cluster_config: ClusterConfigServiceServer::new(calls.clone())
                .max_decoding_message_size(max_message),
            federation: SpiffeFederationServiceServer::new(calls.clone())
                .max_decoding_message_size(max_message),
            presence: PresenceServiceServer::new(calls.clone())
                .max_decoding_message_size(max_message),
            trust: TrustServiceServer::new(calls.clone()).max_decoding_message_size(max_message),
            workload_identity: WorkloadIdentityIssuanceServiceServer::new(calls)
                .max_decoding_message_size(max_message),
        }
    }

    /// Whether a service is one of Teleport's.
    pub(crate) fn has(service: &str) -> bool {
        service.starts_with("proto.") || service.starts_with("teleport.")
    }

    /// Answers a call for one of Teleport's services.
    pub(crate) fn call(
        &mut self,
        service: &str,
        request: Request<Body>,
    ) -> BoxFuture<Response<Body>, std::convert::Infallible> {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or_default();
        let is_served = self.is_on
            && METHODS.iter().any(|(of, methods)| *of == service && methods.contains(&method));
        match service {
            AUTH if is_served => self.auth.call(request),
            BOT_INSTANCE if is_served => self.bot_instance.call(request),
            CLUSTER_CONFIG if is_served => self.cluster_config.call(request),
            FEDERATION if is_served => self.federation.call(request),
            PRESENCE if is_served => self.presence.call(request),
            TRUST if is_served => self.trust.call(request),
            WORKLOAD_IDENTITY if is_served => self.workload_identity.call(request),
            // Also where all services of Teleport are switched off.
            _ => {
                let response = status::not_supported(path).into_http();
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

impl Calls {
    /// The caller of a request, which must have a certificate of the cluster.
    async fn caller<T>(&self, request: &tonic::Request<T>) -> Result<Caller, Status> {
        let peer = peer(request)?;
        self.authority.identify(&peer).await.map_err(status::teleport)
    }

    /// The peer of a request. One that shows a certificate must be a caller that is not locked.
    async fn peer_or_caller<T>(&self, request: &tonic::Request<T>) -> Result<Peer, Status> {
        let peer = peer(request)?;
        if peer.certificate.is_some() {
            self.authority.identify(&peer).await.map_err(status::teleport)?;
        }
        Ok(peer)
    }

    fn keys(&self) -> Arc<Keys> {
        self.authority.issuer.keyring().keys()
    }

    fn cluster(&self) -> &str {
        self.authority.issuer.cluster().as_str()
    }
}

/// The peer of a request. Teleport's servers refuse one with more than its own certificate, and so do these.
fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
    let peer = crate::wire::peer(request).map_err(status::teleport)?;
    if peer.above_leaf > 0 {
        return Err(status::intermediates_not_supported());
    }
    Ok(peer)
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> Result<Vec<u8>, Status> {
    files::pem(der).map_err(status::teleport)
}
