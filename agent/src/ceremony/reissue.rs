//! Renewal of everything at once. If the key of a CA may be known to others, the authority has all renewed that the CA may have
//! signed. It says so in each answer, by the number of the trust chain's document since which nothing of that CA was issued.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Whether the authority has asked to renew everything. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Reissue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The highest number that was asked for.
    asked: AtomicU64,
    wanted: Notify,
}

impl Reissue {
    /// Takes the lowest number that credentials may have from an answer for an identity with this one.
    pub(super) fn note(&self, lowest: u64, identity: u64) {
        if identity < lowest && self.0.asked.fetch_max(lowest, Ordering::AcqRel) < lowest {
            self.0.wanted.notify_one();
        }
    }

    /// Waits until everything has to be renewed.
    pub async fn wanted(&self) {
        self.0.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn everything_is_renewed_once_for_each_taint() {
        let reissue = Reissue::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut is_wanted = || pin!(reissue.wanted()).poll(&mut context).is_ready();
        reissue.note(0, 0);
        reissue.note(7, 7);
        assert!(!is_wanted());
        reissue.note(7, 6);
        reissue.note(7, 6);
        assert!(is_wanted() && !is_wanted());
        // Answers to the former identity still come in.
        reissue.note(7, 6);
        assert!(!is_wanted());
        reissue.note(9, 7);
        assert!(is_wanted());
    }
}
