//! When the keys for JWTs change: a key is published before it signs, and until its last JWT has expired.

use std::fmt;

use time::OffsetDateTime;

use super::{IssueError, JwtAlgorithm, JwtKey, MAX_JWT_LIFETIME, Ring};

/// How long a key is published before it signs. Readers poll every five minutes ([`super::REFRESH_HINT`]), and the
/// specification wants three to five times that (SPIFFE Trust Domain and Bundle, section 4.1.1); agents that only renew are slower.
pub const PUBLISHED_BEFORE_USE: time::Duration = time::Duration::hours(1);

/// How long a retired key is published: until its last JWT has expired, and a little longer for clocks that are behind.
pub const PUBLISHED_AFTER_USE: time::Duration =
    MAX_JWT_LIFETIME.saturating_add(time::Duration::hours(1));

/// What happens to a key for JWTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtKeyStep {
    /// It is published, and is to sign later.
    Published,
    /// It is to sign by an algorithm that is no longer wanted, and has signed nothing.
    Withdrawn,
    /// It signs.
    Activated,
    /// It is no longer published.
    Removed,
}

impl fmt::Display for JwtKeyStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published a new key for JWTs",
            Self::Withdrawn => "withdrew the next key for JWTs",
            Self::Activated => "JWTs are signed by the next key",
            Self::Removed => "removed a retired key for JWTs",
        })
    }
}

/// A change of the keys for JWTs.
#[derive(Debug)]
pub struct JwtKeyChange {
    /// What they become.
    pub ring: Ring<JwtKey>,
    /// What happens, for the log.
    pub what: JwtKeyStep,
    /// The key that it happens to; of several expired ones, the first.
    pub key_id: String,
}

impl Ring<JwtKey> {
    /// All changes that are due, in order.
    ///
    /// # Errors
    /// A key cannot be generated.
    pub fn all_due(
        &self,
        algorithm: JwtAlgorithm,
        now: OffsetDateTime,
    ) -> Result<Vec<JwtKeyChange>, IssueError> {
        let mut changes: Vec<JwtKeyChange> = Vec::new();
        while let Some(change) =
            changes.last().map_or(self, |last| &last.ring).due(algorithm, now)?
        {
            changes.push(change);
        }
        Ok(changes)
    }

    /// The change that is due, if JWTs are to be signed by this algorithm.
    ///
    /// # Errors
    /// A key cannot be generated.
    pub fn due(
        &self,
        algorithm: JwtAlgorithm,
        now: OffsetDateTime,
    ) -> Result<Option<JwtKeyChange>, IssueError> {
        let change = |ring, what, key: &JwtKey| {
            let key_id = key.public().key_id().to_owned();
            Ok(Some(JwtKeyChange { ring, what, key_id }))
        };
        let (active, next) = (self.active(), self.next());
        let is_right = active.public().algorithm() == algorithm && active.can_sign();
        match next {
            None if !is_right => {
                let key = JwtKey::generate(algorithm)?;
                let ring = self.clone().with_next(key, now);
                let key = ring.next().map_or_else(|| active.clone(), |next| next.ca.clone());
                return change(ring, JwtKeyStep::Published, &key);
            }
            // It has signed nothing.
            Some(next) if next.ca.public().algorithm() != algorithm => {
                let ring = self.clone().without_next();
                return change(ring, JwtKeyStep::Withdrawn, &next.ca);
            }
            // Without a key that signs there is nothing to wait for.
            Some(next)
                if !is_right
                    && (now - next.since >= PUBLISHED_BEFORE_USE || !active.can_sign()) =>
            {
                let ring = self.clone().activated(now);
                return change(ring, JwtKeyStep::Activated, &next.ca);
            }
            None | Some(_) => {}
        }
        let then = now - PUBLISHED_AFTER_USE;
        match self.retired().iter().find(|one| one.since < then) {
            Some(expired) => {
                let ring = self.clone().without_retired_before(then);
                change(ring, JwtKeyStep::Removed, &expired.ca)
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::issue::CaState;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    fn states(ring: &Ring<JwtKey>) -> Vec<(CaState, JwtAlgorithm)> {
        ring.all().map(|(state, one)| (state, one.ca.public().algorithm())).collect()
    }

    /// All changes that are due.
    fn settled(
        mut ring: Ring<JwtKey>,
        algorithm: JwtAlgorithm,
        at: OffsetDateTime,
    ) -> Ring<JwtKey> {
        for _ in 0..9 {
            match ring.due(algorithm, at).unwrap() {
                Some(change) => ring = change.ring,
                None => return ring,
            }
        }
        panic!("the keys change without end")
    }

    #[test]
    fn another_algorithm_has_a_key_that_is_published_before_it_signs() {
        use JwtAlgorithm::{Es256, Rs256};
        let ring = Ring::new(JwtKey::generate(Es256).unwrap(), NOW);
        let ring = settled(ring, Es256, NOW + time::Duration::days(999));
        assert_eq!(states(&ring), [(CaState::Active, Es256)]);
        let ring = settled(ring, Rs256, NOW);
        let both = [(CaState::Active, Es256), (CaState::Next, Rs256)];
        assert_eq!(states(&ring), both);
        let almost = NOW + PUBLISHED_BEFORE_USE - time::Duration::seconds(1);
        let waiting = settled(ring.clone(), Rs256, almost);
        assert_eq!(states(&waiting), both);
        // The operator has thought better of it.
        assert_eq!(states(&settled(waiting, Es256, almost)), [(CaState::Active, Es256)]);
        let then = NOW + PUBLISHED_BEFORE_USE;
        let ring = settled(ring, Rs256, then);
        let after = [(CaState::Active, Rs256), (CaState::Retired, Es256)];
        assert_eq!(states(&ring), after);
        let ring = settled(ring, Rs256, then + PUBLISHED_AFTER_USE);
        assert_eq!(states(&ring), after);
        let gone = then + PUBLISHED_AFTER_USE + time::Duration::seconds(1);
        assert_eq!(states(&settled(ring, Rs256, gone)), [(CaState::Active, Rs256)]);
    }

    #[test]
    fn key_that_cannot_sign_is_replaced_at_once() {
        let lost = JwtKey::generate(JwtAlgorithm::Rs256).unwrap().public().clone();
        let ring = Ring::new(JwtKey::without_private(lost), NOW);
        let ring = settled(ring, JwtAlgorithm::Es256, NOW);
        assert!(ring.active().can_sign());
        let retired = (CaState::Retired, JwtAlgorithm::Rs256);
        assert_eq!(states(&ring), [(CaState::Active, JwtAlgorithm::Es256), retired]);
    }
}
