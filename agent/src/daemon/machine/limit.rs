//! Rate limit for renewals of the same credentials, whatever the cause: an interval that is too short, an authority that issues
//! certificates for seconds, or a reload hook that sends a signal to the agent.

use std::time::Duration;

/// A few renewals in a row, as an operator may request, and then one per [`Limit::INTERVAL`]. This is the generic
/// cell rate algorithm of ITU-T I.371.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// Where the next renewal would begin if they were an interval apart, on the boot clock.
    theoretical: Duration,
}

impl Limit {
    pub(super) const INTERVAL: Duration = Duration::from_secs(10);
    pub(super) const BURST: u32 = 6;

    /// After a renewal at `now`.
    pub(super) fn after_renewal(self, now: Duration) -> Self {
        Self { theoretical: self.theoretical.max(now).saturating_add(Self::INTERVAL) }
    }

    /// The earliest time of the next renewal.
    pub(super) fn retry_at(self) -> Duration {
        self.theoretical.saturating_sub(Self::INTERVAL.saturating_mul(Self::BURST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_allowed_and_then_one_renewal_in_each_interval() {
        let mut now = Duration::from_secs(1000);
        let mut limit = Limit::default();
        for _ in 0..=Limit::BURST {
            assert!(limit.retry_at() <= now);
            limit = limit.after_renewal(now);
        }
        for _ in 0..20 {
            assert_eq!(limit.retry_at(), now + Limit::INTERVAL);
            now = limit.retry_at();
            limit = limit.after_renewal(now);
        }
        // An hour of rest allows a burst again, and no more.
        now += Duration::from_secs(3600);
        for _ in 0..Limit::BURST {
            limit = limit.after_renewal(now);
        }
        assert_eq!(limit.retry_at(), now);
    }
}
