//! `endorse.v1` for workloads: what the messages mean to the service, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::v1::identity_selector::By;
use proto::v1::workload_service_server::WorkloadService;
use proto::v1::{
    GetTrustBundleRequest, IdentitySelector, IssueJwtSvidsRequest, IssueJwtSvidsResponse,
    IssueSshHostRequest, IssueSshHostResponse, IssueX509SvidsRequest, IssueX509SvidsResponse,
    JwtAuthority, JwtSvid, TrustBundle, WorkloadAttributes, X509Svid,
};
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::{certification_request, grant, peer, ttl};
use crate::issue::{
    CaState, Dated, JwtKey, Keys, MAX_JWT_LIFETIME, REFRESH_HINT, SubjectKey, SubjectKeyError,
};
use crate::resource::{Attributes, HostPrincipal};
use crate::service::Authority;
use crate::service::grant::Grant;
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;
use crate::service::workload::bundle;
use crate::service::workload::identities::Selector;
use crate::service::workload::jwt::{IssuedJwts, JwtRequest, NamedJwt};
use crate::service::workload::ssh_host::{HostKey, IssuedHost, SshHostRequest};
use crate::service::workload::x509::{NamedSvid, X509Request};

/// Texts and lists of a workload's attributes that are believed. The longest path of Linux is as long.
const MAX_TEXT: usize = 4096;
const MAX_GROUPS: usize = 1024;

/// Names in an SSH host certificate.
const MAX_PRINCIPALS: usize = 64;

/// Labels of a selector.
const MAX_LABELS: usize = 32;

/// The service for workloads.
pub(crate) struct Workloads(pub(crate) Arc<Authority>);

#[tonic::async_trait]
impl WorkloadService for Workloads {
    async fn issue_x509_svids(
        &self,
        request: Request<IssueX509SvidsRequest>,
    ) -> Result<Response<IssueX509SvidsResponse>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        let request = X509Request {
            selector: selector(request.selector),
            workload: attributes(request.workload.unwrap_or_default()),
            key: certification_request(request.public_key, request.signature, &peer.exporter),
            key_in_tpm: request.key_in_tpm,
            ttl: ttl(request.ttl_seconds),
            service: request.service,
        };
        let granted: Grant<Vec<NamedSvid>> = grant(&self.0, peer, request).await?;
        Ok(Response::new(IssueX509SvidsResponse {
            svids: granted.issued.into_iter().map(x509_svid).collect(),
            bundle: Some(trust_bundle(granted.cluster.as_str(), &granted.cas)?),
        }))
    }

    async fn issue_jwt_svids(
        &self,
        request: Request<IssueJwtSvidsRequest>,
    ) -> Result<Response<IssueJwtSvidsResponse>, Status> {
        let peer = peer(&request)?;
        let request = request.into_inner();
        let only = Some(request.spiffe_id).filter(|id| !id.is_empty());
        let request = JwtRequest {
            selector: selector(request.selector),
            workload: attributes(request.workload.unwrap_or_default()),
            audiences: request.audiences.try_into().map_err(Refusal::because(Code::Malformed)),
            only: only.map(|id| id.parse()).transpose().map_err(Refusal::because(Code::Malformed)),
            ttl: ttl(request.ttl_seconds),
            service: request.service,
        };
        let granted: Grant<IssuedJwts> = grant(&self.0, peer, request).await?;
        let svids = granted.issued.jwts.into_iter().map(jwt_svid).collect();
        Ok(Response::new(IssueJwtSvidsResponse { svids }))
    }

    async fn issue_ssh_host(
        &self,
        request: Request<IssueSshHostRequest>,
    ) -> Result<Response<IssueSshHostResponse>, Status> {
        let peer = peer(&request)?;
        let request = ssh_host_request(request.into_inner(), &peer.exporter);
        let granted: Grant<IssuedHost> = grant(&self.0, peer, request).await?;
        let issued = granted.issued.certificate;
        Ok(Response::new(IssueSshHostResponse {
            certificate: issued.certificate,
            not_before: issued.not_before.unix_timestamp(),
            not_after: issued.not_after.unix_timestamp(),
            bundle: Some(trust_bundle(granted.cluster.as_str(), &granted.cas)?),
        }))
    }

    async fn get_trust_bundle(
        &self,
        request: Request<GetTrustBundleRequest>,
    ) -> Result<Response<TrustBundle>, Status> {
        let bundle::TrustBundle { cluster, cas } = self.0.trust_bundle(&peer(&request)?).await?;
        Ok(Response::new(trust_bundle(cluster.as_str(), &cas)?))
    }
}

fn ssh_host_request(request: IssueSshHostRequest, exporter: &[u8; 32]) -> SshHostRequest {
    let IssueSshHostRequest { public_key, signature, principals, .. } = request;
    // DER begins with SEQUENCE, the wire format of SSH with the length of the algorithm's name.
    let key = match public_key.first() {
        Some(0x30) if signature.is_empty() => {
            HostKey::Named(key(SubjectKey::from_spki(&public_key)))
        }
        Some(0x30) => HostKey::Proven(certification_request(public_key, signature, exporter)),
        _ if signature.is_empty() => HostKey::Named(key(SubjectKey::from_ssh(&public_key))),
        _ => {
            let reason = "a key that signs must be a SubjectPublicKeyInfo";
            HostKey::Named(Err(Refusal::new(Code::KeyMalformed, reason)))
        }
    };
    SshHostRequest {
        selector: selector(request.selector),
        key,
        key_in_tpm: request.key_in_tpm,
        principals: host_principals(principals),
        ttl: ttl(request.ttl_seconds),
        service: request.service,
    }
}

fn key(key: Result<SubjectKey, SubjectKeyError>) -> Parsed<SubjectKey> {
    key.map_err(Refusal::because(Code::KeyMalformed))
}

/// The names of a host, each once. A certificate without names would be valid for every host.
fn host_principals(names: Vec<String>) -> Parsed<Vec<HostPrincipal>> {
    if names.is_empty() || names.len() > MAX_PRINCIPALS {
        let reason = format!("a host certificate must have 1 to {MAX_PRINCIPALS} principals");
        return Err(Refusal::new(Code::Malformed, reason));
    }
    let mut all = Vec::new();
    for name in names {
        let name = HostPrincipal::try_from(name).map_err(Refusal::because(Code::Malformed))?;
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

fn selector(selector: Option<IdentitySelector>) -> Parsed<Selector> {
    let malformed = Refusal::because(Code::Malformed);
    match selector.and_then(|selector| selector.by) {
        None => Ok(Selector::Own),
        Some(By::Name(name)) => name.try_into().map(Selector::Name).map_err(malformed),
        Some(By::Labels(labels)) => {
            labels_selector(labels.labels.into_iter().map(|(label, of)| (label, of.values)))
        }
        Some(By::SpiffeId(id)) => id.parse().map(Selector::SpiffeId).map_err(malformed),
    }
}

/// Labels, each with its values.
pub(super) fn labels_selector(
    labels: impl Iterator<Item = (String, Vec<String>)>,
) -> Parsed<Selector> {
    let labels: BTreeMap<_, _> = labels.collect();
    // Without labels, the selector would mean all workload identities.
    if labels.is_empty() || labels.len() > MAX_LABELS {
        let reason = format!("a selector by labels must have 1 to {MAX_LABELS} of them");
        return Err(Refusal::new(Code::Malformed, reason));
    }
    Ok(Selector::Labels(labels))
}

/// The attributes, by the names that rules and templates use.
fn attributes(workload: WorkloadAttributes) -> Parsed<Attributes> {
    const ATTESTED: &str = "true";
    let mut all = Attributes::default();
    if let Some(unix) = workload.unix {
        if unix.supplementary_gids.len() > MAX_GROUPS {
            let reason = format!("a workload with more than {MAX_GROUPS} groups");
            return Err(Refusal::new(Code::Malformed, reason));
        }
        all.set("workload.unix.attested", ATTESTED);
        all.set("workload.unix.pid", unix.pid);
        all.set("workload.unix.uid", unix.uid);
        all.set("workload.unix.gid", unix.gid);
        all.set_all("workload.unix.supplementary_gids", unix.supplementary_gids);
        all.set("workload.unix.binary_path", text(unix.binary_path)?);
        all.set("workload.unix.binary_hash", text(unix.binary_hash)?);
    }
    if let Some(systemd) = workload.systemd {
        all.set("workload.systemd.attested", ATTESTED);
        all.set("workload.systemd.service", text(systemd.service)?);
        all.set("workload.systemd.slice", text(systemd.slice)?);
        all.set("workload.systemd.user_service", text(systemd.user_service)?);
    }
    if let Some(container) = workload.container {
        all.set("workload.container.attested", ATTESTED);
        all.set("workload.container.id", text(container.id)?);
        all.set("workload.container.runtime", text(container.runtime)?);
    }
    if let Some(kubernetes) = workload.kubernetes {
        all.set("workload.kubernetes.attested", ATTESTED);
        all.set("workload.kubernetes.pod_uid", text(kubernetes.pod_uid)?);
    }
    Ok(all)
}

fn text(text: String) -> Parsed<String> {
    if text.len() > MAX_TEXT {
        let reason = format!("an attribute of the workload has more than {MAX_TEXT} bytes");
        return Err(Refusal::new(Code::Malformed, reason));
    }
    Ok(text)
}

fn x509_svid(issued: NamedSvid) -> X509Svid {
    let NamedSvid { name, hint, names, svid, .. } = issued;
    X509Svid {
        name,
        spiffe_id: names.spiffe_id.to_string(),
        hint,
        certificates: vec![svid.certificate.to_vec()],
        not_before: svid.not_before.unix_timestamp(),
        not_after: svid.not_after.unix_timestamp(),
    }
}

fn jwt_svid(issued: NamedJwt) -> JwtSvid {
    let NamedJwt { name, hint, spiffe_id, svid } = issued;
    JwtSvid {
        name,
        spiffe_id: spiffe_id.to_string(),
        hint,
        token: svid.token,
        issued: svid.issued.unix_timestamp(),
        expires: svid.expires.unix_timestamp(),
    }
}

fn trust_bundle(cluster: &str, cas: &Keys) -> Result<TrustBundle, Refusal> {
    let jwt = cas.jwt.all().map(|(state, key)| jwt_authority(state, key));
    Ok(TrustBundle {
        trust_domain: cluster.to_owned(),
        x509_authorities: cas.x509.trusted().map(|ca| ca.certificate().to_vec()).collect(),
        jwt_authorities: jwt.collect::<Result<_, _>>()?,
        ssh_user_cas: cas.ssh.public_keys(),
        ssh_host_cas: cas.ssh_host.public_keys(),
        sequence: cas.sequence,
        refresh_hint_seconds: REFRESH_HINT.as_secs().try_into().unwrap_or(i64::MAX),
        min_trust_version: cas.tainted.version,
    })
}

fn jwt_authority(state: CaState, key: &Dated<JwtKey>) -> Result<JwtAuthority, Refusal> {
    let public = key.ca.public();
    let end = (state == CaState::Retired).then(|| key.since + MAX_JWT_LIFETIME);
    Ok(JwtAuthority {
        key_id: public.key_id().to_owned(),
        public_key: public.to_spki().map_err(Refusal::because(Code::Internal))?,
        algorithm: public.algorithm().to_string(),
        not_after: end.map_or(0, OffsetDateTime::unix_timestamp),
    })
}
