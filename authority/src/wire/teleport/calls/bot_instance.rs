//! `teleport.machineid.v1.BotInstanceService`: heartbeats.

use proto::teleport::machineid_v1::bot_instance_service_server::BotInstanceService;
use proto::teleport::machineid_v1::{
    BotInstanceStatusHeartbeat, SubmitHeartbeatRequest, SubmitHeartbeatResponse,
};
use tonic::{Request, Response, Status};

use super::{Calls, peer};
use crate::resource::AgentInfo;
use crate::wire::status;

#[tonic::async_trait]
impl BotInstanceService for Calls {
    async fn submit_heartbeat(
        &self,
        request: Request<SubmitHeartbeatRequest>,
    ) -> Result<Response<SubmitHeartbeatResponse>, Status> {
        let peer = peer(&request)?;
        let Some(heartbeat) = request.into_inner().heartbeat else {
            return Err(Status::invalid_argument("heartbeat: must be non-nil"));
        };
        self.authority.heartbeat(&peer, heartbeat.into()).await.map_err(status::teleport)?;
        Ok(Response::new(SubmitHeartbeatResponse {}))
    }
}

impl From<BotInstanceStatusHeartbeat> for AgentInfo {
    fn from(heartbeat: BotInstanceStatusHeartbeat) -> Self {
        let BotInstanceStatusHeartbeat { version, hostname, join_method, architecture, os } =
            heartbeat;
        Self { version, hostname, os, architecture, join_method }
    }
}
