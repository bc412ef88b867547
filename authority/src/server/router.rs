//! Which service a call is for, by its path: `/package.Service/Method`.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::teleport::join_v1::join_service_server::{
    JoinServiceServer as TeleportJoinServer, SERVICE_NAME as TELEPORT_JOIN,
};
use proto::teleport::legacy::join_service_server::{
    JoinServiceServer as LegacyJoinServer, SERVICE_NAME as LEGACY_JOIN,
};
use proto::v1::identity_service_server::{IdentityServiceServer, SERVICE_NAME as IDENTITY};
use proto::v1::join_service_server::{JoinServiceServer, SERVICE_NAME as JOIN};
use proto::v1::trust_service_server::{SERVICE_NAME as TRUST, TrustServiceServer};
use proto::v1::workload_service_server::{SERVICE_NAME as WORKLOAD, WorkloadServiceServer};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Method, Request, Response};
use tonic::{Code, Status};
use tower::Service;

use super::MAX_MESSAGE;
use super::public::Connection;
use crate::service::Authority;
use crate::wire::endorse_v1;
use crate::wire::status::{
    not_supported, too_costly, too_many_calls, unknown_method, unknown_service,
};
use crate::wire::teleport::{self, calls::Services as Calls};
use crate::wire::trust::Trust;
use crate::wire::web::{self, WebApi};
use crate::wire::workload::Workloads;

/// The services for hosts. A request carries its [`Peer`](crate::service::Peer) as an extension.
#[derive(Clone)]
pub struct Hosts {
    join: JoinServiceServer<endorse_v1::Hosts>,
    identity: IdentityServiceServer<endorse_v1::Hosts>,
    workload: WorkloadServiceServer<Workloads>,
    trust: TrustServiceServer<Trust>,
    teleport_join: TeleportJoinServer<teleport::join_v1::Joins>,
    legacy_join: LegacyJoinServer<teleport::legacy::Joins>,
    calls: Calls,
    web: Arc<WebApi>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<Body>> for Hosts {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let is_web = WebApi::has(request.uri().path());
        if let Some(Connection { peer, slot }) = request.extensions_mut().remove() {
            let refused = if !slot.call() {
                Some(too_many_calls())
            } else if !peer.allowance.call() {
                slot.count_too_costly_call();
                Some(too_costly())
            } else {
                None
            };
            match refused {
                Some(_) if is_web => return at_once(web::too_many_requests().map(Body::new)),
                Some(status) => return at_once(status.into_http()),
                None => {}
            }
            request.extensions_mut().insert(peer);
        }
        if is_web {
            return at_once(self.web(&request).map(Body::new));
        }
        let path = request.uri().path().to_owned();
        let service = service_of(&path).unwrap_or_default();
        let (answer, unknown): (Answer, fn(&str) -> Status) = match service {
            JOIN => (self.join.call(request), unknown_method),
            IDENTITY => (self.identity.call(request), unknown_method),
            WORKLOAD => (self.workload.call(request), unknown_method),
            TRUST => (self.trust.call(request), unknown_method),
            TELEPORT_JOIN => (self.teleport_join.call(request), not_supported),
            LEGACY_JOIN => (self.legacy_join.call(request), not_supported),
            service if Calls::has(service) => return self.calls.call(service, request),
            _ => return at_once(unknown_service().into_http()),
        };
        Box::pin(async move {
            let answer = answer.await?;
            // The generated code says nothing of a method that it does not know.
            let unimplemented = HeaderValue::from(Code::Unimplemented as i32);
            let is_unnamed = answer.headers().get("grpc-status") == Some(&unimplemented)
                && !answer.headers().contains_key("grpc-message");
            Ok(if is_unnamed { unknown(path.trim_start_matches('/')).into_http() } else { answer })
        })
    }
}

impl Hosts {
    /// The services of an authority that listens at this port. `stop` becomes true when it stops.
    pub fn new(authority: &Arc<Authority>, port: u16, stop: watch::Receiver<bool>) -> Self {
        let authority = || Arc::clone(authority);
        Self {
            join: JoinServiceServer::new(endorse_v1::Hosts(authority()))
                .max_decoding_message_size(MAX_MESSAGE),
            identity: IdentityServiceServer::new(endorse_v1::Hosts(authority()))
                .max_decoding_message_size(MAX_MESSAGE),
            workload: WorkloadServiceServer::new(Workloads(authority()))
                .max_decoding_message_size(MAX_MESSAGE),
            trust: TrustServiceServer::new(Trust(authority()))
                .max_decoding_message_size(MAX_MESSAGE),
            teleport_join: TeleportJoinServer::new(teleport::join_v1::Joins(authority()))
                .max_decoding_message_size(MAX_MESSAGE),
            legacy_join: LegacyJoinServer::new(teleport::legacy::Joins(authority()))
                .max_decoding_message_size(MAX_MESSAGE),
            calls: Calls::new(authority(), port, MAX_MESSAGE, stop),
            web: Arc::new(WebApi::new(&authority(), port)),
        }
    }

    /// The web API, which is also served by HTTP/1.1.
    pub fn web_api(&self) -> Arc<WebApi> {
        Arc::clone(&self.web)
    }

    fn web(&self, request: &Request<Body>) -> host::diag::Reply {
        match *request.method() {
            Method::GET => self.web.answer(request.uri().path()),
            _ => web::method_not_allowed(),
        }
    }
}

fn at_once(response: Response<Body>) -> Answer {
    Box::pin(ready(Ok(response)))
}

fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}
