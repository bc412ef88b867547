//! JWT-SVIDs.

use serde_json::Map;

use super::identities::{Selector, maximum};
use super::none_issued;
use crate::audit::{Action, Attempt, IssuedSvid, bounded};
use crate::issue::{Audiences, JwtClaims, JwtSvid, Ttl};
use crate::resource::{Attributes, SpiffeId, Timestamp, WorkloadIdentity};
use crate::service::call::{CallRequest, Issued, JudgedCall};
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;

/// The request of JWT-SVIDs.
pub(crate) struct JwtRequest {
    pub(crate) selector: Parsed<Selector>,
    /// What the agent has attested of the workload.
    pub(crate) workload: Parsed<Attributes>,
    pub(crate) audiences: Parsed<Audiences>,
    /// The only SPIFFE ID that is wanted; without it, each that the selector means.
    pub(crate) only: Parsed<Option<SpiffeId>>,
    pub(crate) ttl: Parsed<Ttl>,
    /// What the agent calls the service that asks. For the record only.
    pub(crate) service: String,
}

/// A JWT-SVID, and by which workload identity it was issued.
#[derive(Debug, Clone)]
pub(crate) struct NamedJwt {
    /// Empty for the bot's own.
    pub(crate) name: String,
    pub(crate) hint: String,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) svid: JwtSvid,
}

/// The JWT-SVIDs of one call.
#[derive(Debug, Clone)]
pub(crate) struct IssuedJwts {
    pub(crate) jwts: Vec<NamedJwt>,
    audiences: Audiences,
}

impl CallRequest for JwtRequest {
    type Issued = IssuedJwts;

    fn action(&self) -> Action {
        Action::JwtSvid
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = bounded(&self.service);
        attempt.workload = self.workload.as_ref().ok().filter(|known| !known.is_empty()).cloned();
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<IssuedJwts, Refusal> {
        let workload = self.workload.as_ref().map_err(Clone::clone)?;
        let selector = self.selector.as_ref().map_err(Clone::clone)?;
        let (audiences, only) = (self.audiences.clone()?, self.only.clone()?);
        call.jwt_svids(selector, workload, audiences, only.as_ref(), self.ttl.clone()?).await
    }
}

impl JudgedCall<'_> {
    /// A JWT-SVID for each workload identity that the selector means, and that bot and workload may have; at least one. If `only`
    /// is set: the one for this SPIFFE ID.
    pub(super) async fn jwt_svids(
        &mut self,
        selector: &Selector,
        workload: &Attributes,
        audiences: Audiences,
        only: Option<&SpiffeId>,
        ttl: Ttl,
    ) -> Result<IssuedJwts, Refusal> {
        let own = self.own_spiffe_id()?;
        let is_wanted = |id: &SpiffeId| only.is_none_or(|only| only == id);
        if selector.is_own(&own) {
            if !is_wanted(&own) {
                return Err(none_issued("the bot has another SPIFFE ID"));
            }
            let jwts = vec![self.jwt_svid(None, own, &audiences, Map::new(), ttl)?];
            return Ok(IssuedJwts { jwts, audiences });
        }
        let mut eligible = self.eligible(selector, workload).await?;
        let mut jwts = Vec::new();
        let cluster = self.authority.issuer.cluster().as_str();
        for identity in std::mem::take(&mut eligible.identities) {
            match says(&identity, cluster, &eligible.attributes) {
                Ok((id, _)) if !is_wanted(&id) => {
                    eligible.refuse(&identity, "it has another SPIFFE ID");
                }
                Ok((id, claims)) => {
                    jwts.push(self.jwt_svid(Some(&identity), id, &audiences, claims, ttl)?);
                }
                Err(why) => eligible.refuse(&identity, why),
            }
        }
        match jwts.is_empty() {
            true => Err(eligible.none(selector)),
            false => Ok(IssuedJwts { jwts, audiences }),
        }
    }

    fn jwt_svid(
        &self,
        identity: Option<&WorkloadIdentity>,
        spiffe_id: SpiffeId,
        audiences: &Audiences,
        extra_claims: Map<String, serde_json::Value>,
        ttl: Ttl,
    ) -> Result<NamedJwt, Refusal> {
        let spiffe = identity.and_then(|identity| identity.spec.spiffe.as_ref());
        let limit = spiffe.and_then(|spiffe| spiffe.jwt.maximum());
        let maximum_ttl = identity.and_then(|identity| maximum(identity, limit, self.now));
        let subject = spiffe_id.as_str();
        let claims = JwtClaims { subject, audiences, ttl, maximum_ttl, extra_claims };
        let svid = self.authority.issuer.jwt_svid(self.bot, claims, self.now);
        Ok(NamedJwt {
            name: identity.map(|identity| identity.metadata.name.to_string()).unwrap_or_default(),
            hint: spiffe.map(|spiffe| spiffe.hint.clone()).unwrap_or_default(),
            svid: svid.map_err(Refusal::because(Code::Internal))?,
            spiffe_id,
        })
    }
}

/// The SPIFFE ID and the further claims of an identity for a workload.
fn says(
    identity: &WorkloadIdentity,
    cluster: &str,
    attributes: &Attributes,
) -> Result<(SpiffeId, Map<String, serde_json::Value>), String> {
    let spiffe = identity.spec.spiffe.as_ref().ok_or("it has no SPIFFE ID")?;
    let id = spiffe.spiffe_id(cluster, attributes).map_err(|cause| cause.to_string())?;
    let claims = spiffe.jwt.extra_claims.render(attributes).map_err(|cause| cause.to_string())?;
    Ok((id, claims))
}

/// The log names a token by its `jti`. It never has the token itself.
impl Issued for IssuedJwts {
    fn describe(&self, attempt: &mut Attempt) {
        let svid = |one: &NamedJwt| IssuedSvid {
            workload_identity: bounded(&one.name),
            spiffe_id: one.spiffe_id.clone(),
            certificate_serial: None,
            jti: Some(one.svid.id.clone()),
            expires: Timestamp(one.svid.expires),
        };
        attempt.svids = self.jwts.iter().map(svid).collect();
        attempt.audiences = self.audiences.as_slice().to_vec();
    }
}
