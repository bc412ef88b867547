//! `proto.AuthService`: what a bot asks before its join, and with its identity.

use std::sync::Arc;

use proto::teleport::legacy::auth_service_server::AuthService;
use proto::teleport::legacy::{
    Certs, Event, EventType, GetClusterCaCertRequest, GetClusterCaCertResponse, GetRoleRequest,
    PingRequest, PingResponse, UserCertsRequest, Watch, WatchKind,
};
use proto::teleport::types::{ImpersonateConditions, Metadata, RoleConditions, RoleSpecV6, RoleV6};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Calls, SUITE, peer, pem};
use crate::resource::user_name;
use crate::service::impersonation::Impersonation;
use crate::wire::teleport::{check_cluster_name, files, quoted};
use crate::wire::{grant, status};

/// What can be watched.
const WATCHED: [&str; 2] = ["cert_authority", "spiffe_federation"];

#[tonic::async_trait]
impl AuthService for Calls {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingResponse>, Status> {
        let peer = self.peer_or_caller(&request).await?;
        check_cluster_name(&self.authority)?;
        Ok(Response::new(PingResponse {
            cluster_name: self.cluster().to_owned(),
            proxy_public_addr: self.public_addr.clone().unwrap_or_default(),
            remote_addr: peer.remote.to_string(),
            signature_algorithm_suite: SUITE.into(),
        }))
    }

    async fn get_cluster_ca_cert(
        &self,
        request: Request<GetClusterCaCertRequest>,
    ) -> Result<Response<GetClusterCaCertResponse>, Status> {
        let peer = self.peer_or_caller(&request).await?;
        let x509 = &self.keys().x509;
        // A client with pins, which has no certificate yet, requires one for each CA that it gets.
        let cas = x509
            .trusted()
            .filter(|ca| peer.certificate.is_some() || Arc::ptr_eq(ca, x509.active()));
        let all: Result<Vec<_>, Status> = cas.map(|ca| pem(ca.certificate())).collect();
        Ok(Response::new(GetClusterCaCertResponse { tls_ca: all?.concat() }))
    }

    type WatchEventsStream = ReceiverStream<Result<Event, Status>>;

    /// The resources that a bot watches, CAs and trust domains, do not change: after INIT the stream is silent until the end.
    async fn watch_events(
        &self,
        request: Request<Watch>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        self.caller(&request).await?;
        let kinds = request.into_inner().kinds;
        let is_watched = |kind: &&WatchKind| WATCHED.contains(&kind.kind.as_str());
        if let Some(other) = kinds.iter().find(|kind| !is_watched(kind)) {
            return Err(status::not_supported(&format!("watching {}", quoted(&other.kind))));
        }
        let (events, stream) = mpsc::channel(1);
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            // A client that has gone gets no event.
            let _ = events.send(Ok(Event { r#type: EventType::Init.into() })).await;
            tokio::select! {
                () = events.closed() => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    /// The role that a bot has by itself, which says as whom it may ask for certificates.
    async fn get_role(&self, request: Request<GetRoleRequest>) -> Result<Response<RoleV6>, Status> {
        let caller = self.caller(&request).await?;
        let name = user_name(&caller.subject.bot);
        if request.into_inner().name != name {
            return Err(Status::permission_denied("access denied: the role is of another user"));
        }
        let bot = self.authority.bot_of(&caller).await.map_err(status::teleport)?;
        let roles = bot.spec.roles.iter().map(ToString::to_string).collect();
        let impersonate = Some(ImpersonateConditions { roles });
        Ok(Response::new(RoleV6 {
            kind: "role".to_owned(),
            version: "v7".to_owned(),
            metadata: Some(Metadata { name }),
            spec: Some(RoleSpecV6 { allow: Some(RoleConditions { impersonate }) }),
        }))
    }

    async fn generate_user_certs(
        &self,
        request: Request<UserCertsRequest>,
    ) -> Result<Response<Certs>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        if !request.use_role_requests {
            let text = "certificates without role requests are not supported: set UseRoleRequests";
            return Err(Status::invalid_argument(text));
        }
        let impersonation = Impersonation {
            key: files::key(&request.tls_public_key, &request.ssh_public_key),
            user: request.username,
            roles: request.role_requests,
            cluster: request.route_to_cluster,
            expires: request.expires.map(|end| end.seconds),
            reissuable: request.reissuable_role_impersonation,
        };
        let grant = grant(&self.authority, peer, impersonation).await.map_err(status::teleport)?;
        Ok(Response::new(files::certs(&grant).map_err(status::teleport)?))
    }
}
