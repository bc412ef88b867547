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
use crate::service::identity::Identity;
use crate::service::join::Join;
use crate::status::{too_many_calls, unknown_service};

/// The services for hosts.
#[derive(Clone)]
pub(super) struct Hosts {
    pub(super) join: JoinServiceServer<Join>,
    pub(super) identity: IdentityServiceServer<Identity>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<Body>> for Hosts {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let connection = request.extensions().get::<Connection>();
        if connection.is_some_and(|connection| !connection.call()) {
            return Box::pin(ready(Ok(too_many_calls().into_http())));
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
