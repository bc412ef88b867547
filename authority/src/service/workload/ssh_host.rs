//! SSH host certificates.

use super::identities::{Selector, maximum};
use crate::audit::{Action, Attempt, bounded};
use crate::issue::{SshHostCertificate, SubjectKey, Ttl, Validity};
use crate::resource::{
    Attributes, HostPrincipal, KeyLocation, ServiceRecord, Timestamp, WorkloadIdentity,
};
use crate::service::call::{CallRequest, Issued, JudgedCall};
use crate::service::refusal::{Code, Refusal};
use crate::service::reissue::CertificationRequest;
use crate::service::request::Parsed;
use crate::service::residency::location;

/// The request of an SSH host certificate.
pub(crate) struct SshHostRequest {
    /// The bot's own identity means all that the bot may have.
    pub(crate) selector: Parsed<Selector>,
    pub(crate) key: HostKey,
    /// Whether the key is to be certified as one in the TPM.
    pub(crate) key_in_tpm: bool,
    /// The names of the host.
    pub(crate) principals: Parsed<Vec<HostPrincipal>>,
    pub(crate) ttl: Parsed<Ttl>,
    /// What the agent calls the service that asks. For the record only.
    pub(crate) service: String,
}

/// The key of a host.
pub(crate) enum HostKey {
    /// The caller can use it.
    Proven(CertificationRequest),
    /// It belongs to another program: the certificate is of no use without it.
    Named(Parsed<SubjectKey>),
}

impl HostKey {
    /// The public key as its proof of residency names it. A key that does not sign has none.
    fn public_key(&self) -> &[u8] {
        match self {
            Self::Proven(key) => &key.public_key,
            Self::Named(_) => &[],
        }
    }
}

/// A certificate, and what is known of where its key is.
pub(crate) struct IssuedHost {
    pub(crate) certificate: SshHostCertificate,
    key_location: KeyLocation,
}

impl CallRequest for SshHostRequest {
    type Issued = IssuedHost;

    fn action(&self) -> Action {
        Action::SshHost
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = bounded(&self.service);
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<IssuedHost, Refusal> {
        let key = match &self.key {
            HostKey::Proven(key) => key.proven()?,
            HostKey::Named(key) => key.clone()?,
        };
        let key_location = location(&call.instance, self.key.public_key(), self.key_in_tpm)?;
        let principals = self.principals.as_ref().map_err(Clone::clone)?;
        let selector = match self.selector.as_ref().map_err(Clone::clone)? {
            Selector::Own => &Selector::All,
            selector => selector,
        };
        let validity = Validity { now: call.now, ttl: self.ttl.clone()? };
        let mut eligible = call.eligible(selector, &Attributes::default()).await?;
        for identity in std::mem::take(&mut eligible.identities) {
            match check(&identity, principals, &eligible.attributes) {
                Ok(()) => {
                    let certificate = call.ssh_host(&identity, principals, &key, validity)?;
                    let issued = IssuedHost { certificate, key_location };
                    call.record_host(&self.service, &issued);
                    return Ok(issued);
                }
                Err(why) => eligible.refuse(&identity, why),
            }
        }
        Err(eligible.none(selector))
    }
}

/// Whether an identity allows a host all of these names.
fn check(
    identity: &WorkloadIdentity,
    principals: &[HostPrincipal],
    attributes: &Attributes,
) -> Result<(), String> {
    let ssh = identity.spec.ssh.as_ref().ok_or("it is for no SSH certificate")?;
    let allowed = ssh.host.allowed(attributes).map_err(|cause| cause.to_string())?;
    match principals.iter().find(|one| !allowed.contains(one)) {
        Some(other) => Err(format!("spec.ssh.host.principals does not allow {other}")),
        None => Ok(()),
    }
}

impl JudgedCall<'_> {
    fn ssh_host(
        &self,
        identity: &WorkloadIdentity,
        principals: &[HostPrincipal],
        key: &SubjectKey,
        validity: Validity,
    ) -> Result<SshHostCertificate, Refusal> {
        let limit = identity.spec.ssh.as_ref().and_then(|ssh| ssh.host.maximum());
        let maximum = maximum(identity, limit, self.now);
        let issuer = &self.authority.issuer;
        let issued = issuer.ssh_host(self.bot, &self.instance, principals, key, validity, maximum);
        issued.map_err(Refusal::because(Code::Internal))
    }

    fn record_host(&mut self, service: &str, issued: &IssuedHost) {
        let IssuedHost { certificate, key_location } = issued;
        let record = ServiceRecord {
            certificate_serial: certificate.serial.to_string(),
            issued: Timestamp(self.now),
            expires: Timestamp(certificate.not_after),
            key_location: *key_location,
        };
        let service = bounded(service).unwrap_or_default();
        self.instance.record_service(service, record, self.now);
    }
}

impl Issued for IssuedHost {
    fn describe(&self, attempt: &mut Attempt) {
        let SshHostCertificate { serial, not_after, principals, .. } = &self.certificate;
        attempt.certificate_serial = Some(serial.to_string());
        attempt.certificate_expires = Some(Timestamp(*not_after));
        attempt.principals.clone_from(principals);
        attempt.key_location = Some(self.key_location).filter(|location| !location.is_unproven());
    }
}
