//! The authorities of a cluster: who can use the private keys, and who is alive.

use base64ct::{Base64, Encoding};
use p256::PublicKey;
use pkcs8::{DecodePublicKey, EncodePublicKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::resource::{Invalid, Name, Timestamp};

/// How often an authority says that it is alive.
pub const HEARTBEAT_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// An authority that has missed so many heartbeats is missing.
const MAX_MISSED: i32 = 3;

/// What a request for admission begins with.
const REQUEST: &str = "endorse-authority-request:v1:";

/// Longer than any request.
const MAX_REQUEST: usize = 4096;

/// An authority in the store. Unknown fields are those of a later version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MemberRecord {
    pub(super) name: Name,
    /// SubjectPublicKeyInfo, DER in base64.
    pub(super) wrapping_key: String,
    pub(super) added: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<Timestamp>,
}

/// When an authority was last alive, and what it knew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HeartbeatRecord {
    pub(super) time: Timestamp,
    /// Of the program.
    pub(super) version: String,
    /// The revision of the keyring that it has loaded.
    pub(super) keyring: u64,
    /// Where it listens for hosts.
    pub(super) address: String,
}

/// The state of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It was alive a moment ago.
    Live,
    /// It was admitted, and is not alive.
    Missing,
    /// It was removed.
    Removed,
}

/// An authority as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its ID.
    pub id: String,
    /// What operators call it.
    pub name: Name,
    /// Its state.
    pub state: MemberState,
    /// When it was last alive.
    pub seen: Option<Timestamp>,
    /// The version of its program.
    pub version: Option<String>,
    /// Where it listens for hosts.
    pub address: Option<String>,
    /// The revision of the keyring that it has loaded.
    pub keyring: Option<u64>,
}

impl Member {
    pub(super) fn new(
        id: String,
        record: MemberRecord,
        heartbeat: Option<HeartbeatRecord>,
        now: OffsetDateTime,
    ) -> Self {
        let is_live = |heartbeat: &HeartbeatRecord| {
            // A clock that is ahead or behind is that of another machine.
            (now - heartbeat.time.0).abs() <= HEARTBEAT_INTERVAL * MAX_MISSED.unsigned_abs()
        };
        let state = match (&record.removed, &heartbeat) {
            (Some(_), _) => MemberState::Removed,
            (None, Some(heartbeat)) if is_live(heartbeat) => MemberState::Live,
            _ => MemberState::Missing,
        };
        let seen = heartbeat.as_ref().map(|heartbeat| heartbeat.time);
        let keyring = heartbeat.as_ref().map(|heartbeat| heartbeat.keyring);
        let (version, address) =
            heartbeat.map(|heartbeat| (heartbeat.version, heartbeat.address)).unzip();
        Self { id, name: record.name, state, seen, version, address, keyring }
    }
}

/// What a new authority asks an admitted one for. There is no secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmissionRequest {
    /// The ID of the new authority.
    pub id: String,
    /// What operators are to call it.
    pub name: Name,
    /// To which the private keys are to be wrapped.
    pub wrapping_key: PublicKey,
}

#[derive(Serialize, Deserialize)]
struct RequestDocument {
    id: String,
    name: Name,
    wrapping_key: String,
}

impl AdmissionRequest {
    /// One line, for an operator to carry.
    ///
    /// # Errors
    /// The key cannot be encoded.
    pub fn to_line(&self) -> Result<String, Invalid> {
        let document = RequestDocument {
            id: self.id.clone(),
            name: self.name.clone(),
            wrapping_key: encode_key(&self.wrapping_key)?,
        };
        let document = serde_json::to_vec(&document).map_err(|cause| Invalid(cause.to_string()))?;
        Ok(format!("{REQUEST}{}", Base64::encode_string(&document)))
    }
}

impl std::str::FromStr for AdmissionRequest {
    type Err = Invalid;

    fn from_str(line: &str) -> Result<Self, Invalid> {
        let wrong = || {
            let what = "it is not a request of `authority authorities request`";
            Invalid(format!("{what}, which begins with {REQUEST}: copy the whole line"))
        };
        let line = line.trim();
        let encoded = line.strip_prefix(REQUEST).filter(|_| line.len() <= MAX_REQUEST);
        let document = Base64::decode_vec(encoded.ok_or_else(wrong)?).map_err(|_| wrong())?;
        let document: RequestDocument = serde_json::from_slice(&document).map_err(|_| wrong())?;
        let id: Uuid = document.id.parse().map_err(|_| wrong())?;
        let wrapping_key = decode_key(&document.wrapping_key).map_err(|_| wrong())?;
        Ok(Self { id: id.to_string(), name: document.name, wrapping_key })
    }
}

/// SubjectPublicKeyInfo, DER in base64.
pub(super) fn encode_key(key: &PublicKey) -> Result<String, Invalid> {
    let der = key.to_public_key_der().map_err(|cause| Invalid(cause.to_string()))?;
    Ok(Base64::encode_string(der.as_bytes()))
}

pub(super) fn decode_key(text: &str) -> Result<PublicKey, Invalid> {
    let der = Base64::decode_vec(text).map_err(|cause| Invalid(cause.to_string()))?;
    PublicKey::from_public_key_der(&der).map_err(|cause| Invalid(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use p256::SecretKey;
    use p256::elliptic_curve::Generate;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    #[test]
    fn authority_is_missing_after_three_heartbeats_and_removed_for_good() {
        let record = MemberRecord {
            name: "a".parse().unwrap(),
            wrapping_key: String::new(),
            added: Timestamp(NOW),
            removed: None,
        };
        let state = |record: &MemberRecord, seconds: Option<i64>| {
            let heartbeat = seconds.map(|seconds| HeartbeatRecord {
                time: Timestamp(NOW - time::Duration::seconds(seconds)),
                version: "1".into(),
                keyring: 1,
                address: String::new(),
            });
            Member::new("id".into(), record.clone(), heartbeat, NOW).state
        };
        assert_eq!(state(&record, None), MemberState::Missing);
        for (seconds, expected) in
            [(0, MemberState::Live), (15, MemberState::Live), (16, MemberState::Missing)]
        {
            assert_eq!(state(&record, Some(seconds)), expected, "{seconds}");
            assert_eq!(state(&record, Some(-seconds)), expected, "its clock is ahead");
        }
        let removed = MemberRecord { removed: Some(Timestamp(NOW)), ..record };
        assert_eq!(state(&removed, Some(0)), MemberState::Removed);
    }

    #[test]
    fn request_is_read_as_it_was_written_and_anything_else_is_refused() {
        let request = AdmissionRequest {
            id: Uuid::nil().to_string(),
            name: "b".parse().unwrap(),
            wrapping_key: SecretKey::try_generate().unwrap().public_key(),
        };
        let line = request.to_line().unwrap();
        assert_eq!(format!(" {line}\n").parse(), Ok(request));
        let other = |json: &str| format!("{REQUEST}{}", Base64::encode_string(json.as_bytes()));
        for wrong in [
            String::new(),
            line.replace("v1", "v2"),
            line[..line.len() - 4].to_owned(),
            other("{}"),
            other(r#"{"id":"../a","name":"b","wrapping_key":""}"#),
            format!("{line}{}", "A".repeat(MAX_REQUEST)),
        ] {
            let refused = wrong.parse::<AdmissionRequest>().unwrap_err();
            assert!(refused.0.contains("copy the whole line"), "{wrong}: {refused}");
        }
    }
}
