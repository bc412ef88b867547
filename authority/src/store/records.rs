//! The records of a store, typed.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use uuid::Uuid;

use super::basis::{Basis, locks_key, random, revision_removed};
use super::clock::ClockRecord;
use super::evidence::EvidenceToKeep;
use super::format::{decode, encode};
use super::migrate::{Moved, moved_to};
use super::{Change, Pages, Range, Store, StoreError, Table};
use super::{index, log};
use crate::audit::{Author, Brief, Deed};
use crate::resource::{
    Bot, BotInstance, EkHash, InstanceId, Join, Kind, Lock, Name, Resource, Rule, Target, Token,
    WorkloadIdentity, instance_path,
};

/// Typed access to a store, and the ID of the authority whose log tells of what is written.
#[derive(Clone)]
pub struct Records(pub(super) Arc<dyn Store>, pub(super) Arc<str>);

/// How often a write is decided again because another one came first.
const MAX_RETRIES: usize = 5;

/// A bot instance as it was read, so that it is replaced only if it still is like that.
#[derive(Debug)]
pub struct Recorded {
    /// The instance.
    pub instance: BotInstance,
    was: Vec<u8>,
}

/// What to do with a resource that exists already.
#[derive(Debug, Clone, PartialEq)]
pub enum IfExists {
    /// Change nothing at all.
    Refuse,
    /// Put the new one in its place.
    Replace,
    /// Put the new one in its place if it is this one. It must exist.
    ReplaceThis(Arc<Resource>),
}

/// What became of a resource that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// Another of its name was there.
    Replaced,
}

impl Records {
    /// The records of this store, with a log of no authority.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store, Uuid::nil().to_string().into())
    }

    /// The same for the authority with this ID.
    #[must_use]
    pub fn logging_as(self, id: &str) -> Self {
        Self(self.0, id.into())
    }

    /// Whether the store answers.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.0.read(Table::Bots, "").await.map(|_| ())
    }

    /// Where the records were copied to, if they were: they are used there since.
    pub async fn moved(&self) -> Result<Option<Moved>, StoreError> {
        moved_to(&*self.0).await
    }

    /// The bot of this name.
    pub async fn bot(&self, name: &Name) -> Result<Option<Bot>, StoreError> {
        self.one(Table::Bots, name.as_str()).await
    }

    /// The token of this name.
    pub async fn token(&self, name: &Name) -> Result<Option<Token>, StoreError> {
        self.one(Table::Tokens, name.as_str()).await
    }

    /// The record of the token of this name, as it is stored.
    pub(crate) async fn token_record(&self, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(Table::Tokens, name.as_str()).await
    }

    /// What changes with any token: as long as it is the same, all tokens are.
    pub(crate) async fn tokens_revision(&self) -> Result<Vec<u8>, StoreError> {
        let revision = self.0.read(Table::Revisions, Table::Tokens.name()).await?;
        // Before the first token was written by a version that knows revisions.
        Ok(revision.unwrap_or_default())
    }

    /// What changes with any workload identity: as long as it is the same, all of them are.
    pub(crate) async fn workload_identities_revision(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(Table::Revisions, Table::WorkloadIdentities.name()).await
    }

    /// All workload identities by name; of one that cannot be read, why.
    pub(crate) async fn workload_identities(
        &self,
    ) -> Result<Vec<Result<WorkloadIdentity, StoreError>>, StoreError> {
        let table = Table::WorkloadIdentities;
        let records = Pages::new(&*self.0, table, "").all().await?;
        Ok(records.iter().map(|(key, record)| decode(table, key, record)).collect())
    }

    /// Whether a rule of any token names this EK. It looks at all tokens, and reads only those in
    /// which the hash is.
    pub async fn has_token_for_ek(&self, ek: &EkHash) -> Result<bool, StoreError> {
        let mut tokens = Pages::new(&*self.0, Table::Tokens, "").of(1);
        while let Some(page) = tokens.next().await? {
            for (name, record) in page {
                let hash = ek.as_str().as_bytes();
                if !record.windows(hash.len()).any(|part| part == hash) {
                    continue;
                }
                let token: Token = decode(Table::Tokens, &name, &record)?;
                let names = |rule: &Rule| rule.ek_public_hash.as_ref() == Some(ek);
                if let Ok(Join::Tpm(tpm)) = token.spec.join()
                    && tpm.allow.iter().any(names)
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The resource of this kind and name; of bot instances the path, `BOT/UUID`, is the name.
    pub async fn resource(&self, kind: Kind, name: &str) -> Result<Option<Resource>, StoreError> {
        Ok(match kind {
            Kind::Bot => self.one(Table::Bots, name).await?.map(Resource::Bot),
            Kind::Token => self.one(Table::Tokens, name).await?.map(Resource::Token),
            Kind::Lock => self.one(Table::Locks, name).await?.map(Resource::Lock),
            Kind::BotInstance => self.one(table(kind), name).await?.map(Resource::BotInstance),
            Kind::WorkloadIdentity => {
                self.one(table(kind), name).await?.map(Resource::WorkloadIdentity)
            }
        })
    }

    /// Resources of a kind by key, in order, of bot instances those of one bot, if one is given: the
    /// first `limit` after this key. Fewer only if there are no more.
    pub async fn page(
        &self,
        kind: Kind,
        bot: Option<&Name>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Resource)>, StoreError> {
        let table = table(kind);
        let prefix = bot.map(|bot| format!("{bot}/")).unwrap_or_default();
        let mut page = Vec::new();
        for (key, record) in self.0.list(Range { table, prefix: &prefix, after, limit }).await? {
            let resource = read(kind, &key, &record)?;
            page.push((key, resource));
        }
        Ok(page)
    }

    /// Stores all of them or none, with an entry of the log for each.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if others change the same resources all the time, or the one to replace is another.
    pub async fn put(
        &self,
        resources: &[Resource],
        if_exists: IfExists,
        author: Author,
    ) -> Result<Vec<Put>, StoreError> {
        let is_conditional = matches!(if_exists, IfExists::ReplaceThis(_));
        let mut tries = if is_conditional { 0 } else { MAX_RETRIES };
        loop {
            match self.try_put(resources, &if_exists, author).await {
                Err(StoreError::Changed(..)) if tries > 0 => tries -= 1,
                result => return result,
            }
        }
    }

    async fn try_put(
        &self,
        resources: &[Resource],
        if_exists: &IfExists,
        author: Author,
    ) -> Result<Vec<Put>, StoreError> {
        let mut batch = Vec::with_capacity(resources.len());
        let mut puts = Vec::with_capacity(resources.len());
        for resource in resources {
            let (table, key) = (table(resource.kind()), resource.name().to_string());
            let record = encode(resource)?;
            let was = match if_exists {
                IfExists::Refuse => None,
                IfExists::Replace => self.0.read(table, &key).await?,
                IfExists::ReplaceThis(this) => {
                    let was = self.existing(table, &key).await?;
                    if read(resource.kind(), &key, &was)? != **this {
                        return Err(StoreError::Changed(table, key));
                    }
                    Some(was)
                }
            };
            let (put, deed) = match was {
                Some(_) => (Put::Replaced, Deed::Replaced),
                None => (Put::Created, Deed::Created),
            };
            puts.push(put);
            let event = self.event(&match resource {
                Resource::Lock(lock) => author.lock_event(deed, lock),
                _ => author.event(deed, resource.kind(), &key),
            })?;
            match resource {
                Resource::Lock(lock) => {
                    let old = was.as_deref().map(|was| decode::<Lock>(table, &key, was));
                    let old = old.transpose()?;
                    if let Some(old) = &old {
                        batch.push(Change::RemoveIfExists(Table::LockTargets, target_key(old)?));
                    }
                    let rows = old.as_ref().map(index::of_lock).unwrap_or_default();
                    batch.extend(index::changes(&rows, index::of_lock(lock)));
                    batch.push(Change::Put(Table::LockTargets, target_key(lock)?, record.clone()));
                }
                Resource::Bot(_) | Resource::Token(_) => {
                    batch.push(self.revised(table, &key, was.is_some()).await?);
                }
                Resource::BotInstance(instance) => {
                    batch.extend(index::changes(&[], index::of_instance(instance)));
                }
                Resource::WorkloadIdentity(_) => {}
            }
            match (was, if_exists) {
                (None, IfExists::Refuse) => batch.push(Change::Insert(table, key, record)),
                (was, _) => batch.extend([
                    Change::Expect(table, key.clone(), was),
                    Change::Put(table, key, record),
                ]),
            }
            batch.push(event);
        }
        self.write(batch).await?;
        Ok(puts)
    }

    /// Removes a resource, with an entry of the log; there must be one. With a bot go its
    /// instances: a new bot of the same name is another one.
    pub async fn remove(&self, kind: Kind, name: &str, author: Author) -> Result<(), StoreError> {
        let mut tries = MAX_RETRIES;
        loop {
            match self.try_remove(kind, name, author).await {
                Err(StoreError::Changed(..)) if tries > 0 => tries -= 1,
                result => return result,
            }
        }
    }

    async fn try_remove(&self, kind: Kind, name: &str, author: Author) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        let mut event = author.event(Deed::Removed, kind, name);
        let lock: Lock;
        match kind {
            Kind::Bot => {
                batch.push(revision_removed(Table::Bots, name));
                batch.push(Change::RemoveAll(Table::Instances, format!("{name}/")));
            }
            Kind::Token => batch.push(revision_removed(Table::Tokens, name)),
            Kind::WorkloadIdentity => {}
            Kind::Lock => {
                let was = self.existing(Table::Locks, name).await?;
                lock = decode(Table::Locks, name, &was)?;
                event = author.lock_event(Deed::Removed, &lock);
                batch.extend(index::changes(&index::of_lock(&lock), Vec::new()));
                batch.extend(lock_changed(&lock, was)?);
            }
            Kind::BotInstance => {
                let was = self.existing(Table::Instances, name).await?;
                // One that cannot be read can be removed: its rows lead nowhere then.
                if let Ok(instance) = decode::<BotInstance>(Table::Instances, name, &was) {
                    batch.extend(index::changes(&index::of_instance(&instance), Vec::new()));
                }
                batch.push(Change::Expect(Table::Instances, name.to_owned(), Some(was)));
            }
        }
        batch.push(Change::Remove(table(kind), name.to_owned()));
        batch.push(self.event(&event)?);
        self.write(batch).await
    }

    async fn existing(&self, table: Table, key: &str) -> Result<Vec<u8>, StoreError> {
        let record = self.0.read(table, key).await?;
        record.ok_or_else(|| StoreError::Missing(table, key.to_owned()))
    }

    /// A lock in force on any of these.
    pub async fn lock_on(
        &self,
        targets: &[Target],
        now: OffsetDateTime,
    ) -> Result<Option<Lock>, StoreError> {
        for target in targets {
            let locks: Vec<Lock> = self.all(Table::LockTargets, &format!("{target}/")).await?;
            if let Some(lock) = locks.into_iter().find(|lock| lock.in_force(now)) {
                return Ok(Some(lock));
            }
        }
        Ok(None)
    }

    /// The instance of this bot with this ID.
    pub async fn instance(
        &self,
        bot: &Name,
        id: &InstanceId,
    ) -> Result<Option<Recorded>, StoreError> {
        let key = instance_path(bot, id);
        let record = self.0.read(Table::Instances, &key).await?;
        let read = |was: Vec<u8>| {
            decode(Table::Instances, &key, &was).map(|instance| Recorded { instance, was })
        };
        record.map(read).transpose()
    }

    /// Records a grant with its entry of the log and its evidence: a new instance, or one in the place of what was
    /// read before. Refuses if that, or what it was granted on, has changed since.
    pub async fn grant(
        &self,
        before: Option<&Recorded>,
        instance: BotInstance,
        basis: Basis,
        evidence: Option<EvidenceToKeep>,
        event: Vec<u8>,
    ) -> Result<Recorded, StoreError> {
        let (key, record) = (instance.path(), encode(&instance)?);
        let mut batch = basis.expected;
        batch.extend(evidence.into_iter().flat_map(|evidence| evidence.changes));
        let rows = before.map(|before| index::of_instance(&before.instance)).unwrap_or_default();
        batch.extend(index::changes(&rows, index::of_instance(&instance)));
        batch.push(match before {
            None => Change::Insert(Table::Instances, key, record.clone()),
            Some(Recorded { was, .. }) => {
                Change::Replace(Table::Instances, key, was.clone(), record.clone())
            }
        });
        batch.push(self.appended(event));
        self.write(batch).await?;
        Ok(Recorded { instance, was: record })
    }

    /// Replaces an instance by what it has become. This is for what decides nothing.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if it is no longer as it was read.
    pub async fn update(
        &self,
        before: &Recorded,
        instance: &BotInstance,
    ) -> Result<(), StoreError> {
        let rows = index::of_instance(&before.instance);
        let mut batch = index::changes(&rows, index::of_instance(instance));
        let (was, record) = (before.was.clone(), encode(instance)?);
        batch.push(Change::Replace(Table::Instances, instance.path(), was, record));
        batch.push(self.appended(Brief::heartbeat(instance).to_bytes()));
        self.write(batch).await
    }

    /// The recorded state of the clock.
    pub(crate) async fn clock(&self) -> Result<Option<ClockRecord>, StoreError> {
        self.one(Table::Clock, "").await
    }

    /// Puts it on record.
    pub(crate) async fn set_clock(&self, record: &ClockRecord) -> Result<(), StoreError> {
        self.write(vec![Change::Put(Table::Clock, String::new(), encode(record)?)]).await
    }

    /// All of the changes or none; with a change of a token another revision of the tokens, likewise for workload identities,
    /// and with one of a lock another revision of its target's locks. Entries of the log bind the records.
    pub(super) async fn write(&self, mut batch: Vec<Change>) -> Result<(), StoreError> {
        let mut revisions = BTreeSet::new();
        for change in &batch {
            match change.address() {
                (table @ (Table::Tokens | Table::WorkloadIdentities), _) => {
                    revisions.insert(table.name().to_owned())
                }
                (Table::LockTargets, key) => revisions.insert(locks_key(key)),
                _ => false,
            };
        }
        for key in revisions {
            batch.push(Change::Put(Table::Revisions, key, random()?.to_vec()));
        }
        log::bind(&mut batch)?;
        self.0.write(batch).await
    }

    async fn one<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let record = self.0.read(table, key).await?;
        record.map(|record| decode(table, key, &record)).transpose()
    }

    async fn all<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &str,
    ) -> Result<Vec<T>, StoreError> {
        let records = Pages::new(&*self.0, table, prefix).all().await?;
        records.iter().map(|(key, record)| decode(table, key, record)).collect()
    }
}

/// The condition of each removal of a lock: it is still as it was read, and has ended.
pub(super) fn lock_changed(lock: &Lock, was: Vec<u8>) -> Result<[Change; 2], StoreError> {
    Ok([
        Change::Expect(Table::Locks, lock.metadata.name.to_string(), Some(was)),
        Change::RemoveIfExists(Table::LockTargets, target_key(lock)?),
    ])
}

/// A resource from its record.
fn read(kind: Kind, key: &str, record: &[u8]) -> Result<Resource, StoreError> {
    let table = table(kind);
    match kind {
        Kind::Bot => decode(table, key, record).map(Resource::Bot),
        Kind::Token => decode(table, key, record).map(Resource::Token),
        Kind::Lock => decode(table, key, record).map(Resource::Lock),
        Kind::BotInstance => decode(table, key, record).map(Resource::BotInstance),
        Kind::WorkloadIdentity => decode(table, key, record).map(Resource::WorkloadIdentity),
    }
}

pub(super) fn table(kind: Kind) -> Table {
    match kind {
        Kind::Bot => Table::Bots,
        Kind::Token => Table::Tokens,
        Kind::Lock => Table::Locks,
        Kind::BotInstance => Table::Instances,
        Kind::WorkloadIdentity => Table::WorkloadIdentities,
    }
}

/// Where a lock stands in [`Table::LockTargets`].
fn target_key(lock: &Lock) -> Result<String, StoreError> {
    let target = lock.target().map_err(|cause| StoreError::Unreadable(cause.to_string()))?;
    Ok(format!("{target}/{}", lock.metadata.name))
}
