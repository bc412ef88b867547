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

/// How long the TPM and the authority are waited for: callers have deadlines too, and shall learn the reason.
const TIMEOUT: Duration = Duration::from_secs(10);

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
        let late =
            || NotIssued::Unavailable("neither the TPM nor the authority has answered yet".into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::validity::Validity;

    fn key(audiences: &[&str], spiffe_id: Option<&str>) -> Key {
        let kind = Kind { offers: vec![0], workload: None, uid: Some(1) };
        let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
        Key::new(kind, &audiences, spiffe_id)
    }

    /// A token of this name, issued so long ago and valid for so much longer.
    fn svid(token: &str, past: i64, left: i64) -> Vec<JwtSvid> {
        let now = clock::now().unix_timestamp();
        let validity = Validity { not_before: now - past, not_after: now + left };
        let (spiffe_id, hint) = ("spiffe://td/a".to_owned(), String::new());
        vec![JwtSvid { spiffe_id, hint, token: token.to_owned(), validity }]
    }

    /// What a request gets if the authority answers with `fetched`.
    async fn get(
        cache: &JwtCache,
        key: Key,
        fetched: Result<Vec<JwtSvid>, NotIssued>,
    ) -> Result<String, NotIssued> {
        let svids = cache.get(key, || std::future::ready(fetched)).await?;
        Ok(svids.into_iter().map(|svid| svid.token).collect())
    }

    #[tokio::test]
    async fn token_is_for_the_whole_set_of_audiences() {
        let cache = JwtCache::default();
        let issued = || Ok(svid("a, b", 0, 300));
        assert_eq!(get(&cache, key(&["a", "b"], None), issued()).await.unwrap(), "a, b");
        let other = || Ok(svid("other", 0, 300));
        for same in [key(&["b", "a"], None), key(&["a", "b", "a"], None)] {
            assert_eq!(get(&cache, same, other()).await.unwrap(), "a, b");
        }
        for another in [
            key(&["a"], None),
            key(&["a", "b", "c"], None),
            key(&["a", "b"], Some("spiffe://td/a")),
        ] {
            assert_eq!(get(&cache, another, other()).await.unwrap(), "other");
        }
    }

    #[tokio::test]
    async fn valid_token_serves_while_the_authority_is_away_and_an_expired_one_does_not() {
        let away = || NotIssued::Unavailable("away".into());
        for (left, expected) in [(100, Ok("old".to_owned())), (0, Err(away()))] {
            let cache = JwtCache::default();
            let wanted = || key(&["a"], None);
            get(&cache, wanted(), Ok(svid("old", 200, left))).await.unwrap();
            let got = get(&cache, wanted(), Err(away())).await;
            assert_eq!(got, expected);
            // Over half of its life has passed.
            assert_eq!(get(&cache, wanted(), Ok(svid("new", 0, 300))).await.unwrap(), "new");
        }
        let cache = JwtCache::default();
        get(&cache, key(&["a"], None), Ok(svid("old", 200, 100))).await.unwrap();
        let refused = get(&cache, key(&["a"], None), Err(NotIssued::Nothing)).await;
        assert_eq!(refused, Err(NotIssued::Nothing));
    }
}
