//! Events of changes of resources, by an operator or because they expired.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Outcome, bounded, row};
use crate::resource::{EkHash, InstanceId, Kind, Lock, Name, Target, Timestamp};

/// The event of the removal of entries.
pub(super) const CUT: &str = "log.cut";

/// Who changes resources, and when.
#[derive(Debug, Clone, Copy)]
pub struct Author {
    user: User,
    /// The operator's user on the authority's host, if the kernel provides it.
    unix_uid: Option<u32>,
    time: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum User {
    Operator,
    /// The authority itself, as Teleport calls it.
    System,
}

/// How a resource changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Created,
    Replaced,
    Removed,
}

/// How the keyring changes: its CAs, or who can use their private keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyringDeed {
    /// The first CAs of a cluster.
    Founded,
    /// A CA is published.
    Prepared,
    /// A CA is withdrawn before it has signed.
    Withdrawn,
    /// A CA signs.
    Activated,
    /// A CA is no longer trusted.
    Retired,
    /// A CA is replaced at once, since others may have its key.
    Tainted,
    /// A tainted CA is no longer trusted.
    Revoked,
    /// An authority can use the keys.
    Admitted,
    /// An authority cannot use them any more.
    AuthorityRemoved,
    /// The keys are wrapped to another recovery key.
    RecoverySet,
}

/// What a change of the keyring is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct KeyringSubject {
    /// The type of a CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_key_id: Option<String>,
    /// Whether it did not wait for those whom it cuts off.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) forced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authority_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authority_name: Option<Name>,
    /// The SubjectPublicKeyInfo of the recovery key, DER in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_key: Option<String>,
}

/// The event of a change.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeEvent<'a> {
    time: Timestamp,
    uid: String,
    event: &'static str,
    code: &'static str,
    outcome: Outcome,
    user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix_uid: Option<u32>,
    #[serde(flatten)]
    about: About<'a>,
}

/// Which resource; for a lock also its target.
#[derive(Debug, Default, Serialize)]
struct About<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bot_name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bot_instance_id: Option<InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_name: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload_identity: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ek_pub_hash: Option<EkHash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    /// The first entry of the log that was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_from: Option<u64>,
    /// What the operator wrote into the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(flatten)]
    keyring: KeyringSubject,
}

impl Author {
    /// An operator, by the user of the process at the other end of the admin socket.
    pub fn operator(unix_uid: Option<u32>, time: OffsetDateTime) -> Self {
        Self { user: User::Operator, unix_uid, time }
    }

    /// The authority, which removes what has ended.
    pub fn system(time: OffsetDateTime) -> Self {
        Self { user: User::System, unix_uid: None, time }
    }

    /// Who used the operator's command that writes to the store itself.
    pub fn of_command(time: OffsetDateTime) -> Self {
        Self::operator(Some(rustix::process::getuid().as_raw()), time)
    }

    /// When it is done.
    pub(crate) fn time(self) -> Timestamp {
        Timestamp(self.time)
    }

    /// The event of a change of anything but a lock.
    pub(crate) fn event(self, deed: Deed, kind: Kind, name: &str) -> ChangeEvent<'_> {
        let (bot, instance) = name.split_once('/').unwrap_or((name, ""));
        let about = match kind {
            Kind::Bot => About { bot_name: name.parse().ok(), ..About::default() },
            Kind::Token => About { token_name: name.parse().ok(), ..About::default() },
            Kind::Lock => About { lock_name: Some(name), ..About::default() },
            Kind::WorkloadIdentity => {
                About { workload_identity: name.parse().ok(), ..About::default() }
            }
            Kind::BotInstance => About {
                bot_name: bot.parse().ok(),
                bot_instance_id: instance.parse().ok(),
                ..About::default()
            },
        };
        self.about(word(kind, deed), about)
    }

    fn about<'a>(
        self,
        (event, code): (&'static str, &'static str),
        about: About<'a>,
    ) -> ChangeEvent<'a> {
        ChangeEvent {
            time: Timestamp(self.time),
            uid: Uuid::new_v4().to_string(),
            event,
            code,
            outcome: Outcome::Done,
            user: self.user,
            unix_uid: self.unix_uid,
            about,
        }
    }

    /// The event of records that no other entry binds, because they were there before the log, or the entry was removed: it binds them
    /// as they are.
    pub(crate) fn adoption<'a>(self) -> ChangeEvent<'a> {
        self.about(("records.adopt", "EN201I"), About::default())
    }

    /// The event of a backup.
    pub(crate) fn backup<'a>(self) -> ChangeEvent<'a> {
        self.about(("records.backup", "EN202I"), About::default())
    }

    /// The event of records from a backup. It binds what was changed in them.
    pub(crate) fn restoration<'a>(self) -> ChangeEvent<'a> {
        self.about(("records.restore", "EN203I"), About::default())
    }

    /// The event that an operator has accepted records from a backup.
    pub(crate) fn acceptance<'a>(self) -> ChangeEvent<'a> {
        self.about(("records.accept_restored", "EN204I"), About::default())
    }

    /// The event of the removal of all entries of the log before this number.
    pub(crate) fn cut<'a>(self, kept_from: u64) -> ChangeEvent<'a> {
        self.about((CUT, "EN212I"), About { kept_from: Some(kept_from), ..About::default() })
    }

    /// The event of a change of the keyring.
    pub(crate) fn keyring_event<'a>(
        self,
        deed: KeyringDeed,
        keyring: KeyringSubject,
    ) -> ChangeEvent<'a> {
        let word = match deed {
            KeyringDeed::Founded => ("cluster.create", "EN301I"),
            KeyringDeed::Prepared => ("ca.prepare", "EN302I"),
            KeyringDeed::Withdrawn => ("ca.withdraw", "EN303I"),
            KeyringDeed::Activated => ("ca.activate", "EN304I"),
            KeyringDeed::Retired => ("ca.retire", "EN305I"),
            KeyringDeed::Tainted => ("ca.taint", "EN306W"),
            KeyringDeed::Revoked => ("ca.revoke", "EN307W"),
            KeyringDeed::Admitted => ("authority.add", "EN311I"),
            KeyringDeed::AuthorityRemoved => ("authority.remove", "EN312I"),
            KeyringDeed::RecoverySet => ("recovery_key.set", "EN313I"),
        };
        self.about(word, About { keyring, ..About::default() })
    }

    /// The event of a change of a lock.
    pub(crate) fn lock_event(self, deed: Deed, lock: &Lock) -> ChangeEvent<'_> {
        let mut event = self.event(deed, Kind::Lock, lock.metadata.name.as_str());
        let about = &mut event.about;
        match lock.target() {
            Ok(Target::Bot(name)) => about.bot_name = Some(name),
            Ok(Target::Instance(id)) => about.bot_instance_id = Some(id),
            Ok(Target::Token(name)) => about.token_name = Some(name),
            Ok(Target::Ek(hash)) => about.ek_pub_hash = Some(hash),
            // A lock with no target is not in force.
            Err(_) => {}
        }
        about.expires = lock.spec.expires;
        about.message = lock.spec.message.as_deref().and_then(bounded);
        event
    }
}

impl ChangeEvent<'_> {
    /// As it is appended to the log.
    pub(crate) fn entry(&self) -> serde_json::Result<Vec<u8>> {
        row::line(self)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Name and code: Teleport's name where it has one.
fn word(kind: Kind, deed: Deed) -> (&'static str, &'static str) {
    match (kind, deed) {
        (Kind::Bot, Deed::Created) => ("bot.create", "EN101I"),
        (Kind::Bot, Deed::Replaced) => ("bot.update", "EN102I"),
        (Kind::Bot, Deed::Removed) => ("bot.delete", "EN103I"),
        (Kind::Token, Deed::Created) => ("join_token.create", "EN111I"),
        (Kind::Token, Deed::Replaced) => ("join_token.update", "EN112I"),
        (Kind::Token, Deed::Removed) => ("join_token.delete", "EN113I"),
        (Kind::Lock, Deed::Created) => ("lock.created", "EN121I"),
        (Kind::Lock, Deed::Replaced) => ("lock.updated", "EN122I"),
        (Kind::Lock, Deed::Removed) => ("lock.deleted", "EN123I"),
        (Kind::BotInstance, Deed::Created) => ("bot_instance.create", "EN131I"),
        (Kind::BotInstance, Deed::Replaced) => ("bot_instance.update", "EN132I"),
        (Kind::BotInstance, Deed::Removed) => ("bot_instance.delete", "EN133I"),
        (Kind::WorkloadIdentity, Deed::Created) => ("workload_identity.create", "EN141I"),
        (Kind::WorkloadIdentity, Deed::Replaced) => ("workload_identity.update", "EN142I"),
        (Kind::WorkloadIdentity, Deed::Removed) => ("workload_identity.delete", "EN143I"),
    }
}
