//! Warnings about resources that are valid but probably a mistake. A lock on an unknown target looks
//! like any other, and has no effect.

use time::OffsetDateTime;

use super::Authority;
use crate::resource::{Lock, Resource, Target, Timestamp, Token};
use crate::store::StoreError;

impl Authority {
    /// What is doubtful of a resource that is stored, a line each.
    pub(super) async fn doubts(
        &self,
        resource: &Resource,
        now: OffsetDateTime,
    ) -> Result<Vec<String>, StoreError> {
        let mut doubts = Vec::new();
        if let Some(end) = resource.metadata().expires.filter(|_| resource.metadata().expired(now))
        {
            doubts.push(format!("metadata.expires, {end}, is in the past: it has no effect"));
        }
        match resource {
            Resource::Token(token) => doubts.extend(self.doubt_of_token(token, now).await?),
            Resource::Lock(lock) => {
                let past = |end: &Timestamp| end.0 <= now;
                if let Some(end) = lock.spec.expires.filter(past) {
                    doubts.push(format!(
                        "spec.expires, {end}, is in the past: the lock has no effect"
                    ));
                }
                doubts.extend(self.doubt_of_lock(lock).await?);
            }
            Resource::Bot(_) | Resource::BotInstance(_) => {}
        }
        let (kind, name) = (resource.kind(), resource.name());
        Ok(doubts.into_iter().map(|doubt| format!("{kind} \"{name}\": {doubt}")).collect())
    }

    async fn doubt_of_token(
        &self,
        token: &Token,
        now: OffsetDateTime,
    ) -> Result<Option<String>, StoreError> {
        let Some(name) = &token.spec.bot_name else { return Ok(None) };
        let bot = self.records.bot(name).await?;
        let known = bot.is_some_and(|bot| !bot.metadata.expired(now));
        let doubt = || {
            format!(
                "the bot \"{name}\" does not exist: no host can join with this token until it does"
            )
        };
        Ok((!known).then(doubt))
    }

    async fn doubt_of_lock(&self, lock: &Lock) -> Result<Option<String>, StoreError> {
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
