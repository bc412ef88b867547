//! An identity that is valid, and not the one that the configuration asks for.

use super::{CredentialState, Machine};

impl Machine {
    /// The same, where the identity is to be renewed at once, because another lifetime is asked for.
    #[must_use]
    pub const fn renewing(mut self, renewing: bool) -> Self {
        self.identity.renew_now = renewing;
        self
    }

    /// The same, where the identity has yet to be stored.
    #[must_use]
    pub const fn storing(mut self, is_due: bool) -> Self {
        self.identity.follow_up_due = is_due;
        self
    }

    /// The same, where the configuration asks for another identity than the one there is.
    #[must_use]
    pub fn rejoining(mut self, rejoining: bool) -> Self {
        self.rejoin = rejoining.then(CredentialState::default);
        self
    }

    /// Whether the configuration asks for another identity than the one there is, as far as is known.
    #[must_use]
    pub const fn is_rejoining(&self) -> bool {
        self.rejoin.is_some()
    }
}
