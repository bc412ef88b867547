//! What the agent asks for on behalf of its workloads, on a connection that the key in the TPM has authenticated.

use std::time::Duration;

use host::exit::{Exit, Failure};
use proto::transcript;
use proto::v1::identity_selector::By;
use proto::v1::{
    self, GetTrustBundleRequest, IdentitySelector, IssueJwtSvidsRequest, IssueX509SvidsRequest,
    LabelValues, Labels, WorkloadAttributes,
};

use super::authenticated::{Authenticated, Denied};
use super::connection::{CallTime, MAX_CALL};
use super::endorse_v1::seconds;
use crate::attest::Caller;
use crate::config::Selector;
use crate::credential::Voucher;
use crate::credential::jwt::JwtKey;
use crate::credential::svid::{
    self, Bundle, JwtSvid, KeyedSvid, UnverifiedBundle, UnverifiedX509, X509Svid,
};
use crate::credential::validity::Validity;
use crate::keys::{Key, SoftwareKey, spki_der};

/// What is asked for, and for which workload.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The workload identities.
    pub selector: Selector,
    /// The workload, if it matters which one it is.
    pub workload: Option<Caller>,
    /// The service that serves it.
    pub service: String,
    /// The requested lifetime; the authority's default if it is zero.
    pub ttl: Duration,
}

/// What the authority learns of a caller. Its process ID is not in it: other processes of the same program have the same SVID.
fn attributes(caller: &Caller) -> WorkloadAttributes {
    let unix = &caller.unix;
    let executable = unix.executable.as_ref();
    let hash = executable.and_then(|executable| executable.sha256);
    let systemd = &caller.systemd;
    let has_unit =
        [&systemd.unit, &systemd.slice, &systemd.user_unit].into_iter().any(Option::is_some);
    WorkloadAttributes {
        unix: Some(v1::Unix {
            pid: 0,
            uid: unix.uid,
            gid: unix.gid,
            supplementary_gids: unix.supplementary_gids.clone(),
            binary_path: executable
                .and_then(|file| file.host_path())
                .unwrap_or_default()
                .to_owned(),
            binary_hash: hash.map(|hash| base16ct::lower::encode_string(&hash)).unwrap_or_default(),
        }),
        systemd: has_unit.then(|| v1::Systemd {
            service: systemd.unit.clone().unwrap_or_default(),
            slice: systemd.slice.clone().unwrap_or_default(),
            user_service: systemd.user_unit.clone().unwrap_or_default(),
        }),
        container: caller.container.as_ref().map(|container| v1::Container {
            id: container.id.clone(),
            runtime: container.runtime.map(|runtime| runtime.to_string()).unwrap_or_default(),
        }),
        kubernetes: caller.pod_uid.clone().map(|pod_uid| v1::Kubernetes { pod_uid }),
    }
}

/// A selector, in this trust domain.
pub(super) fn selector(selector: &Selector, trust_domain: &str) -> IdentitySelector {
    let by = match selector {
        Selector::Own => None,
        Selector::Name(name) => Some(By::Name(name.clone())),
        Selector::Path(path) => Some(By::SpiffeId(format!("spiffe://{trust_domain}{path}"))),
        Selector::Labels(labels) => {
            let value = |values: &Vec<String>| LabelValues { values: values.clone() };
            let labels = labels.iter().map(|(key, values)| (key.clone(), value(values)));
            Some(By::Labels(Labels { labels: labels.collect() }))
        }
    };
    IdentitySelector { by }
}

impl Authenticated {
    /// X.509-SVIDs for a new key, and the trust bundle.
    ///
    /// # Errors
    /// Those of the authority: [`Exit::Refused`] if the workload may have none.
    pub async fn x509_svids(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Vec<KeyedSvid>, Bundle), Denied> {
        let key = SoftwareKey::generate()?;
        let (svids, bundle) = self.x509_svids_for(wanted, &key).await?;
        let pkcs8 = key.to_pkcs8()?;
        let keyed = |svid| KeyedSvid { svid, key: pkcs8.clone() };
        Ok((svids.into_iter().map(keyed).collect(), bundle))
    }

    /// X.509-SVIDs for this key, and the trust bundle. A key in the TPM must have been proven: [`Self::prove_key`].
    ///
    /// # Errors
    /// As [`Self::x509_svids`].
    pub async fn x509_svids_for(
        &mut self,
        wanted: &Wanted,
        key: &dyn Key,
    ) -> Result<(Vec<X509Svid>, Bundle), Denied> {
        let public_key = spki_der(&key.public())?;
        let digest = transcript::issue_digest(&self.exporter, &public_key);
        let request = IssueX509SvidsRequest {
            selector: Some(selector(&wanted.selector, &self.cluster)),
            workload: wanted.workload.as_ref().map(attributes),
            signature: key.sign(&digest).await?,
            public_key: public_key.clone(),
            ttl_seconds: seconds(wanted.ttl),
            service: wanted.service.clone(),
            key_in_tpm: key.is_in_tpm(),
        };
        self.budget.set(Some(MAX_CALL));
        let issued = CallTime::new().wait(self.workloads.issue_x509_svids(request)).await;
        let issued = issued.map_err(|status| self.refused(&status))?.into_inner();
        let bundle = self.bundle(issued.bundle.unwrap_or_default())?;
        let now = u64::try_from(host::clock::now().unix_timestamp()).map_err(Failure::bug)?;
        let unverified = |svid: v1::X509Svid| UnverifiedX509 {
            spiffe_id: svid.spiffe_id,
            hint: svid.hint,
            certificates: svid.certificates,
        };
        let svids = issued.svids.into_iter().map(unverified).collect();
        let svids = svid::x509_svids(svids, &bundle, &public_key, now);
        Ok((svids.map_err(unusable)?, bundle))
    }

    /// JWT-SVIDs for these audiences: of one identity if it is named, else of each.
    ///
    /// # Errors
    /// Those of the authority: [`Exit::Refused`] if the workload may have none.
    pub async fn jwt_svids(
        &mut self,
        wanted: &Wanted,
        audiences: &[String],
        spiffe_id: Option<&str>,
        bundle: &Bundle,
    ) -> Result<Vec<JwtSvid>, Denied> {
        let request = IssueJwtSvidsRequest {
            selector: Some(selector(&wanted.selector, &self.cluster)),
            workload: wanted.workload.as_ref().map(attributes),
            audiences: audiences.to_vec(),
            ttl_seconds: seconds(wanted.ttl),
            service: wanted.service.clone(),
            spiffe_id: spiffe_id.unwrap_or_default().to_owned(),
        };
        self.budget.set(Some(MAX_CALL));
        let issued = CallTime::new().wait(self.workloads.issue_jwt_svids(request)).await;
        let issued = issued.map_err(|status| self.refused(&status))?.into_inner();
        let now = host::clock::now().unix_timestamp();
        let unverified = |svid: v1::JwtSvid| JwtSvid {
            spiffe_id: svid.spiffe_id,
            hint: svid.hint,
            token: svid.token,
            validity: Validity { not_before: svid.issued, not_after: svid.expires },
        };
        let svids = issued.svids.into_iter().map(unverified).collect();
        Ok(svid::jwt_svids(svids, bundle, audiences, now).map_err(unusable)?)
    }

    /// The trust bundle as it is now.
    ///
    /// # Errors
    /// Those of the authority.
    pub async fn trust_bundle(&mut self) -> Result<Bundle, Denied> {
        self.budget.set(Some(MAX_CALL));
        let asked = self.workloads.get_trust_bundle(GetTrustBundleRequest {});
        let bundle = CallTime::new().wait(asked).await;
        let bundle = bundle.map_err(|status| self.refused(&status))?.into_inner();
        Ok(self.bundle(bundle)?)
    }

    /// The trust bundle of an answer, which the CAs of the connection vouch for.
    pub(super) fn bundle(&self, bundle: v1::TrustBundle) -> Result<Bundle, Failure> {
        self.note_lowest(bundle.min_trust_version);
        let voucher = Voucher::ClusterCas(&self.trusted);
        let key = |key: v1::JwtAuthority| JwtKey::new(&key.key_id, &key.algorithm, &key.public_key);
        let bundle = UnverifiedBundle {
            trust_domain: bundle.trust_domain,
            x509: bundle.x509_authorities,
            jwt: bundle.jwt_authorities.into_iter().map(key).collect(),
            sequence: bundle.sequence,
            refresh_hint: bundle.refresh_hint_seconds,
        };
        Bundle::verify(bundle, &self.cluster, voucher).map_err(unusable)
    }
}

pub(super) fn unusable(what: String) -> Failure {
    Failure::new(
        Exit::Data,
        format!("the authority issued {what}"),
        "compare the clocks of both machines and check the authority's log",
    )
}
