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

/// The request of an SSH host certificate.
pub(crate) struct SshHostRequest {
    /// The bot's own identity means all that the bot may have.
    pub(crate) selector: Parsed<Selector>,
    pub(crate) key: HostKey,
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

impl CallRequest for SshHostRequest {
    type Issued = SshHostCertificate;

    fn action(&self) -> Action {
        Action::SshHost
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = bounded(&self.service);
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<SshHostCertificate, Refusal> {
        let key = match &self.key {
            HostKey::Proven(key) => key.proven()?,
            HostKey::Named(key) => key.clone()?,
        };
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
                    let issued = call.ssh_host(&identity, principals, &key, validity)?;
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

    fn record_host(&mut self, service: &str, issued: &SshHostCertificate) {
        let record = ServiceRecord {
            certificate_serial: issued.serial.to_string(),
            issued: Timestamp(self.now),
            expires: Timestamp(issued.not_after),
            key_location: KeyLocation::Unproven,
        };
        let service = bounded(service).unwrap_or_default();
        self.instance.record_service(service, record, self.now);
    }
}

impl Issued for SshHostCertificate {
    fn describe(&self, attempt: &mut Attempt) {
        attempt.certificate_serial = Some(self.serial.to_string());
        attempt.certificate_expires = Some(Timestamp(self.not_after));
        attempt.principals.clone_from(&self.principals);
    }
}
