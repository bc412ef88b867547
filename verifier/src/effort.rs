//! Limits on what is computed for an unproven host.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::ca::CaCertificate;
use crate::key::{Curve, EkPublicKey, PublicKey};
use crate::x509::Certificate;

/// Signature checks: enough for the longest path.
pub(crate) const MAX_SIGNATURES: usize = 8;

/// What signature checks that fail or that a host can cause at will, and one challenge, may cost in all, in units of about
/// 0.2 ms. Where several CAs have one name, only the signature may show which of them signed.
const MAX_COST: u32 = 14;

/// What a signature check with this key costs, in the same units.
fn check_cost(key: &PublicKey) -> u32 {
    match key {
        PublicKey::Rsa(key) if key.bits() <= 2048 => 1,
        PublicKey::Rsa(_) => 3,
        PublicKey::Ecc(key) => match key.curve() {
            Curve::P256 => 2,
            Curve::P384 => 9,
            Curve::P521 => 8,
        },
    }
}

/// What a challenge for this EK costs, in the same units.
fn challenge_cost(ek: &EkPublicKey) -> u32 {
    match ek {
        EkPublicKey::Rsa(_) => 1,
        EkPublicKey::Ecc(key) => match key.curve() {
            Curve::P256 => 2,
            Curve::P384 => 8,
            Curve::P521 => 9,
        },
    }
}

/// The computations that one unproven host may still cause, over all its claims.
///
/// The most costly steps are an ECDSA signature check on P-384 or P-521, and a challenge for an EK on
/// these: 1.5 to 2.5 ms each. When such a check fails, nothing else is computed. Every claim with the
/// same `Effort` draws on the same bounds. Genuine signatures are bounded in number alone, since each is
/// checked once for all hosts. After an appraisal that ends in a challenge, further claims are refused
/// unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effort {
    pub(crate) signatures_left: usize,
    cost: u32,
    max_cost: u32,
    is_spent: bool,
}

impl Default for Effort {
    fn default() -> Self {
        Self { signatures_left: MAX_SIGNATURES, cost: 0, max_cost: MAX_COST, is_spent: false }
    }
}

impl Effort {
    /// What one step costs at most, in the units of [`Self::cost`]: a signature check, or a challenge.
    pub const MAX_STEP: u32 = 9;

    /// What such signature checks and the challenge have cost, in units of about 0.2 ms.
    #[must_use]
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// Bounds what more may be computed, in the same units: for a host that costs in other ways too.
    pub fn limit(&mut self, more: u32) {
        self.max_cost = self.cost.saturating_add(more).min(MAX_COST);
    }

    /// Whether another claim is refused unread.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Takes the one challenge, for this EK; false if it would cost too much.
    pub(crate) fn take_challenge(&mut self, ek: &EkPublicKey) -> bool {
        self.is_spent = true;
        let cost = self.cost_with(challenge_cost(ek));
        self.cost = cost.unwrap_or(self.cost);
        cost.is_some()
    }

    /// Takes the check of a signature that a host can make for itself, genuine or not; `None` if it would cost too much.
    pub(crate) fn take_signature(&mut self, key: &PublicKey) -> Option<()> {
        self.cost = self.cost_with(check_cost(key))?;
        Some(())
    }

    /// The cost with so much more; `None` if that is too much.
    fn cost_with(&self, more: u32) -> Option<u32> {
        self.cost.checked_add(more).filter(|cost| *cost <= self.max_cost)
    }

    /// Checks a signature with this key; `None` if that might cost too much.
    pub(crate) fn check(&mut self, key: &PublicKey, check: impl FnOnce() -> bool) -> Option<bool> {
        let cost = self.cost_with(check_cost(key))?;
        self.signatures_left = self.signatures_left.checked_sub(1)?;
        let genuine = check();
        if !genuine {
            // After a check that is more than half of all, there is no other.
            self.cost = if check_cost(key) > MAX_COST / 2 { MAX_COST } else { cost };
        }
        Some(genuine)
    }
}

/// Signatures that were checked and found genuine. The CA certificates of a vendor come with each of
/// its chips, and anyone can copy a genuine chain: each signature is checked once.
#[derive(Debug, Default)]
pub struct KnownSignatures {
    genuine: Mutex<HashSet<[u8; 32]>>,
}

impl KnownSignatures {
    /// Signatures to remember, 32 bytes each; when there are more, all are forgotten.
    const MAX: usize = 16 * 1024;

    pub(crate) fn contains(&self, issuer: &CaCertificate, child: &Certificate) -> bool {
        let genuine = self.genuine.lock().unwrap_or_else(PoisonError::into_inner);
        genuine.contains(&digest(issuer, child))
    }

    pub(crate) fn insert(&self, issuer: &CaCertificate, child: &Certificate) {
        let mut genuine = self.genuine.lock().unwrap_or_else(PoisonError::into_inner);
        if genuine.len() >= Self::MAX {
            genuine.clear();
        }
        genuine.insert(digest(issuer, child));
    }
}

/// Names an issuer, with its key, and everything that it signed, with the signature.
fn digest(issuer: &CaCertificate, child: &Certificate) -> [u8; 32] {
    let [issuer, child] = [issuer.der(), &child.der].map(Sha256::digest);
    Sha256::new().chain_update(issuer).chain_update(child).finalize().into()
}
