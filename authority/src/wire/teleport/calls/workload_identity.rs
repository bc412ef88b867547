//! `teleport.workloadidentity.v1.WorkloadIdentityIssuanceService`: SVIDs by workload identity.

use proto::teleport::workloadidentity_v1::workload_identity_issuance_service_server::WorkloadIdentityIssuanceService;
use proto::teleport::workloadidentity_v1::{
    Credential, IssueWorkloadIdentitiesRequest, IssueWorkloadIdentitiesResponse,
    IssueWorkloadIdentityRequest, IssueWorkloadIdentityResponse, JwtsvidCredential, JwtsvidParams,
    X509svidCredential, X509svidParams,
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
use crate::service::workload::jwt::{IssuedJwts, NamedJwt};
use crate::service::workload::teleport::{TeleportJwtRequest, TeleportRequest};
use crate::service::workload::x509::NamedSvid;
use crate::wire::{grant, status, ttl, workload};

#[tonic::async_trait]
impl WorkloadIdentityIssuanceService for Calls {
    async fn issue_workload_identity(
        &self,
        request: Request<IssueWorkloadIdentityRequest>,
    ) -> Result<Response<IssueWorkloadIdentityResponse>, Status> {
        let peer = peer(&request)?;
        let IssueWorkloadIdentityRequest { name, x509_svid_params, jwt_svid_params, requested_ttl } =
            request.into_inner();
        let selector = name.try_into().map(Selector::Name);
        let selector = selector.map_err(Refusal::because(Code::Malformed));
        let issued =
            self.issue(peer, selector, (x509_svid_params, jwt_svid_params), requested_ttl).await?;
        let credential = issued.into_iter().next();
        Ok(Response::new(IssueWorkloadIdentityResponse { credential }))
    }

    async fn issue_workload_identities(
        &self,
        request: Request<IssueWorkloadIdentitiesRequest>,
    ) -> Result<Response<IssueWorkloadIdentitiesResponse>, Status> {
        let peer = peer(&request)?;
        let IssueWorkloadIdentitiesRequest {
            label_selectors,
            x509_svid_params,
            jwt_svid_params,
            requested_ttl,
        } = request.into_inner();
        let labels = label_selectors.into_iter().map(|label| (label.key, label.values));
        let selector = workload::labels_selector(labels);
        let params = (x509_svid_params, jwt_svid_params);
        let credentials = self.issue(peer, selector, params, requested_ttl).await?;
        Ok(Response::new(IssueWorkloadIdentitiesResponse { credentials }))
    }
}

impl Calls {
    async fn issue(
        &self,
        peer: Peer,
        selector: Parsed<Selector>,
        params: (Option<X509svidParams>, Option<JwtsvidParams>),
        requested_ttl: Option<Duration>,
    ) -> Result<Vec<Credential>, Status> {
        let ttl = lifetime(requested_ttl);
        match params {
            (Some(params), None) => {
                let request = TeleportRequest { selector, key: key(&params), ttl };
                let granted: Result<Grant<Vec<NamedSvid>>, _> =
                    grant(&self.authority, peer, request).await;
                let issued = granted.map_err(status::teleport)?.issued;
                Ok(issued.into_iter().map(x509_credential).collect())
            }
            (None, Some(params)) => {
                let audiences = params.audiences.try_into();
                let audiences = audiences.map_err(Refusal::because(Code::Malformed));
                let request = TeleportJwtRequest { selector, audiences, ttl };
                let granted: Result<Grant<IssuedJwts>, _> =
                    grant(&self.authority, peer, request).await;
                let issued = granted.map_err(status::teleport)?.issued;
                Ok(issued.jwts.into_iter().map(jwt_credential).collect())
            }
            (None, None) => {
                Err(status::not_supported("a credential that is neither X.509-SVID nor JWT-SVID"))
            }
            (Some(_), Some(_)) => Err(Status::invalid_argument("parameters of two credentials")),
        }
    }
}

fn key(params: &X509svidParams) -> Parsed<SubjectKey> {
    SubjectKey::from_spki(&params.public_key).map_err(Refusal::because(Code::KeyMalformed))
}

fn lifetime(requested: Option<Duration>) -> Parsed<Ttl> {
    ttl(requested.map_or(0, |requested| requested.seconds))
}

fn x509_credential(issued: NamedSvid) -> Credential {
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
        jwt_svid: None,
    }
}

fn jwt_credential(issued: NamedJwt) -> Credential {
    let NamedJwt { name, hint, spiffe_id, svid } = issued;
    let seconds = (svid.expires - svid.issued).whole_seconds();
    Credential {
        ttl: Some(Duration { seconds, nanos: 0 }),
        expires_at: Some(Timestamp { seconds: svid.expires.unix_timestamp(), nanos: 0 }),
        hint,
        workload_identity_name: name,
        workload_identity_revision: String::new(),
        spiffe_id: spiffe_id.to_string(),
        x509_svid: None,
        jwt_svid: Some(JwtsvidCredential { jwt: svid.token, jti: svid.id }),
    }
}
