//! Which workload identities a bot may have for a workload.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tracing::warn;

use super::none_issued;
use crate::resource::{Attributes, Bot, Labels, Name, SpiffeId, WorkloadIdentity, user_name};
use crate::service::Authority;
use crate::service::call::JudgedCall;
use crate::service::checks::store_failed;
use crate::service::refusal::Refusal;

/// Workload identities that one call may be for. Clients of the Workload API take 100 at most.
const MAX_IDENTITIES: usize = 64;

/// Any value of a label; as a label's name, any workload identity.
const ANY: &str = "*";

/// Which workload identities a caller means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The bot's own SPIFFE ID.
    Own,
    /// The one of this name.
    Name(Name),
    /// Those with each of these labels, with one of its values.
    Labels(BTreeMap<String, Vec<String>>),
    /// Those with this SPIFFE ID.
    SpiffeId(SpiffeId),
    /// All of them.
    All,
}

/// What a call may be for.
pub(crate) struct Eligible {
    /// In the order of their names.
    pub(crate) identities: Vec<WorkloadIdentity>,
    /// What is known of bot, join and workload.
    pub(crate) attributes: Attributes,
    /// Why each other one is not among them.
    pub(crate) refused: Vec<String>,
}

/// The workload identities, parsed once and shared until one of them changes.
#[derive(Default)]
pub(crate) struct IdentityCache(Mutex<Option<Cached>>);

#[derive(Clone)]
struct Cached {
    revision: Option<Vec<u8>>,
    all: Arc<[WorkloadIdentity]>,
}

impl Selector {
    /// Whether it means the bot's own SPIFFE ID, which this is.
    pub(super) fn is_own(&self, own: &SpiffeId) -> bool {
        match self {
            Self::Own => true,
            Self::SpiffeId(wanted) => wanted == own,
            Self::Name(_) | Self::Labels(_) | Self::All => false,
        }
    }

    /// Whether it can mean this one, as far as the workload does not matter.
    fn means(&self, identity: &WorkloadIdentity) -> bool {
        match self {
            Self::Own => false,
            Self::Name(name) => identity.metadata.name == *name,
            Self::Labels(labels) => {
                let own = &identity.metadata.labels;
                labels.iter().all(|(label, values)| has_label(own, label, values))
            }
            Self::SpiffeId(_) | Self::All => true,
        }
    }
}

fn has_label(own: &Labels, label: &str, values: &[String]) -> bool {
    let is_any = values.iter().any(|value| value == ANY);
    match own.get(label) {
        Some(value) => is_any || values.contains(value),
        None => label == ANY && is_any,
    }
}

impl Authority {
    /// The workload identities as they are now, and the revision by which the write of a grant notices a change.
    async fn workload_identities(&self) -> Result<Cached, Refusal> {
        // Read first: if one changes while they are read, the write of the grant fails.
        let revision = self.records.workload_identities_revision().await.map_err(store_failed)?;
        if let Some(cached) = self.identities.get()
            && cached.revision == revision
        {
            return Ok(cached);
        }
        let mut all = Vec::new();
        for identity in self.records.workload_identities().await.map_err(store_failed)? {
            match identity {
                Ok(identity) => all.push(identity),
                Err(cause) => warn!(%cause, "a workload identity is not issued: it is unreadable"),
            }
        }
        let cached = Cached { revision, all: all.into() };
        self.identities.set(cached.clone());
        Ok(cached)
    }
}

impl IdentityCache {
    fn get(&self) -> Option<Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, cached: Cached) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
    }
}

impl JudgedCall<'_> {
    /// The workload identities that the selector means, and that bot and workload may have. The write of the grant requires all
    /// workload identities unchanged.
    pub(super) async fn eligible(
        &mut self,
        selector: &Selector,
        workload: &Attributes,
    ) -> Result<Eligible, Refusal> {
        let Cached { revision, all } = self.authority.workload_identities().await?;
        self.basis.expect_workload_identities(revision);
        let mut attributes = self.known_attributes();
        attributes.extend(workload.clone());
        let mut eligible = Eligible { identities: Vec::new(), attributes, refused: Vec::new() };
        for identity in all.iter().filter(|identity| selector.means(identity)) {
            match self.check(identity, selector, &eligible.attributes) {
                Ok(()) => eligible.identities.push(identity.clone()),
                Err(why) => eligible.refuse(identity, why),
            }
        }
        if eligible.identities.len() > MAX_IDENTITIES {
            return Err(none_issued(format!(
                "more than {MAX_IDENTITIES} workload identities match: select fewer, by name or labels"
            )));
        }
        Ok(eligible)
    }

    fn check(
        &self,
        identity: &WorkloadIdentity,
        selector: &Selector,
        attributes: &Attributes,
    ) -> Result<(), String> {
        let WorkloadIdentity { metadata, spec, .. } = identity;
        if metadata.expired(self.now) {
            return Err("it has expired".to_owned());
        }
        if !spec.bots.selects(self.bot) {
            return Err("spec.bots does not select the bot".to_owned());
        }
        spec.rules.check(attributes)?;
        if let Selector::SpiffeId(wanted) = selector {
            let spiffe = spec.spiffe.as_ref().ok_or("it has no SPIFFE ID")?;
            let cluster = self.authority.issuer.cluster().as_str();
            let own = spiffe.spiffe_id(cluster, attributes).map_err(|cause| cause.to_string())?;
            if own != *wanted {
                return Err("it has another SPIFFE ID".to_owned());
            }
        }
        Ok(())
    }

    /// What is known of the bot and of the join, by its records.
    fn known_attributes(&self) -> Attributes {
        let Bot { metadata, spec, .. } = self.bot;
        let mut all = Attributes::default();
        all.set("user.name", user_name(&metadata.name));
        all.set("user.is_bot", true);
        all.set("user.bot_name", &metadata.name);
        all.set("user.bot_instance_id", &self.instance.spec.instance_id);
        for (name, value) in &metadata.labels {
            all.set(&format!("user.labels.{name}"), value);
        }
        for one in &spec.traits {
            all.set_all(&format!("user.traits.{}", one.name), &one.values);
        }
        let status = &self.instance.status;
        all.set("join.meta.join_method", String::from(status.join_method.clone()));
        all.set("join.meta.join_token_name", &status.join_token);
        all.set("join.tpm.ek_pub_hash", &status.ek.public_hash);
        if let Some(serial) = &status.ek.certificate_serial {
            all.set("join.tpm.ek_cert_serial", serial);
        }
        all.set("join.tpm.ek_cert_verified", status.ek.verified_by.is_some());
        all
    }
}

impl Eligible {
    /// Takes note of one that is not issued after all.
    pub(super) fn refuse(&mut self, identity: &WorkloadIdentity, why: impl std::fmt::Display) {
        self.refused.push(format!("{}: {why}", identity.metadata.name));
    }

    /// The refusal if none was issued.
    pub(super) fn none(&self, selector: &Selector) -> Refusal {
        match (self.refused.as_slice(), selector) {
            ([], Selector::Name(name)) => {
                none_issued(format!("the workload identity {name} does not exist"))
            }
            ([], _) => none_issued("no workload identity matches"),
            (refused, _) => none_issued(refused.join("; ")),
        }
    }
}

/// The longest lifetime of what an identity issues: its own limit, and until it expires.
pub(super) fn maximum(
    identity: &WorkloadIdentity,
    limit: Option<Duration>,
    now: OffsetDateTime,
) -> Option<Duration> {
    let left = identity.metadata.expires.map(|end| (end.0 - now).try_into().unwrap_or_default());
    limit.into_iter().chain(left).min()
}
