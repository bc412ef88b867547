//! What a caller with a certificate of the cluster may ask.

use std::sync::Arc;

use proto::v1::identity_service_server::IdentityService;
use proto::v1::{IssueRequest, IssuedCredentials, RenewRequest, WhoAmIRequest, WhoAmIResponse};
use tonic::{Request, Response, Status};

use super::Authority;
use super::caller::Caller;
use super::refusal::{Code, Refusal};
use super::reissue::{Call, Wish};
use crate::audit::{Action, Attempt};
use crate::server::Connection;

/// The identity service of an authority.
pub struct Identity(pub Arc<Authority>);

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        Ok(Response::new(self.who_am_i(&connection(&request)?).await?))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<IssuedCredentials>, Status> {
        let connection = connection(&request)?;
        self.wish(connection, Wish::Renew(request.into_inner())).await
    }

    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssuedCredentials>, Status> {
        let connection = connection(&request)?;
        self.wish(connection, Wish::Issue(request.into_inner())).await
    }
}

impl Identity {
    /// Who calls; a refusal is told, so that the operator finds why.
    async fn who_am_i(&self, connection: &Connection) -> Result<WhoAmIResponse, Refusal> {
        let mut attempt = Attempt::from(connection.remote);
        let result = self.known(connection, &mut attempt).await;
        self.0.metrics.count(Action::WhoAmI, result.as_ref().err());
        result.inspect_err(|refusal| {
            self.0.record_refusal(Action::WhoAmI, connection, attempt, refusal)
        })
    }

    async fn known(
        &self,
        connection: &Connection,
        attempt: &mut Attempt,
    ) -> Result<WhoAmIResponse, Refusal> {
        let authority = &self.0;
        let caller = Caller::of(connection, authority)?;
        attempt.bot_name = Some(caller.subject.bot.clone());
        attempt.bot_instance_id = Some(caller.subject.instance.to_string());
        authority.standing(&caller, authority.clock.now()).await?;
        Ok(WhoAmIResponse {
            cluster: caller.subject.cluster,
            bot: caller.subject.bot.to_string(),
            roles: caller.subject.roles.iter().map(ToString::to_string).collect(),
            spiffe_id: caller.spiffe_id,
            certificate_serial: caller.serial,
            not_after: caller.not_after.unix_timestamp(),
        })
    }

    /// In a task of its own, so that a caller who hangs up does not leave it half done.
    async fn wish(
        &self,
        connection: Connection,
        wish: Wish,
    ) -> Result<Response<IssuedCredentials>, Status> {
        let call = Call::new(Arc::clone(&self.0), connection, wish);
        let done = tokio::spawn(call.run()).await;
        let done = done.map_err(|cause| Refusal::new(Code::Internal, cause))?;
        Ok(Response::new(done?))
    }
}

fn connection<T>(request: &Request<T>) -> Result<Connection, Refusal> {
    let connection = request.extensions().get::<Connection>().cloned();
    connection.ok_or_else(|| Refusal::new(Code::Internal, "a call without its connection"))
}
