//! Warnings about resources that are valid but probably a mistake. A lock on an unknown target looks
//! like any other, and has no effect.

use time::OffsetDateTime;

use super::Authority;
use crate::resource::{Lock, Resource, Target, Timestamp, Token, WorkloadIdentity};
use crate::store::StoreError;

impl Authority {
    /// Warnings about a resource that is stored, a line each.
    pub(super) async fn resource_warnings(
        &self,
        resource: &Resource,
        now: OffsetDateTime,
    ) -> Result<Vec<String>, StoreError> {
        let mut warnings = Vec::new();
        if let Some(end) = resource.metadata().expires.filter(|_| resource.metadata().expired(now))
        {
            warnings.push(format!(
                "metadata.expires ({end}) is in the past: the resource has no effect"
            ));
        }
        match resource {
            Resource::Token(token) => warnings.extend(self.token_warning(token, now).await?),
            Resource::Lock(lock) => {
                let past = |end: &Timestamp| end.0 <= now;
                if let Some(end) = lock.spec.expires.filter(past) {
                    warnings.push(format!(
                        "spec.expires, {end}, is in the past: the lock has no effect"
                    ));
                }
                warnings.extend(self.lock_warning(lock).await?);
            }
            Resource::WorkloadIdentity(identity) => {
                warnings.extend(identity.warnings(self.issuer.cluster().as_str()));
                warnings.extend(self.unknown_bots(identity, now).await?);
            }
            Resource::Bot(_) | Resource::BotInstance(_) => {}
        }
        let (kind, name) = (resource.kind(), resource.name());
        Ok(warnings.into_iter().map(|warning| format!("{kind} \"{name}\": {warning}")).collect())
    }

    async fn token_warning(
        &self,
        token: &Token,
        now: OffsetDateTime,
    ) -> Result<Option<String>, StoreError> {
        let Some(name) = &token.spec.bot_name else { return Ok(None) };
        let bot = self.records.bot(name).await?;
        let known = bot.is_some_and(|bot| !bot.metadata.expired(now));
        let warning = || {
            format!(
                "the bot \"{name}\" does not exist: no host can join with this token until it does"
            )
        };
        Ok((!known).then(warning))
    }

    async fn unknown_bots(
        &self,
        identity: &WorkloadIdentity,
        now: OffsetDateTime,
    ) -> Result<Vec<String>, StoreError> {
        let mut warnings = Vec::new();
        for name in &identity.spec.bots.names {
            let bot = self.records.bot(name).await?;
            if bot.is_none_or(|bot| bot.metadata.expired(now)) {
                warnings.push(format!(
                    "the bot \"{name}\" does not exist; it can have the identity if it is created later"
                ));
            }
        }
        Ok(warnings)
    }

    async fn lock_warning(&self, lock: &Lock) -> Result<Option<String>, StoreError> {
        let Ok(target) = lock.target() else { return Ok(None) };
        if self.is_known(&target).await? {
            return Ok(None);
        }
        Ok(Some(match target {
            Target::Bot(name) => {
                format!(
                    "the bot \"{name}\" does not exist; the lock applies if it is created later"
                )
            }
            Target::Token(name) => {
                format!(
                    "the token \"{name}\" does not exist; the lock applies if it is created later"
                )
            }
            Target::Instance(id) => {
                format!("the bot instance {id} does not exist: see `authority bots instances`")
            }
            Target::Ek(hash) => format!(
                "no instance and no token has the EK {hash}; the lock applies if it joins later"
            ),
        }))
    }

    async fn is_known(&self, target: &Target) -> Result<bool, StoreError> {
        let records = &self.records;
        Ok(match target {
            Target::Bot(name) => records.bot(name).await?.is_some(),
            Target::Token(name) => records.token(name).await?.is_some(),
            Target::Instance(id) => records.instance_by_id(id).await?.is_some(),
            Target::Ek(ek) => {
                records.has_instance_of_ek(ek).await? || records.has_token_for_ek(ek).await?
            }
        })
    }
}
