//! SVIDs as an agent of Teleport asks for them: with the certificate of its bot, or with one that it was issued by it.

use super::identities::Selector;
use super::jwt::IssuedJwts;
use super::x509::{LocatedKey, NamedSvid};
use crate::audit::{Action, Attempt};
use crate::issue::{Audiences, SubjectKey, Ttl};
use crate::resource::{Attributes, KeyLocation};
use crate::service::call::{CallRequest, JudgedCall};
use crate::service::caller::{Caller, CallerRecords};
use crate::service::impersonation;
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;

/// Agents of Teleport ask with a certificate with chosen roles. Its key need not be in the TPM, so the SVIDs end with it.
fn check_caller(records: &CallerRecords, caller: &Caller) -> Result<Option<u64>, Refusal> {
    if caller.subject.impersonated {
        return Ok(None);
    }
    records.check_is_instance(caller).map(Some)
}

fn until_caller_ends(ttl: &Parsed<Ttl>, call: &JudgedCall<'_>) -> Result<Ttl, Refusal> {
    let ends = call.caller.not_after.unix_timestamp();
    let ttl = ttl.clone()?.at_most_until(ends, call.now);
    ttl.map_err(Refusal::because(Code::Malformed))
}

/// The request of JWT-SVIDs.
pub(crate) struct TeleportJwtRequest {
    pub(crate) selector: Parsed<Selector>,
    pub(crate) audiences: Parsed<Audiences>,
    pub(crate) ttl: Parsed<Ttl>,
}

impl CallRequest for TeleportJwtRequest {
    type Issued = IssuedJwts;

    fn action(&self) -> Action {
        Action::JwtSvid
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = Some(impersonation::SERVICE.to_owned());
    }

    fn check_caller(
        &self,
        records: &CallerRecords,
        caller: &Caller,
    ) -> Result<Option<u64>, Refusal> {
        check_caller(records, caller)
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<IssuedJwts, Refusal> {
        let selector = self.selector.as_ref().map_err(Clone::clone)?;
        let (audiences, ttl) = (self.audiences.clone()?, until_caller_ends(&self.ttl, call)?);
        call.jwt_svids(selector, &Attributes::default(), audiences, None, ttl).await
    }
}

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

    fn check_caller(
        &self,
        records: &CallerRecords,
        caller: &Caller,
    ) -> Result<Option<u64>, Refusal> {
        check_caller(records, caller)
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Vec<NamedSvid>, Refusal> {
        let key = LocatedKey { key: self.key.clone()?, location: KeyLocation::Unproven };
        let selector = self.selector.as_ref().map_err(Clone::clone)?;
        let ttl = until_caller_ends(&self.ttl, call)?;
        let issued = call.x509_svids(selector, &Attributes::default(), &key, ttl).await?;
        call.record_svids(impersonation::SERVICE, &issued);
        Ok(issued)
    }
}
