//! What a connection without a certificate may cost the authority, in bytes, calls and claims together.

use std::sync::{Arc, Mutex, PoisonError};

use host::budget::Budget;
use rustls::{CommonState, HandshakeKind, NamedGroup};
use verifier::Effort;

/// Bytes for all that a peer without a certificate sends after the handshake: a join of the maximum
/// size, another of a typical one, and some to spare. All of it in the smallest of messages takes
/// about 2 ms.
const MAX_UNPROVEN: usize = 112 * 1024;

/// What key exchange on another curve than X25519 costs more, in the same bytes: 0.5 to 0.8 ms.
const OTHER_CURVE_COST: usize = 32 * 1024;

/// What a second ClientHello costs, in the same bytes.
const HELLO_RETRY_COST: usize = 8 * 1024;

/// What a call costs a peer, in bytes that it may still send: one that is refused takes about 0.4 ms.
const CALL_COST: usize = 16 * 1024;

/// What a unit of [`Effort`], 0.2 ms, costs a peer, in bytes that it may still send.
const EFFORT_COST: usize = 6 * 1024;

/// What a claim leaves of the budget, whatever it cost: the connection stays open for the answer.
const FOR_THE_ANSWER: usize = 8 * 1024;

/// What a peer may still cost on one connection. It spends one budget on costly claims, on calls and on
/// small messages, so that it cannot have all of each. Clones share it.
#[derive(Clone)]
pub(crate) struct Allowance {
    /// Bytes that the peer may still send.
    budget: Budget,
    effort: Arc<Mutex<Effort>>,
}

/// A host that is refused, and comes again with the certificates of its CAs, can be verified and challenged.
const _: () =
    assert!(MAX_UNPROVEN >= 2 * CALL_COST + 24 * 1024 + Effort::MAX_STEP as usize * EFFORT_COST);

impl Allowance {
    /// Bytes that a peer without a certificate may send after this handshake.
    pub(crate) fn bytes_after(handshake: &CommonState) -> usize {
        let group = handshake.negotiated_key_exchange_group().map(|group| group.name());
        let curve = if group == Some(NamedGroup::X25519) { 0 } else { OTHER_CURVE_COST };
        let is_retried =
            handshake.handshake_kind() == Some(HandshakeKind::FullWithHelloRetryRequest);
        MAX_UNPROVEN - curve - if is_retried { HELLO_RETRY_COST } else { 0 }
    }

    /// For a connection with this budget.
    pub(crate) fn new(budget: Budget) -> Self {
        Self { budget, effort: Arc::default() }
    }

    /// For one claim of a peer that has proven a certificate.
    pub(crate) fn unlimited() -> Self {
        Self::new(Budget::new(usize::MAX))
    }

    /// Charges a call; false, and charges nothing, if not enough is left for it.
    pub(crate) fn call(&self) -> bool {
        let is_paid = self.budget.left() >= CALL_COST;
        if is_paid {
            self.budget.charge(CALL_COST);
        }
        is_paid
    }

    /// Charges what is computed for a claim, which has as much effort as the budget pays for.
    pub(crate) fn compute<T>(&self, compute: impl FnOnce(&mut Effort) -> T) -> T {
        let mut effort = self.effort.lock().unwrap_or_else(PoisonError::into_inner);
        effort.limit(u32::try_from(self.budget.left() / EFFORT_COST).unwrap_or(u32::MAX));
        let before = effort.cost();
        let computed = compute(&mut effort);
        let cost = usize::try_from(effort.cost().saturating_sub(before)).unwrap_or(usize::MAX);
        let at_most = self.budget.left().saturating_sub(FOR_THE_ANSWER);
        self.budget.charge(cost.saturating_mul(EFFORT_COST).min(at_most));
        computed
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::join_init::Ek;
    use testkit::simulated::SoftwareTpm;
    use verifier::{Claim, Demand, EkClaim, KeyClaim};

    use super::*;

    #[test]
    fn claims_and_small_messages_spend_one_budget() {
        let init = SoftwareTpm::generate().init("t");
        let Some(Ek::EkPublic(spki)) = &init.ek else { panic!("{:?}", init.ek) };
        let ek = EkClaim::PublicKey(spki);
        let claim =
            Claim { ek, ek_chain: &[], key: KeyClaim::JoinKey(&init.join_key), ek_name_alg: 0 };
        let appraise = |bytes: usize| {
            let budget = Budget::new(bytes);
            let allowance = Allowance::new(budget.clone());
            let appraised =
                allowance.compute(|effort| verifier::appraise(&claim, Demand::Key, effort));
            (appraised.map(|_| ()).map_err(|error| error.code()), budget.left())
        };
        let plenty = 64 * EFFORT_COST;
        let (appraised, left) = appraise(plenty);
        assert_eq!(appraised, Ok(()));
        let cost = plenty - left;
        assert!((EFFORT_COST..10 * EFFORT_COST).contains(&cost), "{cost}");
        // What other messages have left of the budget must pay for it.
        assert_eq!(appraise(cost), (Ok(()), FOR_THE_ANSWER));
        assert_eq!(appraise(cost - 1), (Err("effort_spent"), cost - 1));
    }

    #[test]
    fn calls_are_paid_for_in_advance() {
        let budget = Budget::new(2 * CALL_COST - 1);
        let allowance = Allowance::new(budget.clone());
        assert_eq!([allowance.call(), allowance.call()], [true, false]);
        assert_eq!(budget.left(), CALL_COST - 1, "the refusal can be sent");
    }
}
