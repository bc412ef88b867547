//! X.509-SVIDs.

use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME, ORGANIZATIONAL_UNIT_NAME};

use super::identities::{Selector, maximum};
use crate::audit::{Action, Attempt, IssuedSvid, bounded};
use crate::issue::{SubjectKey, SvidNames, SvidSubject, Ttl, Validity, X509Svid, spiffe_id};
use crate::resource::{
    Attributes, KeyLocation, RenderError, ServiceRecord, SpiffeId, SvidAttributes, Timestamp,
    WorkloadIdentity,
};
use crate::service::call::{CallRequest, Issued, JudgedCall};
use crate::service::refusal::{Code, Refusal};
use crate::service::reissue::CertificationRequest;
use crate::service::request::Parsed;
use crate::service::residency::location;

/// The request of X.509-SVIDs for one key.
pub(crate) struct X509Request {
    pub(crate) selector: Parsed<Selector>,
    /// What the agent has attested of the workload.
    pub(crate) workload: Parsed<Attributes>,
    pub(crate) key: CertificationRequest,
    /// Whether the key is to be certified as one in the TPM.
    pub(crate) key_in_tpm: bool,
    pub(crate) ttl: Parsed<Ttl>,
    /// What the agent calls the service that asks. For the record only.
    pub(crate) service: String,
}

/// A key to certify, and what is known of where it is.
pub(crate) struct LocatedKey {
    pub(crate) key: SubjectKey,
    pub(crate) location: KeyLocation,
}

/// An X.509-SVID, and by which workload identity it was issued.
#[derive(Debug, Clone)]
pub(crate) struct NamedSvid {
    /// Empty for the bot's own.
    pub(crate) name: String,
    pub(crate) hint: String,
    pub(crate) names: SvidNames,
    pub(crate) svid: X509Svid,
    pub(crate) key_location: KeyLocation,
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
        let key = LocatedKey {
            key: self.key.proven()?,
            location: location(&call.instance, &self.key.public_key, self.key_in_tpm)?,
        };
        let workload = self.workload.as_ref().map_err(Clone::clone)?;
        let selector = self.selector.as_ref().map_err(Clone::clone)?;
        let ttl = self.ttl.clone()?;
        let issued = call.x509_svids(selector, workload, &key, ttl).await?;
        call.record_svids(&self.service, &issued);
        Ok(issued)
    }
}

impl JudgedCall<'_> {
    /// An X.509-SVID for each workload identity that the selector means, and that bot and workload may have; at least one.
    pub(crate) async fn x509_svids(
        &mut self,
        selector: &Selector,
        workload: &Attributes,
        key: &LocatedKey,
        ttl: Ttl,
    ) -> Result<Vec<NamedSvid>, Refusal> {
        let own = self.own_spiffe_id()?;
        if selector.is_own(&own) {
            let names = SvidNames { spiffe_id: own, dns: Vec::new(), subject: SvidSubject::Bot };
            return Ok(vec![self.x509_svid(None, names, key, ttl)?]);
        }
        let mut eligible = self.eligible(selector, workload).await?;
        let cluster = self.authority.issuer.cluster().as_str();
        let mut issued = Vec::new();
        for identity in std::mem::take(&mut eligible.identities) {
            match names(&identity, cluster, &eligible.attributes) {
                Ok(names) => issued.push(self.x509_svid(Some(&identity), names, key, ttl)?),
                Err(why) => eligible.refuse(&identity, why),
            }
        }
        if issued.is_empty() { Err(eligible.none(selector)) } else { Ok(issued) }
    }

    /// The SPIFFE ID of the bot itself.
    pub(super) fn own_spiffe_id(&self) -> Result<SpiffeId, Refusal> {
        let id = spiffe_id(self.authority.issuer.cluster(), &self.bot.metadata.name);
        id.parse().map_err(Refusal::because(Code::Internal))
    }

    fn x509_svid(
        &self,
        identity: Option<&WorkloadIdentity>,
        names: SvidNames,
        LocatedKey { key, location }: &LocatedKey,
        ttl: Ttl,
    ) -> Result<NamedSvid, Refusal> {
        let spiffe = identity.and_then(|identity| identity.spec.spiffe.as_ref());
        let limit = spiffe.and_then(|spiffe| spiffe.x509.maximum());
        let maximum = identity.and_then(|identity| maximum(identity, limit, self.now));
        let (issuer, validity) = (&self.authority.issuer, Validity { now: self.now, ttl });
        let svid =
            issuer.x509_svid(self.bot, &self.instance, &names, (key, *location), validity, maximum);
        Ok(NamedSvid {
            name: identity.map(|identity| identity.metadata.name.to_string()).unwrap_or_default(),
            hint: spiffe.map(|spiffe| spiffe.hint.clone()).unwrap_or_default(),
            names,
            svid: svid.map_err(Refusal::because(Code::Internal))?,
            key_location: *location,
        })
    }

    /// Takes the one that ends last for the record of the service.
    pub(crate) fn record_svids(&mut self, service: &str, issued: &[NamedSvid]) {
        let Some(last) = issued.iter().max_by_key(|one| one.svid.not_after) else { return };
        let record = ServiceRecord {
            key_location: last.key_location,
            certificate_serial: last.svid.serial.clone(),
            issued: Timestamp(self.now),
            expires: Timestamp(last.svid.not_after),
        };
        let service = bounded(service).unwrap_or_default();
        self.instance.record_service(service, record, self.now);
    }
}

/// What an X.509-SVID of this identity says for a workload.
fn names(
    identity: &WorkloadIdentity,
    cluster: &str,
    attributes: &Attributes,
) -> Result<SvidNames, String> {
    let spiffe = identity.spec.spiffe.as_ref().ok_or("it has no SPIFFE ID")?;
    let why = |cause: RenderError| cause.to_string();
    let SvidAttributes { common_name, organization, organizational_unit } =
        spiffe.x509.subject(attributes).map_err(why)?;
    let subject = [
        (ORGANIZATION_NAME, organization),
        (ORGANIZATIONAL_UNIT_NAME, organizational_unit),
        (COMMON_NAME, common_name),
    ];
    let subject = subject.into_iter().filter_map(|(oid, text)| text.map(|text| (oid, text)));
    Ok(SvidNames {
        spiffe_id: spiffe.spiffe_id(cluster, attributes).map_err(why)?,
        dns: spiffe.x509.dns_names(attributes).map_err(why)?,
        subject: SvidSubject::Attributes(subject.collect()),
    })
}

impl Issued for Vec<NamedSvid> {
    fn describe(&self, attempt: &mut Attempt) {
        let svid = |one: &NamedSvid| IssuedSvid {
            workload_identity: bounded(&one.name),
            spiffe_id: one.names.spiffe_id.clone(),
            certificate_serial: Some(one.svid.serial.clone()),
            jti: None,
            expires: Timestamp(one.svid.not_after),
        };
        attempt.svids = self.iter().map(svid).collect();
        let location = self.first().map(|one| one.key_location);
        attempt.key_location = location.filter(|location| !location.is_unproven());
    }
}
