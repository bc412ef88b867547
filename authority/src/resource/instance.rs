//! kind: bot_instance

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::field::{EkHash, Invalid, IssuerName, Labels, Metadata, Name, Serial, Timestamp};
use super::{JoinId, JoinMethod, Kind};

/// A host that joined, from its join on until its last certificate has ended. The authority makes
/// it; an operator can look at it and remove it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotInstance {
    kind: Kind,
    version: Version,
    /// Its name is the ID; it expires when the last of its certificates ends.
    pub metadata: Metadata,
    /// Which instance of which bot.
    pub spec: BotInstanceSpec,
    /// What is known of it.
    pub status: BotInstanceStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "v1")]
    V1,
}

/// Which instance of which bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotInstanceSpec {
    /// What it joined as.
    pub bot_name: Name,
    /// New with every join.
    pub instance_id: InstanceId,
}

/// What is known of a bot instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotInstanceStatus {
    /// How it proved itself.
    pub join_method: JoinMethod,
    /// What it joined with.
    pub join_token: Name,
    /// What it proved.
    pub ek: ProvenEk,
    /// SHA-256 of the SubjectPublicKeyInfo of its key, in hexadecimal: the one that joined, and the
    /// only one that renews.
    pub public_key_hash: String,
    /// What is known of where that key is. Records of before this field are of keys in the TPM.
    #[serde(default)]
    pub key_location: KeyLocation,
    /// 1 for the join, one more for each renewal.
    pub generation: u64,
    /// How often the records had been restored from a backup when this was written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// Serial number of the latest certificate for its own key.
    pub certificate_serial: String,
    /// The host's name for itself; not verified.
    pub hostname: String,
    /// What the agent calls its version.
    pub agent_version: String,
    /// What an agent of Teleport last said about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// The newest document of the trust chain that it has: which CAs it trusts. 0 if it is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trust_version: u64,
    /// Its last join, for `authority explain`. Records of before this field have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_id: Option<JoinId>,
    /// The newest document of the trust chain when its certificate was issued. What was issued before a CA was tainted is renewed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub issued_version: u64,
    /// When it joined.
    pub joined: Timestamp,
    /// When it renewed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Timestamp>,
    /// When it last got a certificate of any kind.
    pub last_seen: Timestamp,
    /// Keys of services that were proven to be in the TPM, by the name of the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys_in_tpm: BTreeMap<String, ProvenKey>,
    /// What was issued for other keys of the host, by the name of the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceRecord>,
}

/// What is known of where an instance's key is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyLocation {
    /// In the TPM that was proven: it cannot be copied.
    #[default]
    Tpm,
    /// Nothing is proven. It joined by a protocol of Teleport, whose clients have their keys in files.
    Unproven,
}

impl KeyLocation {
    /// Whether nothing is proven.
    pub const fn is_unproven(&self) -> bool {
        matches!(self, Self::Unproven)
    }
}

/// What an agent says about itself while it runs; nothing of it is verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When the authority received it.
    pub recorded: Timestamp,
    /// What it reports.
    #[serde(flatten)]
    pub agent: AgentInfo,
}

/// Which program runs where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// The version of the agent.
    #[serde(default)]
    pub version: String,
    /// The host's name for itself.
    #[serde(default)]
    pub hostname: String,
    /// The operating system.
    #[serde(default)]
    pub os: String,
    /// The processor's architecture.
    #[serde(default)]
    pub architecture: String,
    /// How the agent joined.
    #[serde(default)]
    pub join_method: String,
}

/// The endorsement key that was proven at the join, and what was found then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenEk {
    /// The key.
    pub public_hash: EkHash,
    /// Its certificate's serial number, if it presented one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_serial: Option<Serial>,
    /// Its certificate's issuer, likewise; also absent if its name is too long for any rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_issuer: Option<IssuerName>,
    /// SHA-256 of the CA that verified the certificate; absent if none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
}

/// A key of a service that was proven to be in the TPM with which the instance joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenKey {
    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub public_key_hash: String,
    /// When it was proven.
    pub proven: Timestamp,
}

/// The latest certificate of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRecord {
    /// Its serial number.
    pub certificate_serial: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// What is known of where its key is. Records of before this field are of keys in files.
    #[serde(default = "unproven", skip_serializing_if = "KeyLocation::is_unproven")]
    pub key_location: KeyLocation,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

const fn unproven() -> KeyLocation {
    KeyLocation::Unproven
}

/// What a bot instance is called: a UUID in its usual form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(Uuid);

impl BotInstance {
    /// Services that are remembered. That others were issued certificates is in the log.
    const MAX_SERVICES: usize = 64;

    /// A new instance for a host that has proven this key and this EK. It has no certificate yet.
    pub fn joining(
        bot: Name,
        token: Name,
        ek: ProvenEk,
        public_key_hash: String,
        now: OffsetDateTime,
    ) -> Self {
        let (id, now) = (InstanceId::random(), Timestamp(now));
        let metadata = Metadata {
            name: id.name(),
            description: None,
            labels: Labels::new(),
            expires: Some(now),
        };
        let status = BotInstanceStatus {
            join_method: JoinMethod::Tpm,
            join_token: token,
            ek,
            public_key_hash,
            key_location: KeyLocation::Tpm,
            generation: 1,
            epoch: 0,
            certificate_serial: String::new(),
            hostname: String::new(),
            agent_version: String::new(),
            heartbeat: None,
            trust_version: 0,
            join_id: None,
            issued_version: 0,
            joined: now,
            renewed: None,
            last_seen: now,
            keys_in_tpm: BTreeMap::new(),
            services: BTreeMap::new(),
        };
        let spec = BotInstanceSpec { bot_name: bot, instance_id: id };
        Self { kind: Kind::BotInstance, version: Version::V1, metadata, spec, status }
    }

    /// The same instance with this ID.
    #[must_use]
    pub fn with_id(mut self, id: InstanceId) -> Self {
        self.metadata.name = id.name();
        self.spec.instance_id = id;
        self
    }

    /// What the host calls itself: at its join or renewal, or while it runs.
    pub fn hostname(&self) -> &str {
        let Self { status: BotInstanceStatus { hostname, heartbeat, .. }, .. } = self;
        match heartbeat {
            Some(heartbeat) if hostname.is_empty() => &heartbeat.agent.hostname,
            _ => hostname,
        }
    }

    /// `BOT/UUID`.
    pub fn path(&self) -> String {
        instance_path(&self.spec.bot_name, &self.spec.instance_id)
    }

    /// Remembers a certificate for a service.
    pub fn record_service(&mut self, name: String, record: ServiceRecord, now: OffsetDateTime) {
        let services = &mut self.status.services;
        services.retain(|_, known| now < known.expires.0);
        if services.len() >= Self::MAX_SERVICES && !services.contains_key(&name) {
            let oldest = services.iter().min_by_key(|(_, known)| known.issued);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                services.remove(&oldest);
            }
        }
        self.set_expires(record.expires);
        self.status.services.insert(name, record);
    }

    /// Remembers that a service's key is in the TPM, in the place of an earlier key of this service.
    pub fn record_key_in_tpm(&mut self, service: String, key: ProvenKey) {
        let keys = &mut self.status.keys_in_tpm;
        if keys.len() >= Self::MAX_SERVICES && !keys.contains_key(&service) {
            let oldest = keys.iter().min_by_key(|(_, known)| known.proven);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                keys.remove(&oldest);
            }
        }
        keys.insert(service, key);
    }

    /// Whether the key with this hash was proven to be in the TPM.
    pub fn has_in_tpm(&self, public_key_hash: &str) -> bool {
        self.status.keys_in_tpm.values().any(|known| known.public_key_hash == public_key_hash)
    }

    /// It has a certificate that ends then, and maybe others that end later.
    pub fn set_expires(&mut self, end: Timestamp) {
        self.metadata.expires = self.metadata.expires.max(Some(end));
    }
}

/// The path of a bot instance: `BOT/UUID`.
pub fn instance_path(bot: &Name, id: &InstanceId) -> String {
    format!("{bot}/{id}")
}

impl InstanceId {
    /// A new one.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.0
    }

    /// The one with these bytes, except those that say that they are not random.
    pub fn chosen(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    #[expect(clippy::expect_used, reason = "a UUID starts with a hexadecimal digit")]
    fn name(&self) -> Name {
        self.to_string().parse().expect("a UUID is a name")
    }
}

impl TryFrom<String> for InstanceId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let id = Uuid::try_parse(&text).ok().map(Self).filter(|id| id.to_string() == text);
        id.ok_or_else(|| Invalid(format!("{text:?} is not the ID of a bot instance, a UUID")))
    }
}

impl std::str::FromStr for InstanceId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.to_owned().try_into()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
