//! The keyring in a backup, which another authority takes over.

use std::collections::BTreeMap;

use p256::SecretKey;
use time::OffsetDateTime;

use super::record::Record;
use super::wrap::Unwrap;
use super::{
    AdmissionRequest, KeyringError, MemberRecord, Own, Pem, RECOVERY, damaged, encode_key, member,
    open_slot, slot, slot_key,
};
use crate::resource::Timestamp;
use crate::store::{Change, Keyed, Table, decode, encode};

/// A private key that opens the keys of the CAs.
pub enum Opener {
    /// The recovery key.
    Recovery(Box<SecretKey>),
    /// The wrapping key of an authority that was admitted.
    Authority(Box<SecretKey>),
}

/// What a backup has of the keyring.
#[derive(Default)]
pub struct BackedUp {
    record: Option<Vec<u8>>,
    members: BTreeMap<String, Vec<u8>>,
    slots: BTreeMap<String, Vec<u8>>,
}

impl BackedUp {
    /// Takes what belongs to the keyring.
    pub fn add(&mut self, table: Table, page: &[Keyed]) {
        let rows = match table {
            Table::Keyring => {
                self.record = page.first().map(|(_, row)| row.clone());
                return;
            }
            Table::Authorities => &mut self.members,
            Table::KeySlots => &mut self.slots,
            _ => return,
        };
        rows.extend(page.iter().cloned());
    }

    /// The name of the cluster.
    ///
    /// # Errors
    /// There is no keyring, or it is damaged.
    pub fn cluster(&self) -> Result<String, KeyringError> {
        Ok(self.record()?.cluster)
    }

    /// Whether a recovery key opens the keys of the CAs.
    ///
    /// # Errors
    /// There is no keyring, or it is damaged.
    pub fn has_recovery_key(&self) -> Result<bool, KeyringError> {
        Ok(self.record()?.recovery.is_some())
    }

    /// Opens the keys of the CAs.
    ///
    /// # Errors
    /// They are wrapped to other keys.
    pub fn open(&self, opener: &Opener) -> Result<OpenedBackup, KeyringError> {
        let record = self.record()?;
        let (key, id) = match opener {
            Opener::Recovery(key) => (key, self.recovery_slot(&record, key)?),
            Opener::Authority(key) => (key, self.slot_of_authority(key)?),
        };
        let mut secrets = Vec::new();
        for key_id in record.stored_keys() {
            let wrapped = self.slots.get(&slot_key(key_id, &id)).ok_or_else(|| {
                KeyringError::Refused(format!("the CA key {key_id} is not wrapped to this key"))
            })?;
            secrets.push((key_id.to_owned(), open_slot(&**key, key_id, &id, wrapped)?));
        }
        Ok(OpenedBackup { record, members: self.members()?, secrets, slots: self.old_slots() })
    }

    fn record(&self) -> Result<Record, KeyringError> {
        let none =
            "it has no CA keys: start the authority once with this version, and repeat the backup";
        let row = self.record.as_ref().ok_or_else(|| KeyringError::Refused(none.into()))?;
        Ok(decode(Table::Keyring, "", row)?)
    }

    fn members(&self) -> Result<Vec<(String, MemberRecord)>, KeyringError> {
        let read =
            |(id, row): (&String, &Vec<u8>)| Ok((id.clone(), decode(Table::Authorities, id, row)?));
        self.members.iter().map(read).collect()
    }

    fn recovery_slot(&self, record: &Record, key: &SecretKey) -> Result<String, KeyringError> {
        let refused = |why: &str| Err(KeyringError::Refused(why.into()));
        match &record.recovery {
            None => {
                refused("the cluster had no recovery key: give the wrapping key of an authority")
            }
            Some(recovery)
                if recovery.public_key != encode_key(&key.recipient()).map_err(damaged)? =>
            {
                refused("the CA keys are wrapped to another recovery key")
            }
            Some(_) => Ok(RECOVERY.to_owned()),
        }
    }

    fn slot_of_authority(&self, key: &SecretKey) -> Result<String, KeyringError> {
        let public = encode_key(&key.recipient()).map_err(damaged)?;
        let is_meant = |(_, member): &(String, MemberRecord)| {
            member.removed.is_none() && member.wrapping_key == public
        };
        let found = self.members()?.into_iter().find(is_meant);
        let none =
            || KeyringError::Refused("it is the wrapping key of no authority in the backup".into());
        found.map(|(id, _)| id).ok_or_else(none)
    }

    fn old_slots(&self) -> Vec<String> {
        let is_recovery = |key: &String| key.ends_with(&format!("/{RECOVERY}"));
        self.slots.keys().filter(|key| !is_recovery(key)).cloned().collect()
    }
}

/// The keyring in a backup, with its private keys.
pub struct OpenedBackup {
    record: Record,
    members: Vec<(String, MemberRecord)>,
    secrets: Vec<(String, Pem)>,
    /// The slots of the authorities.
    slots: Vec<String>,
}

impl OpenedBackup {
    /// The batch that gives the private keys to this authority, and to no other one that was admitted. What is wrapped to the recovery
    /// key stays.
    ///
    /// # Errors
    /// This authority has the ID of another one.
    pub fn taken_over(&self, own: &Own, now: OffsetDateTime) -> Result<Vec<Change>, KeyringError> {
        let AdmissionRequest { id, name, wrapping_key } = own.request(None);
        let mut batch = Vec::new();
        for (other, member) in &self.members {
            if *other == id {
                return Err(KeyringError::Refused(format!(
                    "this data directory is that of the authority {id} in the backup: move it away"
                )));
            }
            let removed = Some(member.removed.unwrap_or(Timestamp(now)));
            let removed = encode(&MemberRecord { removed, ..member.clone() })?;
            batch.push(Change::Put(Table::Authorities, other.clone(), removed));
        }
        let slots = self.slots.iter().cloned();
        batch.extend(slots.map(|key| Change::RemoveIfExists(Table::KeySlots, key)));
        batch.push(member(&id, name, &wrapping_key, now)?);
        for (key_id, pem) in &self.secrets {
            batch.push(slot(key_id, &id, &wrapping_key, pem)?);
        }
        let record = encode(&self.record.touched())?;
        batch.push(Change::Put(Table::Keyring, String::new(), record));
        Ok(batch)
    }
}
