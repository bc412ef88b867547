//! Who can use the private keys: the authorities, and the recovery key.

use p256::PublicKey;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::members::{
    AdmissionRequest, HeartbeatRecord, Member, MemberRecord, decode_key, encode_key,
};
use super::record::{Record, RecoveryRecord};
use super::{
    KeyringError, Loaded, MAX_RETRIES, Pem, RECOVERY, StoredKeyring, busy, damaged, member,
    replaced, slot, slot_key,
};
use crate::audit::{Author, ChangeEvent, KeyringDeed, KeyringSubject};
use crate::issue::{CaState, CaType};
use crate::resource::{Name, Timestamp};
use crate::store::{Change, Pages, StoreError, Table, decode, encode, logged};

/// A private key that is wrapped to the recovery key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySlot {
    /// What the CA is for.
    pub ca_type: CaType,
    /// Its state.
    pub state: CaState,
    /// The ID of its key.
    pub key_id: String,
    /// The private key, wrapped; `None` if it is not wrapped to the recovery key.
    pub wrapped: Option<Vec<u8>>,
}

impl StoredKeyring {
    /// To whom private keys are wrapped.
    pub(super) async fn recipients(
        &self,
        record: &Record,
    ) -> Result<Vec<(String, PublicKey)>, KeyringError> {
        let mut recipients = Vec::new();
        for (id, member) in self.member_records().await? {
            if member.removed.is_none() {
                recipients.push((id, decode_key(&member.wrapping_key).map_err(damaged)?));
            }
        }
        if let Some(recovery) = &record.recovery {
            let key = decode_key(&recovery.public_key).map_err(damaged)?;
            recipients.push((RECOVERY.to_owned(), key));
        }
        Ok(recipients)
    }

    async fn member_records(&self) -> Result<Vec<(String, MemberRecord)>, StoreError> {
        let rows = Pages::new(&*self.store, Table::Authorities, "").all().await?;
        let read = |(id, row): (String, Vec<u8>)| {
            decode(Table::Authorities, &id, &row).map(|record| (id, record))
        };
        rows.into_iter().map(read).collect()
    }

    /// Lets an authority use the private keys.
    ///
    /// # Errors
    /// Another authority has the name; the store fails.
    pub async fn admit(
        &self,
        request: &AdmissionRequest,
        author: Author,
    ) -> Result<(), KeyringError> {
        let AdmissionRequest { id, name, wrapping_key } = request;
        self.rewrap(|found| {
            let is_taken = |(other, member): &&(String, MemberRecord)| {
                other != id && member.removed.is_none() && member.name == *name
            };
            if let Some((other, _)) = found.members.iter().find(is_taken) {
                return Err(KeyringError::Refused(format!(
                    "the authority {other} has the name {name}: repeat `authorities request` with another --name"
                )));
            }
            let mut batch = vec![member(id, name.clone(), wrapping_key, author.time().0)?];
            batch.extend(found.slots(id, wrapping_key)?);
            let event = author.keyring_event(KeyringDeed::Admitted, about_authority(id, name));
            Ok(Rewrapped { batch, event, recovery: None, value: () })
        })
        .await
    }

    /// Takes the private keys from an authority, by name or ID. It has known them.
    ///
    /// # Errors
    /// There is none, or it is this one; the store fails.
    pub async fn remove(&self, which: &str, author: Author) -> Result<Name, KeyringError> {
        self.rewrap(|found| {
            let is_meant = |(id, member): &&(String, MemberRecord)| {
                member.removed.is_none() && (id == which || member.name.as_str() == which)
            };
            let Some((id, member)) = found.members.iter().find(is_meant) else {
                return Err(KeyringError::Refused(format!("there is no authority {which:?}")));
            };
            if *id == self.own.id {
                return Err(KeyringError::Refused(format!(
                    "{which:?} is this authority: remove it at another one"
                )));
            }
            let removed = MemberRecord { removed: Some(author.time()), ..member.clone() };
            let mut batch = vec![Change::Put(Table::Authorities, id.clone(), encode(&removed)?)];
            let slots = found.secrets.iter().map(|(key_id, _)| slot_key(key_id, id));
            batch.extend(slots.map(|key| Change::RemoveIfExists(Table::KeySlots, key)));
            let subject = about_authority(id, &removed.name);
            let event = author.keyring_event(KeyringDeed::AuthorityRemoved, subject);
            Ok(Rewrapped { batch, event, recovery: None, value: removed.name })
        })
        .await
    }

    /// Wraps all private keys to a recovery key, in place of another one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn set_recovery(&self, key: &PublicKey, author: Author) -> Result<(), KeyringError> {
        let public_key = encode_key(key).map_err(damaged)?;
        let recovery = RecoveryRecord { public_key, since: author.time() };
        self.rewrap(|found| {
            let batch = found.slots(RECOVERY, key)?;
            let recovery_key = Some(recovery.public_key.clone());
            let subject = KeyringSubject { recovery_key, ..KeyringSubject::default() };
            let event = author.keyring_event(KeyringDeed::RecoverySet, subject);
            Ok(Rewrapped { batch, event, recovery: Some(recovery.clone()), value: () })
        })
        .await
    }

    /// Changes who can use the private keys, and leaves the CAs as they are. `decide` is asked again if the keyring has changed
    /// meanwhile.
    async fn rewrap<T>(
        &self,
        decide: impl Fn(&Wrapped) -> Result<Rewrapped<T>, KeyringError>,
    ) -> Result<T, KeyringError> {
        let mut loaded = self.loaded.lock().await;
        for _ in 0..=MAX_RETRIES {
            self.refreshed(&mut loaded).await?;
            let (members, secrets) =
                (self.member_records().await?, self.stored_secrets(&loaded.record).await?);
            let Rewrapped { mut batch, event, recovery, value } =
                decide(&Wrapped { members, secrets })?;
            let mut record = loaded.record.touched();
            record.recovery = recovery.or(record.recovery);
            let bytes = encode(&record)?;
            batch.push(replaced(&loaded.bytes, &bytes));
            match self.store.write(logged(&self.own.id, batch, &[event])?).await {
                Err(StoreError::Changed(..)) => {}
                written => {
                    written?;
                    *loaded = Loaded { bytes, record };
                    return Ok(value);
                }
            }
        }
        Err(busy())
    }

    /// All private keys, also those that this machine cannot use.
    async fn stored_secrets(&self, record: &Record) -> Result<Vec<(String, Pem)>, KeyringError> {
        let mut secrets = Vec::new();
        for key_id in record.stored_keys() {
            let wrapped = self.store.read(Table::KeySlots, &slot_key(key_id, &self.own.id)).await?;
            let wrapped = wrapped.ok_or(KeyringError::NotAdmitted)?;
            secrets.push((key_id.to_owned(), self.own.open(key_id, &wrapped)?));
        }
        Ok(secrets)
    }

    /// Since when there is a recovery key.
    pub async fn recovery_since(&self) -> Option<Timestamp> {
        self.loaded.lock().await.record.recovery.as_ref().map(|recovery| recovery.since)
    }

    /// What the recovery key opens.
    ///
    /// # Errors
    /// The store fails.
    pub async fn recovery_slots(&self) -> Result<Vec<RecoverySlot>, KeyringError> {
        let mut slots = Vec::new();
        let loaded = self.loaded.lock().await;
        for ca in loaded.record.cas.iter().filter(|ca| ca.has_private()) {
            let key = slot_key(&ca.key_id, RECOVERY);
            let wrapped = self.store.read(Table::KeySlots, &key).await?;
            let (ca_type, state, key_id) = (ca.ca_type, ca.state, ca.key_id.clone());
            slots.push(RecoverySlot { ca_type, state, key_id, wrapped });
        }
        Ok(slots)
    }

    /// Says that this authority is alive.
    ///
    /// # Errors
    /// The store fails.
    pub async fn beat(&self, now: OffsetDateTime) -> Result<(), KeyringError> {
        let row = encode(&self.heartbeat(now).await)?;
        let id = self.own.id.clone();
        self.store.write(vec![Change::Put(Table::Heartbeats, id, row)]).await?;
        let rows = Pages::new(&*self.store, Table::Heartbeats, "").all().await?;
        self.observed.note(rows, Instant::now());
        Ok(())
    }

    async fn heartbeat(&self, now: OffsetDateTime) -> HeartbeatRecord {
        HeartbeatRecord {
            time: Timestamp(now),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            keyring: self.revision().await,
            address: self.address.get().cloned().unwrap_or_default(),
        }
    }

    /// Says in the heartbeats where this authority listens.
    pub fn listens_on(&self, address: String) {
        // It listens once.
        let _ = self.address.set(address);
    }

    /// All authorities that are or were admitted, by name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn members(&self, now: OffsetDateTime) -> Result<Vec<Member>, KeyringError> {
        let mut members = Vec::new();
        for (id, record) in self.member_records().await? {
            let is_self = id == self.own.id;
            let heartbeat = if is_self {
                Some(self.heartbeat(now).await)
            } else {
                let row = self.store.read(Table::Heartbeats, &id).await?;
                row.map(|row| decode(Table::Heartbeats, &id, &row)).transpose()?
            };
            let is_recent = heartbeat
                .as_ref()
                .is_some_and(|heartbeat: &HeartbeatRecord| heartbeat.is_recent(now));
            let is_live = is_self || self.observed.is_live(&id, is_recent, Instant::now());
            members.push(Member::new(id, record, heartbeat, is_live));
        }
        members.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok(members)
    }
}

/// Who can use the private keys, and these.
struct Wrapped {
    members: Vec<(String, MemberRecord)>,
    secrets: Vec<(String, Pem)>,
}

impl Wrapped {
    /// All private keys, wrapped for one more.
    fn slots(&self, id: &str, recipient: &PublicKey) -> Result<Vec<Change>, KeyringError> {
        self.secrets.iter().map(|(key_id, pem)| slot(key_id, id, recipient, pem)).collect()
    }
}

fn about_authority(id: &str, name: &Name) -> KeyringSubject {
    let (authority_id, authority_name) = (Some(id.to_owned()), Some(name.clone()));
    KeyringSubject { authority_id, authority_name, ..KeyringSubject::default() }
}

/// A change of who can use the private keys.
struct Rewrapped<T> {
    batch: Vec<Change>,
    event: ChangeEvent<'static>,
    /// A new recovery key.
    recovery: Option<RecoveryRecord>,
    value: T,
}
