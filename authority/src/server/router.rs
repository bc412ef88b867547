//! Which service a call is for, by its path: `/package.Service/Method`.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use proto::v1::identity_service_server::{IdentityServiceServer, SERVICE_NAME as IDENTITY};
use proto::v1::join_service_server::{JoinServiceServer, SERVICE_NAME as JOIN};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::Service;

use super::public::Connection;
use crate::wire::endorse_v1;
use crate::wire::status::{too_costly, too_many_calls, unknown_service};

/// The services for hosts.
#[derive(Clone)]
pub(super) struct Hosts {
    pub(super) join: JoinServiceServer<endorse_v1::Hosts>,
    pub(super) identity: IdentityServiceServer<endorse_v1::Hosts>,
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
        if let Some(Connection { peer, slot }) = request.extensions_mut().remove() {
            if !slot.call() {
                return Box::pin(ready(Ok(too_many_calls().into_http())));
            }
            if !peer.allowance.call() {
                slot.count_too_costly_call();
                return Box::pin(ready(Ok(too_costly().into_http())));
            }
            request.extensions_mut().insert(peer);
        }
        match service_of(request.uri().path()) {
            Some(JOIN) => self.join.call(request),
            Some(IDENTITY) => self.identity.call(request),
            _ => Box::pin(ready(Ok(unknown_service().into_http()))),
        }
    }
}

fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}
