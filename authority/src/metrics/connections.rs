//! Metrics of connections, joins in progress and calls: numbers, limits, and what the limits closed or refused.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use host::metrics::{Kind, Page};

/// Gauges and counters of the listener for hosts.
#[derive(Debug, Default)]
pub(crate) struct ConnectionMetrics {
    unproven: AtomicUsize,
    known: AtomicUsize,
    limit: AtomicUsize,
    joins: AtomicUsize,
    joins_limit: AtomicUsize,
    saturated: AtomicBool,
    evicted: AtomicU64,
    turned_away: AtomicU64,
    expired: AtomicU64,
    handshakes_failed: AtomicU64,
    without_request: AtomicU64,
    too_many_calls: AtomicU64,
    too_costly_calls: AtomicU64,
}

impl ConnectionMetrics {
    /// Sets the limits of connections per class and of joins in progress.
    pub(crate) fn limits(&self, connections: usize, joins: usize) {
        self.limit.store(connections, Relaxed);
        self.joins_limit.store(joins, Relaxed);
    }

    /// Sets the current numbers, and whether connections were recently closed because a limit was reached.
    pub(crate) fn now(&self, unproven: usize, known: usize, joins: usize, saturated: bool) {
        self.unproven.store(unproven, Relaxed);
        self.known.store(known, Relaxed);
        self.joins.store(joins, Relaxed);
        self.saturated.store(saturated, Relaxed);
    }

    /// A connection was closed to make room for a new one.
    pub(crate) fn evicted(&self) {
        self.evicted.fetch_add(1, Relaxed);
    }

    /// A new connection was closed, since no other could be.
    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    /// A connection was closed at its deadline, or because it made too many calls.
    pub(crate) fn expired(&self) {
        self.expired.fetch_add(1, Relaxed);
    }

    /// A handshake failed.
    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Relaxed);
    }

    /// A connection ended between the handshake and its first request.
    pub(crate) fn no_request(&self) {
        self.without_request.fetch_add(1, Relaxed);
    }

    /// A call was refused because its connection has made as many as it may.
    pub(crate) fn too_many_calls(&self) {
        self.too_many_calls.fetch_add(1, Relaxed);
    }

    /// A call was refused because its connection has cost as much as it may.
    pub(crate) fn too_costly_call(&self) {
        self.too_costly_calls.fetch_add(1, Relaxed);
    }

    /// A warning if hosts may have to wait.
    pub(crate) fn saturation(&self) -> Option<String> {
        self.saturated.load(Relaxed).then(|| {
            format!(
                "the limit of connections or joins was reached within the last minute ({} \
                 without, {} with a certificate, limit {} each)",
                self.unproven.load(Relaxed),
                self.known.load(Relaxed),
                self.limit.load(Relaxed)
            )
        })
    }

    pub(super) fn write(&self, page: &mut Page) {
        let name = "endorse_connections";
        page.family(
            name,
            Kind::Gauge,
            "Open connections of hosts, by whether the host has presented a certificate.",
        );
        page.sample(name, &[("class", "unproven")], self.unproven.load(Relaxed));
        page.sample(name, &[("class", "known")], self.known.load(Relaxed));
        page.single(
            "endorse_connections_limit",
            Kind::Gauge,
            "Limit of connections per class.",
            self.limit.load(Relaxed),
        );
        page.single(
            "endorse_joins_under_way",
            Kind::Gauge,
            "Joins in progress.",
            self.joins.load(Relaxed),
        );
        page.single(
            "endorse_joins_under_way_limit",
            Kind::Gauge,
            "Limit of joins in progress, for hosts with and without a certificate each.",
            self.joins_limit.load(Relaxed),
        );
        page.single(
            "endorse_saturated",
            Kind::Gauge,
            "1 if connections were recently closed because the limit was reached.",
            u8::from(self.saturated.load(Relaxed)),
        );
        let name = "endorse_connections_closed_total";
        page.family(name, Kind::Counter, "Connections that the authority closed, by reason.");
        for (reason, count) in [
            ("evicted", &self.evicted),
            ("turned_away", &self.turned_away),
            ("expired", &self.expired),
            ("handshake_failed", &self.handshakes_failed),
            ("no_request", &self.without_request),
        ] {
            page.sample(name, &[("reason", reason)], count.load(Relaxed));
        }
        let name = "endorse_calls_refused_total";
        let help =
            "Calls refused before they reached a service, because of limits of their connection.";
        page.family(name, Kind::Counter, help);
        for (reason, count) in
            [("too_many", &self.too_many_calls), ("too_costly", &self.too_costly_calls)]
        {
            page.sample(name, &[("reason", reason)], count.load(Relaxed));
        }
    }
}
