//! The records of a store, typed.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Change, Store, StoreError, Table};
use crate::resource::{Bot, EkHash, Kind, Name, Resource, Serial, Timestamp, Token};

/// Typed access to a store.
#[derive(Clone)]
pub struct Records(Arc<dyn Store>);

/// A join that was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// A UUID, new with every join.
    pub id: String,
    /// What it joined as.
    pub bot: Name,
    /// What it joined with.
    pub token: Name,
    /// The EK that it proved.
    pub ek_pub_hash: EkHash,
    /// The EK certificate's serial number, if it presented one.
    pub ek_cert_serial: Option<Serial>,
    /// Whether the EK certificate chains to a CA that the token names.
    pub ek_cert_verified: bool,
    /// What the host calls itself; nobody verified it.
    pub hostname: String,
    /// Serial number of the certificate that was issued.
    pub certificate_serial: String,
    /// When.
    pub joined: Timestamp,
    /// When its certificates end.
    pub expires: Timestamp,
}

/// What to do with a resource that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Change nothing at all.
    Refuse,
    /// Put the new one in its place.
    Replace,
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
    /// The records of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// The bot of this name.
    pub async fn bot(&self, name: &Name) -> Result<Option<Bot>, StoreError> {
        self.one(Table::Bots, name.as_str()).await
    }

    /// The token of this name.
    pub async fn token(&self, name: &Name) -> Result<Option<Token>, StoreError> {
        self.one(Table::Tokens, name.as_str()).await
    }

    /// The resource of this kind and name.
    pub async fn resource(&self, kind: Kind, name: &Name) -> Result<Option<Resource>, StoreError> {
        Ok(match kind {
            Kind::Bot => self.bot(name).await?.map(Resource::Bot),
            Kind::Token => self.token(name).await?.map(Resource::Token),
        })
    }

    /// All resources of a kind, by name.
    pub async fn resources(&self, kind: Kind) -> Result<Vec<Resource>, StoreError> {
        Ok(match kind {
            Kind::Bot => self.all(Table::Bots).await?.into_iter().map(Resource::Bot).collect(),
            Kind::Token => {
                self.all(Table::Tokens).await?.into_iter().map(Resource::Token).collect()
            }
        })
    }

    /// Stores all of them or none.
    pub async fn put(
        &self,
        resources: &[Resource],
        if_exists: IfExists,
    ) -> Result<Vec<Put>, StoreError> {
        let mut batch = Vec::with_capacity(resources.len());
        let mut puts = Vec::with_capacity(resources.len());
        for resource in resources {
            let (table, key) = (table(resource.kind()), resource.name().to_string());
            let record = encode(resource)?;
            let exists = self.0.read(table, &key).await?.is_some();
            puts.push(if exists { Put::Replaced } else { Put::Created });
            batch.push(match if_exists {
                IfExists::Refuse => Change::Insert(table, key, record),
                IfExists::Replace => Change::Put(table, key, record),
            });
        }
        self.0.write(batch).await?;
        Ok(puts)
    }

    /// Removes a resource; there must be one.
    pub async fn remove(&self, kind: Kind, name: &Name) -> Result<(), StoreError> {
        self.0.write(vec![Change::Remove(table(kind), name.to_string())]).await
    }

    /// Records a join.
    pub async fn record(&self, instance: &Instance) -> Result<(), StoreError> {
        let change = Change::Insert(Table::Instances, instance.id.clone(), encode(instance)?);
        self.0.write(vec![change]).await
    }

    /// Takes a join back that was never answered.
    pub async fn forget(&self, instance: &Instance) -> Result<(), StoreError> {
        self.0.write(vec![Change::Remove(Table::Instances, instance.id.clone())]).await
    }

    /// All joins.
    pub async fn instances(&self) -> Result<Vec<Instance>, StoreError> {
        self.all(Table::Instances).await
    }

    async fn one<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        let record = self.0.read(table, key).await?;
        record.map(|record| decode(table, key, &record)).transpose()
    }

    async fn all<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, StoreError> {
        let records = self.0.list(table).await?;
        records.iter().map(|(key, record)| decode(table, key, record)).collect()
    }
}

fn table(kind: Kind) -> Table {
    match kind {
        Kind::Bot => Table::Bots,
        Kind::Token => Table::Tokens,
    }
}

fn encode(record: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|cause| StoreError::Unreadable(cause.to_string()))
}

fn decode<T: DeserializeOwned>(table: Table, key: &str, record: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(record)
        .map_err(|cause| StoreError::Unreadable(format!("{} {key:?}: {cause}", table.singular())))
}
