//! Tokens as joins are decided with: parsed once, and shared by all joins.
//!
//! A token may list hundreds of CAs and tens of thousands of rules, and unproven hosts decide how often it is read. A read costs
//! the same for any size.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;
use verifier::{CaCertificate, chain};

use super::Authority;
use super::checks::store_failed;
use super::refusal::{Code, Refusal};
use crate::evidence::fingerprint;
use crate::resource::{
    EkHash, Invalid, Join, Metadata, Name, ProvenEk, Rule, Serial, SystemRole, Token, TpmSpec,
};
use crate::store::{self, Records, StoreError, Table};

/// Records of cached tokens, in bytes. What is parsed from them takes about as much again.
const MAX_CACHED_BYTES: usize = 64 * 1024 * 1024;

/// A token with which bots join by TPM.
pub(super) struct OpenToken {
    pub(super) name: Name,
    pub(super) bot: Name,
    /// The CAs that it names; none if it demands no certificate.
    pub(super) anchors: Vec<CaCertificate>,
    /// Whether an EK certificate has to say that it is one.
    pub(super) without_purpose: chain::PurposePolicy,
    /// SHA-256 of its record, hexadecimal.
    pub(super) sha256: String,
    /// The anchors' fingerprints.
    fingerprints: HashSet<String>,
    rules: Rules,
}

impl OpenToken {
    fn new(name: Name, bot: Name, tpm: TpmSpec, sha256: String) -> Result<Self, Invalid> {
        let anchors = tpm.allowed_cas()?;
        Ok(Self {
            sha256,
            name,
            bot,
            fingerprints: anchors.iter().map(CaCertificate::fingerprint).collect(),
            anchors,
            without_purpose: tpm.ekcert_without_purpose.into(),
            rules: Rules::new(tpm.allow),
        })
    }

    /// Checks that the CA that verified the EK is one of the token's, if it lists any.
    pub(super) fn check_ca(&self, ek: &ProvenEk) -> Result<(), Refusal> {
        let named = |by: &String| self.fingerprints.contains(by);
        if self.anchors.is_empty() || ek.verified_by.as_ref().is_some_and(named) {
            return Ok(());
        }
        let reason = "the EK certificate was not verified by any of the token's present CAs when \
                      the host joined";
        Err(Refusal::new(Code::EvidenceOutdated, reason))
    }

    /// The CA with this fingerprint, DER.
    pub(super) fn ca(&self, fingerprint: &str) -> Option<&[u8]> {
        let ca = self.anchors.iter().find(|ca| ca.fingerprint() == fingerprint);
        ca.map(CaCertificate::der)
    }

    /// A rule that matches, without its description.
    pub(super) fn rule(&self, ek: &ProvenEk) -> Option<&Rule> {
        self.rules.find(ek)
    }

    /// Whether a rule matches: one of which everything that it sets is equal.
    pub(super) fn check_rules(&self, ek: &ProvenEk) -> Result<(), Refusal> {
        if self.rule(ek).is_some() {
            return Ok(());
        }
        let reason = format!("no rule of the token allows the EK {}", ek.public_hash);
        Err(Refusal::new(Code::EkNotAllowed, reason))
    }
}

/// The allow rules, found by what they set: only those that can match are looked at.
#[derive(Default)]
struct Rules {
    by_hash: HashMap<EkHash, Vec<Rule>>,
    /// Those without a hash.
    by_serial: HashMap<Serial, Vec<Rule>>,
}

impl Rules {
    fn new(rules: Vec<Rule>) -> Self {
        let mut all = Self::default();
        for rule in rules {
            let rule = Rule { description: None, ..rule };
            match (&rule.ek_public_hash, &rule.ek_certificate_serial) {
                (Some(hash), _) => all.by_hash.entry(hash.clone()).or_default().push(rule),
                (None, Some(serial)) => all.by_serial.entry(serial.clone()).or_default().push(rule),
                // Matches no TPM.
                (None, None) => {}
            }
        }
        all
    }

    fn find(&self, ek: &ProvenEk) -> Option<&Rule> {
        let by_hash = self.by_hash.get(&ek.public_hash);
        let serial = ek.certificate_serial.as_ref();
        let by_serial = serial.and_then(|serial| self.by_serial.get(serial));
        by_hash.into_iter().chain(by_serial).flatten().find(|rule| rule.matches(ek))
    }
}

/// A token of any kind, as it is cached.
struct Parsed {
    metadata: Metadata,
    /// The refusal of every join if no bot joins with it by TPM.
    open: Result<Arc<OpenToken>, Code>,
}

impl Parsed {
    /// A token with the SHA-256 of its record.
    fn new(token: Token, sha256: String) -> Result<Self, Invalid> {
        let Token { metadata, spec, .. } = token;
        let is_bot = spec.roles.contains(&SystemRole::Bot);
        let is_by_tpm = matches!(spec.join(), Ok(Join::Tpm(_)));
        let open = match (spec.bot_name, spec.tpm) {
            _ if !is_by_tpm => Err(Code::TokenMethod),
            (Some(bot), Some(tpm)) if is_bot => {
                Ok(Arc::new(OpenToken::new(metadata.name.clone(), bot, tpm, sha256)?))
            }
            _ => Err(Code::TokenRole),
        };
        Ok(Self { metadata, open })
    }
}

/// Parsed tokens, valid at one revision of the store's tokens.
///
/// The revision is written in the transaction of each change and is read before each use, so
/// that neither a write of another process nor one whose caller has gone leaves a token here that
/// is no longer in force.
#[derive(Default)]
pub(super) struct TokenCache {
    parsed: Mutex<Entries>,
    /// One reader at a time fills the cache; the others wait and find what it read.
    filling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Entries {
    revision: Vec<u8>,
    tokens: HashMap<Name, Arc<Parsed>>,
    bytes: usize,
}

impl TokenCache {
    async fn token(
        &self,
        records: &Records,
        name: &Name,
    ) -> Result<Option<Arc<Parsed>>, StoreError> {
        if let Some(found) = self.cached(&records.tokens_revision().await?, name) {
            return Ok(Some(found));
        }
        let _turn = self.filling.lock().await;
        // Before the record: what is cached may be newer than its revision, never older.
        let revision = records.tokens_revision().await?;
        if let Some(found) = self.cached(&revision, name) {
            return Ok(Some(found));
        }
        let Some(record) = records.token_record(name).await? else { return Ok(None) };
        let bytes = record.len();
        // A large one takes longer than a reactor thread may be kept.
        let key = name.to_string();
        let parsed = tokio::task::spawn_blocking(move || {
            let token = store::decode(Table::Tokens, &key, &record)?;
            Parsed::new(token, fingerprint(&record)).map_err(|cause| unreadable(&key, &cause))
        });
        let parsed = parsed.await.map_err(|cause| unreadable(name.as_str(), &cause))?;
        let parsed = Arc::new(parsed?);
        self.keep(revision, name, &parsed, bytes);
        Ok(Some(parsed))
    }

    fn cached(&self, revision: &[u8], name: &Name) -> Option<Arc<Parsed>> {
        let entries = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        entries.tokens.get(name).filter(|_| entries.revision == revision).cloned()
    }

    fn keep(&self, revision: Vec<u8>, name: &Name, parsed: &Arc<Parsed>, bytes: usize) {
        let mut entries = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.revision != revision || entries.bytes.saturating_add(bytes) > MAX_CACHED_BYTES {
            *entries = Entries { revision, ..Entries::default() };
        }
        entries.bytes = entries.bytes.saturating_add(bytes);
        entries.tokens.insert(name.clone(), Arc::clone(parsed));
    }
}

fn unreadable(name: &str, cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable(format!("token \"{name}\": {cause}"))
}

impl Authority {
    /// The token of this name, if bots can join with it by TPM at this time.
    pub(super) async fn open_token(
        &self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<Arc<OpenToken>, Refusal> {
        let unknown = |cause: &dyn std::fmt::Display| Refusal::new(Code::TokenUnknown, cause);
        let name: Name = name.parse().map_err(|cause| unknown(&cause))?;
        let token = self.tokens.token(&self.records, &name).await.map_err(store_failed)?;
        let token = token.ok_or_else(|| unknown(&format!("the token {name} does not exist")))?;
        if token.metadata.expired(now) {
            return Err(Refusal::new(Code::TokenExpired, format!("the token {name} has expired")));
        }
        let closed = |code| Refusal::new(code, "the token does not allow bots to join by TPM");
        token.open.clone().map_err(closed)
    }
}

#[cfg(test)]
mod tests;
