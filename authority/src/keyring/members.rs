//! The authorities of a cluster: who can use the private keys, and who is alive.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use p256::PublicKey;
use pkcs8::{DecodePublicKey, EncodePublicKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::resource::{Invalid, Name, Timestamp};
use crate::store::Keyed;

/// How often an authority says that it is alive.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// An authority without a heartbeat for longer is missing: it has missed three.
const MISSING_AFTER: Duration = Duration::from_secs(15);

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

/// The heartbeats of the authorities as this one has seen them change. By its own clock: those of other machines may be minutes off.
#[derive(Default)]
pub(super) struct Observed(Mutex<BTreeMap<String, Observation>>);

struct Observation {
    row: Vec<u8>,
    /// When this row was seen for the first time.
    since: Instant,
    /// Whether there was another one before.
    has_changed: bool,
}

impl Observed {
    /// Takes the heartbeats of all authorities, by their IDs, as they are now.
    pub(super) fn note(&self, rows: Vec<Keyed>, now: Instant) {
        let mut observed = self.lock();
        for (id, row) in rows {
            let known = observed.get(&id);
            if known.is_none_or(|known| known.row != row) {
                let has_changed = known.is_some();
                observed.insert(id, Observation { row, since: now, has_changed });
            }
        }
    }

    /// Whether an authority is alive. Until its heartbeats were observed for long enough, the time in the last one decides.
    pub(super) fn is_live(&self, id: &str, is_recent: bool, now: Instant) -> bool {
        let observed = self.lock();
        let Some(Observation { since, has_changed, .. }) = observed.get(id) else {
            return is_recent;
        };
        now.duration_since(*since) <= MISSING_AFTER && (*has_changed || is_recent)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Observation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeartbeatRecord {
    /// Whether it was written a moment ago, if the clock of its authority is right.
    pub(super) fn is_recent(&self, now: OffsetDateTime) -> bool {
        (now - self.time.0).abs() <= MISSING_AFTER
    }
}

impl Member {
    pub(super) fn new(
        id: String,
        record: MemberRecord,
        heartbeat: Option<HeartbeatRecord>,
        is_live: bool,
    ) -> Self {
        let state = match &record.removed {
            Some(_) => MemberState::Removed,
            None if is_live => MemberState::Live,
            None => MemberState::Missing,
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

    fn heartbeat(seconds_ago: i64) -> HeartbeatRecord {
        HeartbeatRecord {
            time: Timestamp(NOW - time::Duration::seconds(seconds_ago)),
            version: "1".into(),
            keyring: 1,
            address: String::new(),
        }
    }

    #[test]
    fn removed_authority_is_removed_for_good() {
        let record = MemberRecord {
            name: "a".parse().unwrap(),
            wrapping_key: String::new(),
            added: Timestamp(NOW),
            removed: None,
        };
        let state = |record: &MemberRecord, is_live| {
            Member::new("id".into(), record.clone(), Some(heartbeat(0)), is_live).state
        };
        assert_eq!(state(&record, true), MemberState::Live);
        assert_eq!(state(&record, false), MemberState::Missing);
        let removed = MemberRecord { removed: Some(Timestamp(NOW)), ..record };
        assert_eq!(state(&removed, true), MemberState::Removed);
    }

    #[test]
    fn authority_is_missing_after_three_heartbeats_whatever_its_clock_says() {
        for (seconds, expected) in [(0, true), (15, true), (16, false), (-15, true), (-16, false)] {
            assert_eq!(heartbeat(seconds).is_recent(NOW), expected, "{seconds}");
        }
        let (observed, start) = (Observed::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let note = |row: &[u8], seconds| {
            observed.note(vec![("a".to_owned(), row.to_vec())], at(seconds));
        };
        // What its clock says counts only until its heartbeats were seen to change, or not to.
        assert!(observed.is_live("a", true, start) && !observed.is_live("a", false, start));
        note(b"1", 0);
        assert!(observed.is_live("a", true, at(15)) && !observed.is_live("a", false, at(1)));
        assert!(!observed.is_live("a", true, at(16)));
        note(b"1", 16);
        assert!(!observed.is_live("a", true, at(17)));
        note(b"2", 20);
        note(b"2", 34);
        assert!(observed.is_live("a", false, at(35)) && !observed.is_live("a", true, at(36)));
        note(b"3", 100);
        assert!(observed.is_live("a", false, at(101)));
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
