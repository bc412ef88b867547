//! The audit log: one line of JSON for every join, renewal and issue, granted or refused, for every
//! refused `WhoAmI`, and for every change of a resource.
//!
//! Grants and changes are entries of the log, which is in the store: each is appended in the transaction of the change that it tells
//! of, and says what the records are after it. Those that are no decisions of their own, such as renewals, are brief (`brief`). The log
//! is a Merkle tree ([`tree`]) with signed heads ([`checkpoint`]). The file is written from the log, and has a line a minute for the brief
//! entries (`summary`). Single refusals are written to the file only; the log has their numbers.

mod brief;
mod change;
pub mod checkpoint;
mod lines;
mod log;
mod log_key;
mod queue;
pub mod replay;
mod row;
mod summary;
pub mod tree;

use serde::Serialize;
use uuid::Uuid;

pub(crate) use self::brief::Brief;
pub use self::change::Author;
pub(crate) use self::change::{ChangeEvent, Deed, KeyringDeed, KeyringSubject};
pub use self::log::AuditLog;
pub(crate) use self::log_key::log_key;
pub(crate) use self::queue::Counts;
pub use self::row::{BoundRecord, Row};
pub(crate) use self::row::{binding, numbered};
pub(crate) use self::summary::{Granted, Refused};
use crate::resource::{
    Attributes, EkHash, HostPrincipal, JoinId, KeyLocation, Name, Serial, SpiffeId, Timestamp,
};

/// An event of the audit log. Text from the network is bounded, and JSON escapes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When it ended.
    pub time: Timestamp,
    /// Unique per event, with Teleport's field name: a line that is repeated after a crash has the same ID.
    pub uid: String,
    /// Which event.
    pub event: &'static str,
    /// Its code: Teleport's for a join, our own for what Teleport does otherwise.
    pub code: &'static str,
    /// Granted or refused.
    pub outcome: Outcome,
    /// The stable code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// The number of refusals that this event stands for, if they were only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
    /// The reason of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the host proved and claimed.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// How hosts prove themselves.
    pub method: &'static str,
    /// What it is in a brief entry, if it is one.
    #[serde(skip)]
    brief: Option<brief::Kind>,
}

/// What was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// To join.
    Join,
    /// New certificates for the key that joined.
    Renew,
    /// Certificates for another key.
    Issue,
    /// Authentication; only refusals are recorded.
    WhoAmI,
    /// To prove that a service's key is in the TPM.
    ProveKey,
    /// X.509-SVIDs for a workload.
    X509Svid,
    /// JWT-SVIDs for a workload.
    JwtSvid,
    /// An SSH host certificate.
    SshHost,
    /// The trust bundle; only refusals are recorded.
    TrustBundle,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Join,
        Self::Renew,
        Self::Issue,
        Self::WhoAmI,
        Self::ProveKey,
        Self::X509Svid,
        Self::JwtSvid,
        Self::SshHost,
        Self::TrustBundle,
    ];

    /// What the event is called.
    pub fn event(self) -> &'static str {
        match self {
            Self::Join => "bot.join",
            Self::Renew => "bot.renew",
            Self::Issue => "bot.issue",
            Self::WhoAmI => "bot.whoami",
            Self::ProveKey => "bot.prove_key",
            Self::X509Svid => "workload.x509_svid",
            Self::JwtSvid => "workload.jwt_svid",
            Self::SshHost => "workload.ssh_host",
            Self::TrustBundle => "workload.trust_bundle",
        }
    }

    fn code(self, outcome: Outcome) -> &'static str {
        match (self, outcome) {
            (Self::Join, Outcome::Refused) => "TJ001E",
            (Self::Renew, Outcome::Refused) => "EN001E",
            (Self::Issue, Outcome::Refused) => "EN002E",
            (Self::WhoAmI, Outcome::Refused) => "EN003E",
            (Self::ProveKey, Outcome::Refused) => "EN010E",
            (Self::X509Svid, Outcome::Refused) => "EN004E",
            (Self::SshHost, Outcome::Refused) => "EN007E",
            (Self::TrustBundle, Outcome::Refused) => "EN005E",
            (Self::JwtSvid, Outcome::Refused) => "EN006E",
            (Self::Join, _) => "TJ001I",
            (Self::Renew, _) => "EN001I",
            (Self::Issue, _) => "EN002I",
            (Self::WhoAmI, _) => "EN003I",
            (Self::ProveKey, _) => "EN010I",
            (Self::X509Svid, _) => "EN004I",
            (Self::SshHost, _) => "EN007I",
            (Self::TrustBundle, _) => "EN005I",
            (Self::JwtSvid, _) => "EN006I",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// With certificates.
    Granted,
    /// Without.
    Refused,
    /// A resource was changed.
    Done,
}

/// What is known of an attempt, depending on how far it got.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Attempt {
    /// Which join, for `authority explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_id: Option<JoinId>,
    /// SHA-256 of the evidence that is kept of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence_sha256: Option<String>,
    /// The token that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
    /// The bot of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_name: Option<Name>,
    /// The instance that the join made, or that calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_instance_id: Option<String>,
    /// Counts the join and the renewals of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The generation of the certificate that was shown, if it was not the latest: a clone has
    /// renewed, or an answer was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presented_generation: Option<u64>,
    /// What the agent calls the service that a certificate is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The EK that was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek_pub_hash: Option<EkHash>,
    /// The serial number of its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek_cert_serial: Option<Serial>,
    /// True only if the certificate chains to a CA that the token names.
    pub ek_cert_verified: bool,
    /// True only if the TPM with this EK answered.
    pub ek_proven: bool,
    /// Where the connection comes from.
    #[serde(rename = "addr.remote", skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What the host calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What the agent calls its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The serial number of the certificate that was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_serial: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Timestamp>,
    /// `tpm` if the key of a service was proven to be in the TPM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_location: Option<KeyLocation>,
    /// What the agent attested of the workload that asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Attributes>,
    /// To whom JWTs are addressed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// What was issued for the workload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub svids: Vec<IssuedSvid>,
    /// The names in the SSH host certificate that was issued.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<HostPrincipal>,
}

/// A credential of a workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IssuedSvid {
    /// The workload identity; absent for the bot's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<String>,
    /// Whose it is.
    pub spiffe_id: SpiffeId,
    /// Its serial number, if it is a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_serial: Option<String>,
    /// Its `jti`, if it is a JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// A text from the network, cut to 255 bytes as written in the log, where JSON uses six bytes for a control character.
pub fn bounded(text: &str) -> Option<String> {
    const MAX: usize = 255;
    let mut length = 0;
    let fits = |character: &char| {
        length += match character {
            '"' | '\\' => 2,
            control if control.is_control() => 6,
            character => character.len_utf8(),
        };
        length <= MAX
    };
    (!text.is_empty()).then(|| text.chars().take_while(fits).collect())
}

impl Event {
    /// As it is appended to the log.
    pub(crate) fn entry(&self) -> serde_json::Result<Vec<u8>> {
        self.brief().map_or_else(|| row::line(self), |brief| Ok(brief.to_bytes()))
    }

    /// The same as a brief entry, if it is one.
    fn brief(&self) -> Option<Brief> {
        let attempt = &self.attempt;
        let bot = attempt.bot_name.as_ref()?.to_string();
        let instance = attempt.bot_instance_id.as_ref()?.parse().ok()?;
        let generation = attempt.generation?;
        Some(Brief::new(self.brief?, self.time, (bot, instance), generation, attempt.key_location))
    }

    /// What was granted.
    pub fn granted(action: Action, time: Timestamp, attempt: Attempt) -> Self {
        // A certificate that is not the latest is worth a line.
        let is_ordinary = attempt.presented_generation.is_none();
        let brief = brief::Kind::granted(action).filter(|_| is_ordinary);
        Self { brief, ..Self::new(action, time, Outcome::Granted, attempt) }
    }

    /// What was refused.
    pub fn refused(
        action: Action,
        time: Timestamp,
        attempt: Attempt,
        code: &'static str,
        reason: &str,
    ) -> Self {
        Self {
            refusal: Some(code),
            reason: bounded(reason),
            ..Self::new(action, time, Outcome::Refused, attempt)
        }
    }

    fn new(action: Action, time: Timestamp, outcome: Outcome, attempt: Attempt) -> Self {
        let (event, code, method) = (action.event(), action.code(outcome), "tpm");
        Self {
            time,
            uid: Uuid::new_v4().to_string(),
            event,
            code,
            outcome,
            refusal: None,
            more: None,
            reason: None,
            attempt,
            method,
            brief: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_as_it_stands_in_the_log() {
        for hostile in ["\u{1}", "\"", "\u{7f}", "\u{9b}", "\\", "x", "ü", "\u{1f512}"] {
            let text = bounded(&hostile.repeat(10_000)).unwrap();
            let json = serde_json::to_string(&text).unwrap();
            assert!(
                (240..=257).contains(&json.len()) || hostile == "\u{7f}" || hostile == "\u{9b}"
            );
            assert!(json.len() <= 257, "{}", json.len());
        }
        assert_eq!(bounded(""), None);
    }
}
