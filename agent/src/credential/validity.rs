//! From when to when credentials are valid.

/// From when to when credentials are valid, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// Seconds by which the clocks of two machines may differ.
    pub(crate) const SKEW: i64 = 120;

    /// Whether they are valid, as far as this machine's clock can tell.
    #[must_use]
    pub const fn is_valid_at(&self, wall: i64) -> bool {
        self.not_before.saturating_sub(Self::SKEW) <= wall && wall < self.not_after
    }
}
