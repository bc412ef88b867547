//! How many connections there may be, and how many files they may take of those that the process may
//! have open.

use std::time::Duration;

/// How many connections and joins there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Limits {
    /// Whose connections they are, for the log.
    pub(in crate::server) listener: &'static str,
    /// Connections of each class.
    pub(in crate::server) connections: usize,
    /// Sockets of all connections, including those that were asked to close and have not yet.
    pub(in crate::server) sockets: usize,
    /// Joins in progress per class.
    pub(in crate::server) joins: usize,
    /// Joins in progress per source.
    pub(in crate::server) joins_per_source: usize,
    /// A connection that has kept the authority waiting that long may be closed for another of its
    /// source.
    pub(in crate::server) expendable_after: Duration,
}

impl Limits {
    /// The limits for hosts, in a process that may have so many files open: 160 are for the rest, or
    /// half of them.
    pub(in crate::server) fn for_open_files(files: u64) -> Self {
        let room = files.saturating_sub(160).max(files / 2);
        let connections = share(room, 2).clamp(8, 2048);
        Self {
            listener: "hosts",
            connections,
            sockets: 2 * connections + share(files, 16).clamp(2, 32),
            joins: 4096,
            joins_per_source: 1024,
            expendable_after: Duration::from_secs(2),
        }
    }

    /// The limits for a listener that answers monitoring, in such a process: the newest connection is
    /// served at once.
    pub(in crate::server) fn for_monitoring(files: u64) -> Self {
        let sockets = share(files, 8).clamp(4, 72);
        Self {
            listener: "monitoring",
            connections: sockets - sockets.div_ceil(9),
            sockets,
            joins: 0,
            joins_per_source: 0,
            expendable_after: Duration::ZERO,
        }
    }
}

impl Limits {
    /// The limits for the listener that serves the public keys, in such a process: few clients poll it, and each request is
    /// answered at once.
    pub(in crate::server) fn for_bundle(files: u64) -> Self {
        Self { listener: "bundle_endpoint", ..Self::for_monitoring(files) }
    }
}

fn share(files: u64, part: u64) -> usize {
    usize::try_from(files / part).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_leave_files_for_the_rest() {
        // Files that are open without any connection, and an operator's connection.
        const REST: usize = 20;
        for files in (64..10_000).chain([u64::MAX]) {
            let hosts = Limits::for_open_files(files);
            let monitoring = Limits::for_monitoring(files);
            assert!(hosts.sockets > 2 * hosts.connections, "{files}: {hosts:?}");
            assert!(monitoring.sockets > monitoring.connections, "{files}: {monitoring:?}");
            let taken = hosts.sockets + monitoring.sockets + REST;
            assert!(taken as u64 <= files, "{files}: {taken}");
        }
        let connections = |files| Limits::for_open_files(files).connections;
        assert_eq!([64, 1024, u64::MAX].map(connections), [16, 432, 2048]);
        assert_eq!(Limits::for_monitoring(1024).connections, 64);
    }
}
