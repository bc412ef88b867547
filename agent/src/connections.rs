//! How many connections a socket has, so that one user cannot take the places of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub connections: usize,
    /// Of one user.
    pub per_user: usize,
}

/// Of a socket on which each call may be a connection.
impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, per_user: 2048 }
    }
}

/// Places for connections, by user.
#[derive(Clone, Debug)]
pub struct Places {
    limits: Limits,
    taken: Arc<Mutex<HashMap<Option<u32>, usize>>>,
}

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    of: Places,
    uid: Option<u32>,
}

impl Places {
    /// Places within these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, taken: Arc::default() }
    }

    /// A place for a connection of this user, who may be unknown; `None` if there is none.
    #[must_use]
    pub fn take(&self, uid: impl Into<Option<u32>>) -> Option<Place> {
        let uid = uid.into();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let of_user = taken.entry(uid).or_default();
        if all >= self.limits.connections || *of_user >= self.limits.per_user {
            return None;
        }
        *of_user = of_user.saturating_add(1);
        Some(Place { of: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = taken.get_mut(&self.uid) {
            *of_user = of_user.saturating_sub(1);
            if *of_user == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_places_to_others() {
        let places = Places::new(Limits { connections: 3, per_user: 2 });
        let first = places.take(1).unwrap();
        let _second = places.take(1).unwrap();
        assert!(places.take(1).is_none());
        let _other = places.take(2).unwrap();
        assert!(places.take(2).is_none());
        drop(first);
        assert!(places.take(2).is_some());
        assert!(places.take(1).is_some());
    }
}
