//! The health of the daemon: one component for the identity, one for each service. What `/readyz`, `/metrics`, `agent status` and
//! the service manager's line say comes from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::exit::{Exit, Failure};
use host::metrics::{Kind, Page};
use serde::{Deserialize, Serialize};

use super::machine::Validity;
use crate::tpm::thread::Meter;
use crate::workload_api::Counts;

/// The name of the identity's component.
pub const IDENTITY: &str = "identity";

/// The state of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not been tried yet.
    Initializing,
    /// Its credentials are valid and in place.
    Healthy,
    /// They are not, or could not be renewed.
    Unhealthy,
}

/// One component, as `/readyz` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// The result.
    pub status: Status,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advice: Option<String>,
    /// Since when it has this result, RFC 3339.
    pub updated_at: String,
    /// Until when its credentials are valid, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_after: Option<i64>,
    /// From when to when they are valid, for [`Health::report`]; an answer does not carry it.
    #[serde(skip)]
    validity: Option<Validity>,
}

impl Component {
    fn new(status: Status, validity: Option<Validity>, now: &str) -> Self {
        let not_after = validity.map(|validity| validity.not_after);
        let (reason, advice, updated_at) = (None, None, now.into());
        Self { status, reason, advice, updated_at, not_after, validity }
    }

    fn set_validity(&mut self, validity: Validity) {
        self.validity = Some(validity);
        self.not_after = Some(validity.not_after);
    }

    /// Makes it unhealthy if its credentials are not valid at `wall`.
    fn check_validity(&mut self, wall: i64) {
        let Some(validity) = self.validity.filter(|validity| !validity.is_valid_at(wall)) else {
            return;
        };
        if self.status != Status::Healthy {
            return;
        }
        self.status = Status::Unhealthy;
        if validity.not_after <= wall {
            self.reason = Some("the credentials have expired".into());
        } else {
            let reason = "by this host's clock the credentials are not valid yet";
            self.reason = Some(reason.into());
            self.advice = Some("compare the clocks of both machines".into());
        }
    }
}

/// All components, as `/readyz` says them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The worst result.
    pub status: Status,
    /// By name.
    pub services: BTreeMap<String, Component>,
}

/// Renewals by outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    succeeded: u64,
    failed: u64,
    reload_failed: u64,
}

#[derive(Debug, Default)]
struct Inner {
    components: BTreeMap<String, Component>,
    tallies: BTreeMap<String, Tally>,
    workloads: BTreeMap<String, Counts>,
    meter: Meter,
    /// Why the last reload of the configuration failed.
    configuration: Option<String>,
    /// The components whose files cannot be read, until they can be.
    unreadable: Vec<Fault>,
    /// The components whose sockets cannot be opened, until they can be.
    closed: Vec<Fault>,
}

/// What is wrong with a component, whatever becomes of its credentials, and since when.
#[derive(Clone, Debug)]
struct Fault {
    name: String,
    failure: Failure,
    since: String,
}

/// The health of the daemon, shared with those who ask.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Inner>>);

impl Health {
    /// Nothing has been tried yet, apart from what was found on the disk.
    #[must_use]
    pub fn new(
        found: impl IntoIterator<Item = (String, Option<Validity>)>,
        sockets: impl IntoIterator<Item = String>,
        meter: Meter,
        now: &str,
        wall: i64,
    ) -> Self {
        let health = Self::default();
        health.lock().meter = meter;
        health.keep_only(found, sockets, now, wall);
        health
    }

    /// The components are these now; the others are forgotten. Of a socket remains what is known: nobody reports it again while it
    /// stays open.
    pub fn keep_only(
        &self,
        found: impl IntoIterator<Item = (String, Option<Validity>)>,
        sockets: impl IntoIterator<Item = String>,
        now: &str,
        wall: i64,
    ) {
        let component = |(name, validity): (String, Option<Validity>)| {
            let holds = validity.is_some_and(|validity| validity.is_valid_at(wall));
            let status = if holds { Status::Healthy } else { Status::Initializing };
            (name, Component::new(status, validity, now))
        };
        let mut components: BTreeMap<_, _> = found.into_iter().map(component).collect();
        let mut inner = self.lock();
        for name in sockets {
            // A service that has become a socket has credentials.
            let known = inner.components.remove(&name).filter(|known| known.validity.is_none());
            let known = known.unwrap_or_else(|| Component::new(Status::Initializing, None, now));
            components.insert(name, known);
        }
        inner.tallies.retain(|name, _| components.contains_key(name));
        inner.workloads.retain(|name, _| components.contains_key(name));
        inner.components = components;
        // What cannot be opened is tried again.
        inner.closed.clear();
    }

    /// The component's reload hook has not succeeded since before the start.
    pub fn reload_pending(&self, name: &str) {
        if let Some(component) = self.lock().components.get_mut(name) {
            component.status = Status::Initializing;
            component.reason = Some("the reload hook has not run yet for the new files".into());
        }
    }

    /// The counts of the Workload API of this name.
    pub fn workloads(&self, name: &str) -> Counts {
        self.lock().workloads.entry(name.to_owned()).or_default().clone()
    }

    /// The component's credentials were renewed and are in place.
    pub fn succeeded(&self, name: &str, validity: Validity, now: &str) {
        let mut inner = self.lock();
        inner.tally(name).succeeded += 1;
        // Under the identity's name is the token too, of which a renewal says nothing.
        inner.unreadable.retain(|unreadable| unreadable.name != name || name == IDENTITY);
        let component = Component::new(Status::Healthy, Some(validity), now);
        inner.components.insert(name.into(), component);
    }

    /// What was left of the component's renewal has succeeded: its reload hook, or storing the identity.
    pub fn completed(&self, name: &str, now: &str) {
        let mut inner = self.lock();
        if let Some(component) = inner.components.get_mut(name) {
            component.status = Status::Healthy;
            component.reason = None;
            component.advice = None;
            component.updated_at = now.into();
        }
    }

    /// The component's credentials are written, but its reload hook failed.
    pub fn reload_failed(&self, name: &str, validity: Validity, failure: &Failure, now: &str) {
        self.lock().tally(name).reload_failed += 1;
        self.unhealthy(name, failure, now);
        if let Some(component) = self.lock().components.get_mut(name) {
            component.set_validity(validity);
        }
    }

    /// The component's credentials were renewed, but they are not the ones that are asked for.
    pub fn kept(&self, name: &str, validity: Validity, failure: &Failure, now: &str) {
        self.lock().tally(name).succeeded += 1;
        self.unhealthy(name, failure, now);
        if let Some(component) = self.lock().components.get_mut(name) {
            component.set_validity(validity);
        }
    }

    /// The component could not be renewed: it is unhealthy until it has been, though what it has may be valid still.
    pub fn failed(&self, name: &str, failure: &Failure, now: &str) {
        self.lock().tally(name).failed += 1;
        self.unhealthy(name, failure, now);
    }

    /// The component's files are no longer what was written; they are written again as soon as that is possible.
    pub fn changed(&self, name: &str, change: &str, now: &str) {
        let reason = format!("the files were changed: {change}");
        let advice = "find the program that writes there; the agent replaces the files";
        self.unhealthy(name, &Failure::new(Exit::Io, reason, advice), now);
    }

    /// The component is not as it should be, whatever became of its last renewal.
    pub fn degraded(&self, name: &str, failure: &Failure, now: &str) {
        if self.lock().components.contains_key(name) {
            self.unhealthy(name, failure, now);
        }
    }

    /// The socket of a component cannot be opened. What is known of its credentials stays.
    pub fn socket_failed(&self, name: &str, failure: &Failure, now: &str) {
        let mut inner = self.lock();
        if !inner.components.contains_key(name) {
            return;
        }
        let (name, failure) = (name.to_owned(), failure.clone());
        match inner.closed.iter_mut().find(|known| known.name == name) {
            Some(known) => known.failure = failure,
            None => inner.closed.push(Fault { name, failure, since: now.to_owned() }),
        }
    }

    /// The socket of a component is open.
    pub fn socket_opened(&self, name: &str) {
        self.lock().closed.retain(|known| known.name != name);
    }

    fn unhealthy(&self, name: &str, failure: &Failure, now: &str) {
        let mut inner = self.lock();
        let before = inner.components.get(name);
        let validity = before.and_then(|component| component.validity);
        let since = before.filter(|component| component.status == Status::Unhealthy);
        let since = since.map_or_else(|| now.to_owned(), |component| component.updated_at.clone());
        let mut component = Component::new(Status::Unhealthy, validity, &since);
        component.reason = Some(failure.message.clone());
        component.advice = Some(failure.advice.clone()).filter(|advice| !advice.is_empty());
        inner.components.insert(name.into(), component);
    }

    /// The configuration was read again, or could not be.
    pub fn configuration(&self, failure: Option<&Failure>) {
        self.lock().configuration = failure.map(|failure| failure.message.clone());
    }

    /// The files of the components of these names cannot be read. What is known of them otherwise stays. Returns those of
    /// which this was not known.
    pub fn note_unreadable(
        &self,
        unreadable: Vec<(String, Failure)>,
        now: &str,
    ) -> Vec<(String, Failure)> {
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.unreadable);
        let since = |name: &str| before.iter().find(|known| known.name == name);
        let mut new = Vec::new();
        for (name, failure) in unreadable {
            let known = since(&name).map(|known| known.since.clone());
            if known.is_none() {
                new.push((name.clone(), failure.clone()));
            }
            let since = known.unwrap_or_else(|| now.to_owned());
            inner.unreadable.push(Fault { name, failure, since });
        }
        new
    }

    /// Whether the files of these components, and of no others, are known to be unreadable, for the same reasons.
    #[must_use]
    pub fn are_unreadable(&self, unreadable: &[(String, Failure)]) -> bool {
        let known = &self.lock().unreadable;
        known
            .iter()
            .map(|one| (&one.name, &one.failure))
            .eq(unreadable.iter().map(|(name, failure)| (name, failure)))
    }

    /// A line for the service manager: what is wrong, or else what is waited for, or else that everything is in place.
    #[must_use]
    pub fn status(&self, wall: i64) -> String {
        let report = self.report(wall);
        let named = |status| {
            let services = report.services.iter();
            let named = services.filter(move |(_, component)| component.status == status);
            named.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        let unhealthy = report.services.iter().find_map(|(name, component)| {
            let reason =
                component.reason.as_ref().filter(|_| component.status == Status::Unhealthy);
            reason.map(|reason| format!("{name}: {reason}"))
        });
        let status = unhealthy.unwrap_or_else(|| match named(Status::Initializing).as_slice() {
            [] => format!("in place: {}", named(Status::Healthy).join(", ")),
            names => format!("initializing: {}", names.join(", ")),
        });
        match &self.lock().configuration {
            Some(reason) => format!("{status}; the new configuration was rejected: {reason}"),
            None => status,
        }
    }

    /// Everything, as it is at `wall`: credentials that are not valid then make their component unhealthy.
    #[must_use]
    pub fn report(&self, wall: i64) -> Report {
        let inner = self.lock();
        let mut services = inner.components.clone();
        let faults = [inner.unreadable.as_slice(), inner.closed.as_slice()].concat();
        drop(inner);
        services.values_mut().for_each(|component| component.check_validity(wall));
        for Fault { name, failure, since } in faults {
            if let Some(component) = services.get_mut(&name)
                && component.status != Status::Unhealthy
            {
                component.status = Status::Unhealthy;
                component.updated_at = since;
                component.reason = Some(failure.message);
                component.advice = Some(failure.advice);
            }
        }
        let all = |status| services.values().all(|component| component.status == status);
        let any = |status| services.values().any(|component| component.status == status);
        let status = if all(Status::Healthy) {
            Status::Healthy
        } else if any(Status::Unhealthy) {
            Status::Unhealthy
        } else {
            Status::Initializing
        };
        Report { status, services }
    }

    /// The same as Prometheus reads it.
    #[must_use]
    pub fn metrics(&self, wall: i64) -> String {
        let report = self.report(wall);
        let inner = self.lock();
        let mut page = Page::new();
        let name = "agent_credential_expiry_timestamp_seconds";
        page.family(name, Kind::Gauge, "Expiry of the credentials, seconds since 1970.");
        for (component, state) in &report.services {
            if let Some(not_after) = state.not_after {
                page.sample(name, &[("name", component)], not_after);
            }
        }
        let name = "agent_healthy";
        page.family(name, Kind::Gauge, "1 if the credentials are valid and written, and the last renewal and reload hook succeeded.");
        for (component, state) in &report.services {
            let is_healthy = u8::from(state.status == Status::Healthy);
            page.sample(name, &[("name", component)], is_healthy);
        }
        let name = "agent_renewals_total";
        page.family(name, Kind::Counter, "Attempts to renew, by outcome.");
        for (component, tally) in &inner.tallies {
            let outcomes = [
                ("success", tally.succeeded),
                ("failed", tally.failed),
                ("reload_failed", tally.reload_failed),
            ];
            for (outcome, count) in outcomes {
                page.sample(name, &[("name", component), ("outcome", outcome)], count);
            }
        }
        workload_metrics(&inner.workloads, &mut page);
        let (commands, busy) = inner.meter.read();
        let (name, help) = ("agent_tpm_commands_total", "Commands sent to the TPM.");
        page.single(name, Kind::Counter, help, commands);
        let (name, help) = ("agent_tpm_command_seconds_total", "Time the TPM took for them.");
        page.single(name, Kind::Counter, help, busy.as_secs_f64());
        page.into_text()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted of each Workload API.
fn workload_metrics(all: &BTreeMap<String, Counts>, page: &mut Page) {
    if all.is_empty() {
        return;
    }
    let name = "agent_workload_connections";
    page.family(name, Kind::Gauge, "Open connections of workloads.");
    for (api, counts) in all {
        page.sample(name, &[("name", api)], counts.connections.get());
    }
    let name = "agent_workload_streams";
    page.family(name, Kind::Gauge, "Open streams of workloads that watch their identities.");
    for (api, counts) in all {
        page.sample(name, &[("name", api)], counts.streams.get());
    }
    let name = "agent_workload_calls_total";
    page.family(
        name,
        Kind::Counter,
        "Calls of workloads, by whether the process could be attested.",
    );
    for (api, counts) in all {
        for (outcome, count) in [("attested", &counts.attested), ("refused", &counts.unattested)] {
            page.sample(name, &[("name", api), ("outcome", outcome)], count.get());
        }
    }
    let name = "agent_workload_unmatched_total";
    page.family(name, Kind::Counter, "Calls of attested workloads that match none of the rules.");
    for (api, counts) in all {
        page.sample(name, &[("name", api)], counts.unmatched.get());
    }
    let name = "agent_workload_requests_total";
    page.family(
        name,
        Kind::Counter,
        "Requests to the authority on behalf of workloads, by outcome.",
    );
    for (api, counts) in all {
        let outcomes = [
            ("success", &counts.granted),
            ("refused", &counts.refused),
            ("failed", &counts.failed),
        ];
        for (outcome, count) in outcomes {
            page.sample(name, &[("name", api), ("outcome", outcome)], count.get());
        }
    }
}

impl Inner {
    fn tally(&mut self, name: &str) -> &mut Tally {
        self.tallies.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";
    const VALID: Validity = Validity { not_before: 0, not_after: 1000 };

    #[test]
    fn status_says_in_place_only_if_everything_is() {
        let found = [("identity", Some(VALID)), ("a", None), ("b", None)];
        let found = found.map(|(name, validity)| (name.to_owned(), validity));
        let health = Health::new(found, [], Meter::default(), NOW, 10);
        assert_eq!(health.status(10), "initializing: a, b");
        health.succeeded("a", VALID, NOW);
        health.failed("b", &Failure::new(Exit::Io, "no room", "make room"), NOW);
        assert_eq!(health.status(10), "b: no room");
        let again = Failure::new(Exit::Io, "no room still", "make room");
        health.failed("b", &again, "2026-01-01T00:05:00Z");
        assert_eq!(health.report(10).services["b"].updated_at, NOW, "unhealthy since then");
        health.succeeded("b", VALID, NOW);
        assert_eq!(health.status(10), "in place: a, b, identity");
        health.configuration(Some(&Failure::new(Exit::Config, "unknown key", "")));
        let both = "in place: a, b, identity; the new configuration was rejected: unknown key";
        assert_eq!(health.status(10), both);
        health.configuration(None);
        assert_eq!(health.status(10), "in place: a, b, identity");
        let hangs = Failure::new(Exit::Io, "the files cannot be read", "");
        let hang = |now| health.note_unreadable(vec![("a".to_owned(), hangs.clone())], now).len();
        let began = "2026-01-01T00:10:00Z";
        assert_eq!([hang(began), hang("2026-01-01T00:11:00Z")], [1, 0], "reported once");
        assert_eq!(health.report(10).status, Status::Unhealthy);
        assert_eq!(health.report(10).services["a"].updated_at, began);
        assert_eq!(health.status(10), "a: the files cannot be read");
        assert!(health.note_unreadable(Vec::new(), NOW).is_empty());
        assert_eq!(health.status(10), "in place: a, b, identity");
        assert!(health.status(2000).contains("expired"));
    }

    #[test]
    fn failure_of_a_socket_and_of_its_credentials_are_independent() {
        let health = Health::new([("a".to_owned(), Some(VALID))], [], Meter::default(), NOW, 10);
        let socket = Failure::new(Exit::Busy, "another program listens", "");
        health.socket_failed("a", &socket, NOW);
        health.succeeded("a", VALID, "2026-01-01T00:10:00Z");
        assert_eq!(health.status(10), "a: another program listens");
        health.socket_failed("a", &Failure::new(Exit::Io, "no directory", ""), "later");
        let shown = &health.report(10).services["a"];
        assert_eq!((shown.reason.as_deref(), &*shown.updated_at), (Some("no directory"), NOW));
        health.failed("a", &Failure::new(Exit::Io, "no room", ""), NOW);
        health.socket_opened("a");
        assert_eq!(health.status(10), "a: no room");
        health.succeeded("a", VALID, NOW);
        assert_eq!(health.status(10), "in place: a");
        health.socket_failed("removed", &socket, NOW);
        assert_eq!(health.status(10), "in place: a");
    }

    #[test]
    fn socket_that_stays_open_stays_healthy_when_the_configuration_is_read_again() {
        let health =
            Health::new([("a".into(), Some(VALID))], ["api".into()], Meter::default(), NOW, 10);
        health.completed("api", NOW);
        health.keep_only([("a".into(), Some(VALID))], ["api".into(), "new".into()], NOW, 10);
        assert_eq!(health.status(10), "initializing: new");
        health.failed("api", &Failure::new(Exit::Io, "no socket", ""), NOW);
        health.keep_only([], ["api".into(), "a".into()], NOW, 10);
        let services = health.report(10).services;
        assert_eq!(services["api"].status, Status::Unhealthy, "it has not been opened meanwhile");
        assert_eq!(services["a"].status, Status::Initializing, "it had credentials in files");
    }

    #[test]
    fn metrics_of_removed_services_end_and_the_others_continue() {
        let found = |names: [&str; 2]| names.map(|name| (name.to_owned(), None));
        let health = Health::new(found(["a", "kept"]), [], Meter::default(), NOW, 10);
        health.succeeded("a", VALID, NOW);
        health.succeeded("kept", VALID, NOW);
        for number in 0..100 {
            let name = format!("a{number}");
            health.keep_only(found(["kept", &name]), [], NOW, 10);
            health.failed(&name, &Failure::new(Exit::Io, "no room", ""), NOW);
        }
        assert_eq!(health.lock().tallies.len(), 2);
        let metrics = health.metrics(10);
        let counts = metrics.lines().filter(|line| line.starts_with("agent_renewals_total{"));
        let counts: Vec<&str> = counts.filter(|line| !line.ends_with(" 0")).collect();
        let expected = [
            r#"agent_renewals_total{name="a99",outcome="failed"} 1"#,
            r#"agent_renewals_total{name="kept",outcome="success"} 1"#,
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn credentials_that_are_not_valid_yet_are_not_healthy() {
        let validity = Validity { not_before: 10_000, not_after: 13_600 };
        let health = Health::new([("a".to_owned(), None)], [], Meter::default(), NOW, 10_000);
        health.succeeded("a", validity, NOW);
        let status = |wall| health.report(wall).status;
        assert_eq!([10_000, 13_599].map(status), [Status::Healthy; 2]);
        assert_eq!([9_000, 13_600].map(status), [Status::Unhealthy; 2]);
        let early = health.report(9_000).services["a"].clone();
        assert!(early.reason.is_some_and(|reason| reason.contains("not valid yet")));
        assert!(early.advice.is_some_and(|advice| advice.contains("clocks")));
        assert_eq!(early.not_after, Some(13_600));
    }
}
