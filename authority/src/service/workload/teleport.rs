//! X.509-SVIDs as an agent of Teleport asks for them: with the certificate of its bot, or with one that it was issued by it.

use super::identities::Selector;
use super::x509::{LocatedKey, NamedSvid};
use crate::audit::{Action, Attempt};
use crate::issue::{SubjectKey, Ttl};
use crate::resource::{Attributes, KeyLocation};
use crate::service::call::{CallRequest, JudgedCall};
use crate::service::caller::{Caller, CallerRecords};
use crate::service::impersonation;
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;

/// The request of X.509-SVIDs. What an agent of Teleport attested of the workload is not read, so rules that need it do not match.
pub(crate) struct TeleportRequest {
    pub(crate) selector: Parsed<Selector>,
    /// The key to certify. Nothing proves that the caller has it; without it, the certificates are of no use.
    pub(crate) key: Parsed<SubjectKey>,
    pub(crate) ttl: Parsed<Ttl>,
}

impl CallRequest for TeleportRequest {
    type Issued = Vec<NamedSvid>;

    fn action(&self) -> Action {
        Action::X509Svid
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = Some(impersonation::SERVICE.to_owned());
    }

    /// Agents of Teleport ask with a certificate with chosen roles. Its key need not be in the TPM, so the SVIDs end with it.
    fn check_caller(
        &self,
        records: &CallerRecords,
        caller: &Caller,
    ) -> Result<Option<u64>, Refusal> {
        if caller.subject.impersonated {
            return Ok(None);
        }
        records.check_is_instance(caller).map(Some)
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Vec<NamedSvid>, Refusal> {
        let key = LocatedKey { key: self.key.clone()?, location: KeyLocation::Unproven };
        let selector = self.selector.as_ref().map_err(Clone::clone)?;
        let ends = call.caller.not_after.unix_timestamp();
        let ttl = self.ttl.clone()?.at_most_until(ends, call.now);
        let ttl = ttl.map_err(Refusal::because(Code::Malformed))?;
        let issued = call.x509_svids(selector, &Attributes::default(), &key, ttl).await?;
        call.record_svids(impersonation::SERVICE, &issued);
        Ok(issued)
    }
}
