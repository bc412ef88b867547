//! `endorse.v1` for operators, on the unix socket. Who may connect to it is decided there.

use std::sync::Arc;

use proto::v1::admin_service_server::AdminService;
use proto::v1::{
    CreateRequest, CreateResponse, GetRequest, GetResponse, RemoveRequest, RemoveResponse,
    StatusRequest, StatusResponse,
};
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use crate::audit::Author;
use crate::service::Authority;
use crate::service::admin::Admin;

/// The service for operators.
pub(crate) struct Operators(Admin);

impl Operators {
    pub(crate) fn new(authority: Arc<Authority>) -> Self {
        Self(Admin(authority))
    }

    /// Who makes this request, now.
    fn author<T>(&self, request: &Request<T>) -> Author {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|peer| peer.peer_cred);
        self.0.author(peer.map(|peer| peer.uid()))
    }
}

#[tonic::async_trait]
impl AdminService for Operators {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.0.status().await?))
    }

    async fn create(
        &self,
        request: Request<CreateRequest>,
    ) -> Result<Response<CreateResponse>, Status> {
        let author = self.author(&request);
        Ok(Response::new(self.0.create(&request.into_inner(), author).await?))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(self.0.get(&request.into_inner()).await?))
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        let author = self.author(&request);
        Ok(Response::new(self.0.remove(&request.into_inner(), author).await?))
    }
}
