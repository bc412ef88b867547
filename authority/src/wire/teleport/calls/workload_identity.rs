//! `teleport.workloadidentity.v1.WorkloadIdentityIssuanceService`: X.509-SVIDs by workload identity.

use proto::teleport::workloadidentity_v1::workload_identity_issuance_service_server::WorkloadIdentityIssuanceService;
use proto::teleport::workloadidentity_v1::{
    Credential, IssueWorkloadIdentitiesRequest, IssueWorkloadIdentitiesResponse,
    IssueWorkloadIdentityRequest, IssueWorkloadIdentityResponse, X509svidCredential,
    X509svidParams,
};
use proto::teleport::{Duration, Timestamp};
use tonic::{Request, Response, Status};

use super::{Calls, peer};
use crate::issue::{SubjectKey, Ttl};
use crate::service::Peer;
use crate::service::grant::Grant;
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;
use crate::service::workload::identities::Selector;
use crate::service::workload::teleport::TeleportRequest;
use crate::service::workload::x509::NamedSvid;
use crate::wire::{grant, status, ttl, workload};

#[tonic::async_trait]
impl WorkloadIdentityIssuanceService for Calls {
    async fn issue_workload_identity(
        &self,
        request: Request<IssueWorkloadIdentityRequest>,
    ) -> Result<Response<IssueWorkloadIdentityResponse>, Status> {
        let peer = peer(&request)?;
        let IssueWorkloadIdentityRequest { name, x509_svid_params, requested_ttl } =
            request.into_inner();
        let selector = name.try_into().map(Selector::Name);
        let selector = selector.map_err(Refusal::because(Code::Malformed));
        let issued = self.issue(peer, selector, x509_svid_params, requested_ttl).await?;
        let credential = issued.into_iter().next();
        Ok(Response::new(IssueWorkloadIdentityResponse { credential }))
    }

    async fn issue_workload_identities(
        &self,
        request: Request<IssueWorkloadIdentitiesRequest>,
    ) -> Result<Response<IssueWorkloadIdentitiesResponse>, Status> {
        let peer = peer(&request)?;
        let IssueWorkloadIdentitiesRequest { label_selectors, x509_svid_params, requested_ttl } =
            request.into_inner();
        let labels = label_selectors.into_iter().map(|label| (label.key, label.values));
        let selector = workload::labels_selector(labels);
        let credentials = self.issue(peer, selector, x509_svid_params, requested_ttl).await?;
        Ok(Response::new(IssueWorkloadIdentitiesResponse { credentials }))
    }
}

impl Calls {
    async fn issue(
        &self,
        peer: Peer,
        selector: Parsed<Selector>,
        params: Option<X509svidParams>,
        requested_ttl: Option<Duration>,
    ) -> Result<Vec<Credential>, Status> {
        let Some(params) = params else {
            return Err(status::not_supported("another credential than an X.509-SVID"));
        };
        let request = TeleportRequest { selector, key: key(&params), ttl: lifetime(requested_ttl) };
        let granted: Grant<Vec<NamedSvid>> =
            grant(&self.authority, peer, request).await.map_err(status::teleport)?;
        Ok(granted.issued.into_iter().map(credential).collect())
    }
}

fn key(params: &X509svidParams) -> Parsed<SubjectKey> {
    SubjectKey::from_spki(&params.public_key).map_err(Refusal::because(Code::KeyMalformed))
}

fn lifetime(requested: Option<Duration>) -> Parsed<Ttl> {
    ttl(requested.map_or(0, |requested| requested.seconds))
}

fn credential(issued: NamedSvid) -> Credential {
    let NamedSvid { name, hint, names, svid, .. } = issued;
    let seconds = (svid.not_after - svid.not_before).whole_seconds();
    Credential {
        ttl: Some(Duration { seconds, nanos: 0 }),
        expires_at: Some(Timestamp { seconds: svid.not_after.unix_timestamp(), nanos: 0 }),
        hint,
        workload_identity_name: name,
        workload_identity_revision: String::new(),
        spiffe_id: names.spiffe_id.to_string(),
        x509_svid: Some(X509svidCredential {
            cert: svid.certificate.to_vec(),
            serial_number: svid.serial,
            chain: Vec::new(),
        }),
    }
}
