//! How many connections there may be.

use std::time::Duration;

/// How many connections, handshakes and joins there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Limits {
    /// Connections of each class.
    pub(in crate::server) connections: usize,
    /// Handshakes of one source.
    pub(in crate::server) handshakes_per_source: usize,
    /// Joins under way of each class.
    pub(in crate::server) joins: usize,
    /// Joins under way of one source.
    pub(in crate::server) joins_per_source: usize,
    /// A connection that has kept the authority waiting that long may be closed for another of its
    /// source.
    pub(in crate::server) expendable_after: Duration,
}

impl Limits {
    /// The limits for a process that may have so many files open: each connection is one, and 64 are
    /// for the rest.
    pub(in crate::server) fn for_open_files(files: u64) -> Self {
        let room = files.saturating_sub(64).max(files / 2);
        let connections = usize::try_from(room / 2).unwrap_or(usize::MAX).clamp(8, 2048);
        Self {
            connections,
            handshakes_per_source: 64,
            joins: 4096,
            joins_per_source: 1024,
            expendable_after: Duration::from_secs(2),
        }
    }

    /// The limits for a listener that answers monitoring: the newest connection is served at once.
    pub(in crate::server) const MONITORING: Self = Self {
        connections: 64,
        handshakes_per_source: 0,
        joins: 0,
        joins_per_source: 0,
        expendable_after: Duration::ZERO,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_leave_files_for_the_rest() {
        assert_eq!(Limits::for_open_files(1024).connections, 480);
        assert_eq!(Limits::for_open_files(64).connections, 16);
        assert_eq!(Limits::for_open_files(u64::MAX).connections, 2048);
    }
}
