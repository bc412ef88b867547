//! Metrics of a running authority, in the text format of Prometheus.

mod connections;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::metrics::{Kind, Page};
use time::OffsetDateTime;

use self::connections::ConnectionMetrics;
use crate::audit::{Action, Counts};

/// Upper bounds of the histogram buckets for the store's times, in microseconds.
const CLASSES: [u64; 8] = [100, 500, 1_000, 5_000, 10_000, 50_000, 250_000, 1_000_000];

/// Counters of one authority.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By action and result: `granted`, or the code of the refusal. All of them are of this
    /// program, so that callers cannot create more of them.
    results: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    reads: Histogram,
    writes: Histogram,
    pub(crate) connections: ConnectionMetrics,
    audit: Arc<Counts>,
    /// Answers of the bundle endpoint, by document and status code; the documents are of this program.
    documents: Mutex<BTreeMap<(&'static str, u16), u64>>,
    generation_mismatches: AtomicU64,
    clock_implausible: AtomicBool,
}

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last class has no bound.
    classes: [AtomicU64; CLASSES.len() + 1],
    microseconds: AtomicU64,
}

/// An access to the store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Metrics {
    /// Counters that include those of the audit log.
    pub(crate) fn with_audit(audit: Arc<Counts>) -> Self {
        Self { audit, ..Self::default() }
    }

    /// Counts a certificate that was not the latest of its instance.
    pub(crate) fn generation_mismatch(&self) {
        self.generation_mismatches.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether the clock is far from the last record.
    pub(crate) fn set_clock_implausible(&self, implausible: bool) {
        self.clock_implausible.store(implausible, Ordering::Relaxed);
    }

    /// Counts the end of a request: granted, or refused with a code.
    pub(crate) fn count(&self, action: Action, refusal: Option<&'static str>) {
        let result = refusal.unwrap_or("granted");
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let count = results.entry((metric(action), result)).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts an answer of the bundle endpoint.
    pub(crate) fn document(&self, document: &'static str, status: u16) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let count = documents.entry((document, status)).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts an access to the store.
    pub(crate) fn took(&self, access: Access, time: Duration) {
        let histogram = match access {
            Access::Read => &self.reads,
            Access::Write => &self.writes,
        };
        histogram.add(time);
    }

    /// All of it.
    pub(crate) fn text(
        &self,
        ca_not_after: OffsetDateTime,
        public: &[(String, OffsetDateTime)],
    ) -> String {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut page = Page::new();
        for action in Action::ALL {
            let name = metric(action);
            let help = "Finished calls, by result: granted, or the code of the refusal.";
            page.family(name, Kind::Counter, help);
            if !results.contains_key(&(name, "granted")) {
                page.sample(name, &[("result", "granted")], 0);
            }
            for ((_, result), count) in results.iter().filter(|((of, _), _)| *of == name) {
                page.sample(name, &[("result", result)], count);
            }
        }
        let name = "endorse_store_seconds";
        page.family(name, Kind::Histogram, "Duration of store operations.");
        self.reads.write(&mut page, name, "read");
        self.writes.write(&mut page, name, "write");
        self.connections.write(&mut page);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        page.single(
            "endorse_audit_log_recreated_total",
            Kind::Counter,
            "How often the audit log was removed or replaced.",
            count(&self.audit.recreated),
        );
        page.single(
            "endorse_audit_log_waiting",
            Kind::Gauge,
            "Events in the store that are not yet in the audit log.",
            count(&self.audit.waiting),
        );
        page.single(
            "endorse_generation_mismatches_total",
            Kind::Counter,
            "Calls with a certificate that was not the latest, a sign of a cloned host.",
            count(&self.generation_mismatches),
        );
        page.single(
            "endorse_clock_implausible",
            Kind::Gauge,
            "1 if the clock is more than a day from the last record.",
            u8::from(self.clock_implausible.load(Ordering::Relaxed)),
        );
        page.single(
            "endorse_ca_not_after_seconds",
            Kind::Gauge,
            "Expiry of the X.509 CA, seconds since 1970.",
            ca_not_after.unix_timestamp(),
        );
        let name = "endorse_bundle_requests_total";
        page.family(name, Kind::Counter, "Answers of the bundle endpoint, by document and status.");
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((document, status), count) in documents {
            let labels = [("document", document), ("status", &status.to_string()[..])];
            page.sample(name, &labels, count);
        }
        let name = "endorse_public_certificate_not_after_seconds";
        page.family(
            name,
            Kind::Gauge,
            "Expiry of a public name's certificate, seconds since 1970.",
        );
        for (public_name, not_after) in public {
            page.sample(name, &[("name", public_name)], not_after.unix_timestamp());
        }
        page.into_text()
    }
}

fn metric(action: Action) -> &'static str {
    match action {
        Action::Join => "endorse_joins_total",
        Action::Renew => "endorse_renewals_total",
        Action::Issue => "endorse_issues_total",
        Action::WhoAmI => "endorse_whoami_total",
        Action::ProveKey => "endorse_key_proofs_total",
        Action::X509Svid => "endorse_x509_svids_total",
        Action::JwtSvid => "endorse_jwt_svids_total",
        Action::SshHost => "endorse_ssh_host_certificates_total",
        Action::TrustBundle => "endorse_trust_bundles_total",
    }
}

impl Histogram {
    fn add(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = CLASSES.iter().position(|bound| time <= *bound).unwrap_or(CLASSES.len());
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.microseconds.fetch_add(time, Ordering::Relaxed);
    }

    fn write(&self, page: &mut Page, name: &str, access: &str) {
        let mut total = 0u64;
        let bounds = CLASSES.iter().map(|bound| seconds(*bound)).chain(["+Inf".into()]);
        for (class, bound) in self.classes.iter().zip(bounds) {
            total = total.saturating_add(class.load(Ordering::Relaxed));
            page.sample(&format!("{name}_bucket"), &[("access", access), ("le", &bound)], total);
        }
        let sum = seconds(self.microseconds.load(Ordering::Relaxed));
        page.sample(&format!("{name}_sum"), &[("access", access)], sum);
        page.sample(&format!("{name}_count"), &[("access", access)], total);
    }
}

fn seconds(microseconds: u64) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn metrics_show_what_was_counted() {
        let metrics = Metrics::default();
        metrics.count(Action::Join, None);
        metrics.count(Action::Join, Some("token_unknown"));
        metrics.count(Action::Join, Some("token_unknown"));
        metrics.count(Action::Renew, Some("locked"));
        metrics.took(Access::Write, Duration::from_micros(500));
        metrics.took(Access::Write, Duration::from_millis(1500));
        metrics.connections.limits(2048, 4096);
        metrics.connections.now(7, 3, 5, true);
        metrics.connections.evicted();
        metrics.generation_mismatch();
        metrics.document("jwks", 200);
        let text = metrics.text(
            datetime!(2036-05-31 12:00 UTC),
            &[("a.example.com".to_owned(), datetime!(2026-01-01 0:00 UTC))],
        );
        for line in [
            "endorse_joins_total{result=\"granted\"} 1",
            "endorse_joins_total{result=\"token_unknown\"} 2",
            "endorse_renewals_total{result=\"granted\"} 0",
            "endorse_renewals_total{result=\"locked\"} 1",
            "endorse_issues_total{result=\"granted\"} 0",
            "endorse_whoami_total{result=\"granted\"} 0",
            "endorse_store_seconds_bucket{access=\"write\",le=\"0.000100\"} 0",
            "endorse_store_seconds_bucket{access=\"write\",le=\"0.000500\"} 1",
            "endorse_store_seconds_bucket{access=\"write\",le=\"1.000000\"} 1",
            "endorse_store_seconds_bucket{access=\"write\",le=\"+Inf\"} 2",
            "endorse_store_seconds_sum{access=\"write\"} 1.500500",
            "endorse_store_seconds_count{access=\"read\"} 0",
            "endorse_connections{class=\"unproven\"} 7",
            "endorse_connections{class=\"known\"} 3",
            "endorse_connections_limit 2048",
            "endorse_connections_closed_total{reason=\"evicted\"} 1",
            "endorse_connections_closed_total{reason=\"turned_away\"} 0",
            "endorse_joins_under_way 5",
            "endorse_joins_under_way_limit 4096",
            "endorse_saturated 1",
            "endorse_audit_log_recreated_total 0",
            "endorse_audit_log_waiting 0",
            "endorse_generation_mismatches_total 1",
            "endorse_clock_implausible 0",
            "endorse_bundle_requests_total{document=\"jwks\",status=\"200\"} 1",
            "endorse_ca_not_after_seconds 2095848000",
            "endorse_public_certificate_not_after_seconds{name=\"a.example.com\"} 1767225600",
        ] {
            assert!(text.lines().any(|have| have == line), "{line:?} is not in\n{text}");
        }
    }
}
