//! JWT-SVIDs that were issued and have more than half of their life left.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::clock;

use super::Kind;
use crate::credential::svid::JwtSvid;
use crate::workload_api::NotIssued;

/// Tokens at a time.
const MAX_ENTRIES: usize = 1024;

/// How long the authority is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The same while there are valid tokens.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kind: Kind,
    /// The whole set, in order.
    audiences: Vec<String>,
    spiffe_id: Option<String>,
}

impl Key {
    pub(super) fn new(kind: Kind, audiences: &[String], spiffe_id: Option<&str>) -> Self {
        let mut audiences = audiences.to_vec();
        audiences.sort();
        audiences.dedup();
        Self { kind, audiences, spiffe_id: spiffe_id.map(ToOwned::to_owned) }
    }
}

/// The tokens by what they were requested with.
#[derive(Default)]
pub(super) struct JwtCache(Mutex<HashMap<Key, Vec<JwtSvid>>>);

impl JwtCache {
    /// The tokens for a request: those that are here, or else what `fetch` returns.
    pub(super) async fn get<F>(
        &self,
        key: Key,
        fetch: impl FnOnce() -> F,
    ) -> Result<Vec<JwtSvid>, NotIssued>
    where
        F: Future<Output = Result<Vec<JwtSvid>, NotIssued>>,
    {
        let now = clock::now().unix_timestamp();
        let known = self.lock().get(&key).cloned();
        let known = known.filter(|all| all.iter().all(|one| one.validity.is_valid_at(now)));
        if let Some(known) = &known
            && known.iter().all(|one| is_fresh(one, now))
        {
            return Ok(known.clone());
        }
        let timeout = if known.is_some() { SHORT_TIMEOUT } else { TIMEOUT };
        let late = || NotIssued::Unavailable("the authority has not answered yet".into());
        let fetched = tokio::time::timeout(timeout, fetch()).await.unwrap_or_else(|_| Err(late()));
        match (fetched, known) {
            (Ok(fetched), _) => {
                self.insert(key, fetched.clone(), now);
                Ok(fetched)
            }
            (Err(NotIssued::Unavailable(_)), Some(known)) => Ok(known),
            (Err(not_issued), _) => Err(not_issued),
        }
    }

    fn insert(&self, key: Key, svids: Vec<JwtSvid>, now: i64) {
        let mut all = self.lock();
        all.retain(|_, svids| svids.iter().all(|one| one.validity.is_valid_at(now)));
        if all.len() < MAX_ENTRIES {
            all.insert(key, svids);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<JwtSvid>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(svid: &JwtSvid, now: i64) -> bool {
    let half = svid.validity.not_after.saturating_add(svid.validity.not_before) / 2;
    now < half
}
