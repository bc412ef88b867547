//! `teleport.trust.v1.TrustService`: the CAs, without their private keys.

use std::sync::Arc;

use proto::teleport::trust_v1::trust_service_server::TrustService;
use proto::teleport::trust_v1::{
    GetCertAuthoritiesRequest, GetCertAuthoritiesResponse, GetCertAuthorityRequest,
};
use proto::teleport::types::{
    CaKeySet, CertAuthoritySpecV2, CertAuthorityV2, JwtKeyPair, Metadata, SshKeyPair, TlsKeyPair,
};
use tonic::{Request, Response, Status};

use super::{Calls, pem};
use crate::issue::{CaState, Ring};
use crate::service::refusal::{Code, Refusal};
use crate::wire::status;
use crate::wire::teleport::files;

/// The types of CA that there are. One X.509 CA certifies servers, users and workloads; the first two have an SSH CA each, the last
/// has the keys that sign JWTs.
const TYPES: [&str; 3] = [HOST, USER, SPIFFE];

const HOST: &str = "host";
const USER: &str = "user";
const SPIFFE: &str = "spiffe";

#[tonic::async_trait]
impl TrustService for Calls {
    async fn get_cert_authority(
        &self,
        request: Request<GetCertAuthorityRequest>,
    ) -> Result<Response<CertAuthorityV2>, Status> {
        self.caller(&request).await?;
        let GetCertAuthorityRequest { r#type, domain } = request.into_inner();
        if domain != self.cluster() || !TYPES.contains(&r#type.as_str()) {
            return Err(Status::not_found("the cluster has no CA of this type and name"));
        }
        Ok(Response::new(self.authority_of(r#type)?))
    }

    async fn get_cert_authorities(
        &self,
        request: Request<GetCertAuthoritiesRequest>,
    ) -> Result<Response<GetCertAuthoritiesResponse>, Status> {
        self.caller(&request).await?;
        let GetCertAuthoritiesRequest { r#type, include_key } = request.into_inner();
        if include_key {
            return Err(Status::permission_denied(
                "access denied: private keys are never returned",
            ));
        }
        // Of another type there are none, such as of databases.
        let is_known = TYPES.contains(&r#type.as_str());
        let one = is_known.then(|| self.authority_of(r#type)).transpose()?;
        let cert_authorities_v2 = one.into_iter().collect();
        Ok(Response::new(GetCertAuthoritiesResponse { cert_authorities_v2 }))
    }
}

impl Calls {
    fn authority_of(&self, r#type: String) -> Result<CertAuthorityV2, Status> {
        let (keys, mut active, mut other) = (self.keys(), CaKeySet::default(), CaKeySet::default());
        for ca in keys.x509.trusted() {
            let set = if Arc::ptr_eq(ca, keys.x509.active()) { &mut active } else { &mut other };
            set.tls.push(TlsKeyPair { cert: pem(ca.certificate())? });
        }
        let ssh = match r#type.as_str() {
            HOST => Some(&keys.ssh_host),
            USER => Some(&keys.ssh),
            _ => None,
        };
        for ca in ssh.into_iter().flat_map(Ring::trusted) {
            let is_active = ssh.is_some_and(|ring| Arc::ptr_eq(ca, ring.active()));
            let set = if is_active { &mut active } else { &mut other };
            set.ssh.push(SshKeyPair { public_key: ca.public_key().as_bytes().to_vec() });
        }
        if r#type == SPIFFE {
            for (state, key) in keys.jwt.all() {
                let set = if state == CaState::Active { &mut active } else { &mut other };
                let spki = key.ca.public().to_spki().map_err(Refusal::because(Code::Internal));
                let public_key = files::public_key(&spki.map_err(status::teleport)?);
                set.jwt.push(JwtKeyPair { public_key: public_key.map_err(status::teleport)? });
            }
        }
        Ok(CertAuthorityV2 {
            kind: "cert_authority".to_owned(),
            sub_kind: r#type.clone(),
            version: "v2".to_owned(),
            metadata: Some(Metadata { name: self.cluster().to_owned() }),
            spec: Some(CertAuthoritySpecV2 {
                r#type,
                cluster_name: self.cluster().to_owned(),
                active_keys: Some(active),
                additional_trusted_keys: Some(other),
            }),
        })
    }
}
