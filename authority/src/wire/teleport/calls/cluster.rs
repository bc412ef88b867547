//! `teleport.clusterconfig.v1.ClusterConfigService`, `teleport.presence.v1.PresenceService` and
//! `teleport.machineid.v1.SPIFFEFederationService`: what a bot asks about the cluster.

use proto::teleport::clusterconfig_v1::GetAuthPreferenceRequest;
use proto::teleport::clusterconfig_v1::cluster_config_service_server::ClusterConfigService;
use proto::teleport::machineid_v1::spiffe_federation_service_server::SpiffeFederationService;
use proto::teleport::machineid_v1::{ListSpiffeFederationsRequest, ListSpiffeFederationsResponse};
use proto::teleport::presence_v1::presence_service_server::PresenceService;
use proto::teleport::presence_v1::{ListRemoteClustersRequest, ListRemoteClustersResponse};
use proto::teleport::types::{AuthPreferenceSpecV2, AuthPreferenceV2, Metadata};
use tonic::{Request, Response, Status};

use super::{Calls, SUITE};

#[tonic::async_trait]
impl ClusterConfigService for Calls {
    async fn get_auth_preference(
        &self,
        request: Request<GetAuthPreferenceRequest>,
    ) -> Result<Response<AuthPreferenceV2>, Status> {
        self.caller(&request).await?;
        Ok(Response::new(AuthPreferenceV2 {
            kind: "cluster_auth_preference".to_owned(),
            version: "v2".to_owned(),
            metadata: Some(Metadata { name: "cluster-auth-preference".to_owned() }),
            spec: Some(AuthPreferenceSpecV2 { signature_algorithm_suite: SUITE.into() }),
        }))
    }
}

#[tonic::async_trait]
impl PresenceService for Calls {
    async fn list_remote_clusters(
        &self,
        request: Request<ListRemoteClustersRequest>,
    ) -> Result<Response<ListRemoteClustersResponse>, Status> {
        self.caller(&request).await?;
        Ok(Response::new(ListRemoteClustersResponse { remote_clusters: Vec::new() }))
    }
}

/// The cluster is one trust domain, and federates with none.
#[tonic::async_trait]
impl SpiffeFederationService for Calls {
    async fn list_spiffe_federations(
        &self,
        request: Request<ListSpiffeFederationsRequest>,
    ) -> Result<Response<ListSpiffeFederationsResponse>, Status> {
        self.caller(&request).await?;
        Ok(Response::new(ListSpiffeFederationsResponse::default()))
    }
}
