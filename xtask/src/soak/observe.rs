//! What is seen of the daemon once a second.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::credential::Judge;
use super::host::{Host, SERVICES};
use crate::figures::process::Process;

/// How long the daemon may take to answer a question about its health.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ANSWER: u64 = 256 * 1024;

/// One component, as `/readyz` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) healthy: bool,
    pub(super) reason: Option<String>,
}

/// All components by name.
pub(super) type Health = BTreeMap<String, Stated>;

/// What a process has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    /// Bytes in RAM.
    pub(super) resident: u64,
    /// Bytes of them that are the process's own: heap and stacks, not pages of the program.
    pub(super) private: u64,
}

/// One look.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// How the agent ended, if it has.
    pub(super) ended: Option<String>,
    /// What is wrong with the answer of `/livez`.
    pub(super) live: Result<(), String>,
    /// What `/readyz` says, or what is wrong with its answer.
    pub(super) health: Result<Health, String>,
    /// By service: what is wrong with its files.
    pub(super) files: BTreeMap<&'static str, Result<(), String>>,
    pub(super) agent: Option<Usage>,
    /// `None` while it does not run.
    pub(super) authority: Option<Usage>,
}

impl Observation {
    /// Everything is in place, and the agent says so.
    pub(super) fn is_healthy(&self) -> bool {
        let stated = |health: &Health| health.values().all(|component| component.healthy);
        self.ended.is_none()
            && self.live.is_ok()
            && self.health.as_ref().is_ok_and(stated)
            && self.files.values().all(Result::is_ok)
    }
}

/// Looks at everything. `step` is by how many seconds the agent's clock is wrong: it judges dates by what it shows.
pub(super) fn observe(host: &mut Host, judge: &mut Judge, step: i64) -> Result<Observation> {
    let agent = host.agent()?;
    let ended = agent.exited()?.map(|status| status.to_string());
    let agent = usage(agent.id());
    let live = ask(host.diag(), "/livez").and_then(|answer| {
        let ok = answer.starts_with("HTTP/1.1 200 ");
        ok.then_some(()).with_context(|| format!("/livez answers {answer:?}"))
    });
    let health = ask(host.diag(), "/readyz").and_then(|answer| parse(&answer));
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())? + step;
    let files = SERVICES.into_iter().map(|(name, names)| {
        let verdict = judge.judge(&host.path(name), names, now);
        (name, verdict)
    });
    Ok(Observation {
        ended,
        live: live.map_err(|error| format!("{error:#}")),
        health: health.map_err(|error| format!("{error:#}")),
        files: files.collect(),
        agent: agent.ok(),
        authority: host.authority_id().and_then(|id| usage(id).ok()),
    })
}

/// How often each component was renewed, from `/metrics`: a line of text.
pub(super) fn renewals(diag: u16) -> Result<String> {
    let answer = ask(diag, "/metrics")?;
    let counts = answer.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("agent_renewals_total{name=\"")?.split_once('"')?;
        let (outcome, count) = rest.strip_prefix(",outcome=\"")?.split_once("\"} ")?;
        (outcome == "success").then(|| format!("{name} {count}"))
    });
    Ok(counts.collect::<Vec<_>>().join(", "))
}

fn usage(id: u32) -> Result<Usage> {
    let process = Process::of(id);
    let memory = process.memory()?;
    Ok(Usage {
        descriptors: u64::try_from(process.descriptors()?)?,
        threads: u64::try_from(process.threads()?)?,
        resident: memory.resident,
        private: memory.private,
    })
}

fn ask(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream =
        TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).with_context(|| path.to_owned())?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: agent\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    let limited = &mut stream.take(MAX_ANSWER);
    limited.read_to_string(&mut answer).with_context(|| format!("{path} does not respond"))?;
    Ok(answer)
}

/// Reads an answer of `/readyz`, head included.
fn parse(answer: &str) -> Result<Health> {
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let body: Value = serde_json::from_str(body).context("/readyz")?;
    let services = body.get("services").and_then(Value::as_object).context("no services")?;
    let stated = |component: &Value| Stated {
        healthy: component.get("status").and_then(Value::as_str) == Some("healthy"),
        reason: component.get("reason").and_then(Value::as_str).map(str::to_owned),
    };
    Ok(services.iter().map(|(name, component)| (name.clone(), stated(component))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readyz_is_read_with_its_reasons() {
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\r\n{\
            \"status\": \"unhealthy\", \"services\": {\"a\": {\"status\": \"unhealthy\", \
            \"reason\": \"no room\"}, \"identity\": {\"status\": \"healthy\"}}}";
        let health = parse(answer).unwrap();
        assert_eq!(health["a"], Stated { healthy: false, reason: Some("no room".into()) });
        assert_eq!(health["identity"], Stated { healthy: true, reason: None });
        for damaged in ["", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{}"] {
            parse(damaged).unwrap_err();
        }
    }
}
