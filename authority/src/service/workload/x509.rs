//! X.509-SVIDs.

use super::{Selector, none_issued};
use crate::audit::{Action, Attempt, IssuedSvid, bounded};
use crate::issue::{SvidNames, SvidSubject, Ttl, Validity, X509Svid, spiffe_id};
use crate::resource::{Attributes, ServiceRecord, Timestamp};
use crate::service::call::{CallRequest, Issued, JudgedCall};
use crate::service::refusal::{Code, Refusal};
use crate::service::reissue::CertificationRequest;
use crate::service::request::Parsed;

/// The request of X.509-SVIDs for one key.
pub(crate) struct X509Request {
    pub(crate) selector: Parsed<Selector>,
    /// What the agent has attested of the workload.
    pub(crate) workload: Parsed<Attributes>,
    pub(crate) key: CertificationRequest,
    pub(crate) ttl: Parsed<Ttl>,
    /// What the agent calls the service that asks. For the record only.
    pub(crate) service: String,
}

/// An X.509-SVID, and by which workload identity it was issued.
#[derive(Debug, Clone)]
pub(crate) struct NamedSvid {
    /// Empty for the bot's own.
    pub(crate) name: String,
    pub(crate) hint: String,
    pub(crate) names: SvidNames,
    pub(crate) svid: X509Svid,
}

impl CallRequest for X509Request {
    type Issued = Vec<NamedSvid>;

    fn action(&self) -> Action {
        Action::X509Svid
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = bounded(&self.service);
        attempt.workload = self.workload.as_ref().ok().filter(|known| !known.is_empty()).cloned();
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Vec<NamedSvid>, Refusal> {
        let key = self.key.proven()?;
        self.workload.as_ref().map_err(Clone::clone)?;
        let selector = self.selector.as_ref().map_err(Clone::clone)?;
        let validity = Validity { now: call.now, ttl: self.ttl.clone()? };
        let issuer = &call.authority.issuer;
        let names = match selector {
            Selector::Own => {
                let id = spiffe_id(issuer.cluster(), &call.bot.metadata.name);
                let spiffe_id = id.parse().map_err(Refusal::because(Code::Internal))?;
                SvidNames { spiffe_id, dns: Vec::new(), subject: SvidSubject::Bot }
            }
            Selector::Name(name) => {
                return Err(none_issued(format!("the workload identity {name} does not exist")));
            }
        };
        let svid = issuer.x509_svid(call.bot, &call.instance, &names, &key, validity, None);
        let svid = svid.map_err(Refusal::because(Code::Internal))?;
        let record = ServiceRecord {
            certificate_serial: svid.serial.clone(),
            issued: Timestamp(call.now),
            expires: Timestamp(svid.not_after),
        };
        let service = bounded(&self.service).unwrap_or_default();
        call.instance.record_service(service, record, call.now);
        Ok(vec![NamedSvid { name: String::new(), hint: String::new(), names, svid }])
    }
}

impl Issued for Vec<NamedSvid> {
    fn describe(&self, attempt: &mut Attempt) {
        let svid = |one: &NamedSvid| IssuedSvid {
            workload_identity: bounded(&one.name),
            spiffe_id: one.names.spiffe_id.clone(),
            certificate_serial: Some(one.svid.serial.clone()),
            expires: Timestamp(one.svid.not_after),
        };
        attempt.svids = self.iter().map(svid).collect();
    }
}
