//! Serves monitoring over plain HTTP: liveness, readiness and metrics. It reveals nothing about hosts, and accepts no commands.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host::diag::{Reply, StatusCode, json, serve, text};
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::open_files;
use super::slots::{Limits, Slots};
use crate::service::{Authority, Health};

/// How long to wait when the system has no more files for connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A socket that listens for monitoring.
pub struct DiagListener(TcpListener);

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    services: Services,
}

#[derive(Serialize)]
struct Services {
    store: Component,
    audit: Component,
    certificates: Component,
    hosts: Component,
}

#[derive(Serialize)]
struct Component {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Connections that the kernel accepts ahead of the authority; it may cap them. Where they are more,
/// a caller has to try again, after a second at the earliest.
const BACKLOG: u32 = 4096;

impl DiagListener {
    /// Listens on a socket of [`super::bind`]'s.
    pub fn listen(socket: TcpSocket) -> io::Result<Self> {
        socket.listen(BACKLOG).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until the task is dropped. `stop` says when the authority no longer wants hosts.
    pub async fn serve(self, authority: Arc<Authority>, stop: watch::Receiver<bool>) {
        // The byte counts of these connections are not used.
        let slots = Slots::new(Limits::for_monitoring(open_files()), Arc::default());
        loop {
            match slots.accept(&self.0).await {
                Ok((stream, remote, socket)) => {
                    let Some((slot, evicted)) = slots.enter(remote.ip(), Instant::now()) else {
                        continue;
                    };
                    let (authority, stop) = (Arc::clone(&authority), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = serve(stream, |path| answer(path, &authority, &stop)) => {}
                            // Another caller needs the slot.
                            _ = evicted => {}
                        }
                        drop((slot, socket));
                    });
                }
                Err(cause) => {
                    warn!(%cause, "cannot accept a diagnostics connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

async fn answer(path: String, authority: &Authority, stop: &watch::Receiver<bool>) -> Reply {
    match path.as_str() {
        "/livez" => text(StatusCode::OK, "OK\n".into()),
        "/metrics" => text(StatusCode::OK, authority.metrics_text()),
        "/readyz" => {
            let saturation = authority.metrics.connections.saturation();
            readiness(authority.health().await, *stop.borrow(), saturation)
        }
        _ => text(StatusCode::NOT_FOUND, "paths: /livez, /readyz, /metrics\n".into()),
    }
}

/// A saturated authority still serves hosts in turn, so it stays ready and reports saturation.
fn readiness(health: Health, stopping: bool, saturation: Option<String>) -> Reply {
    let Health { store, audit, certificates } = health;
    let hosts = if stopping { Err("the authority is stopping".to_owned()) } else { Ok(()) };
    let healthy = [&store, &audit, &certificates, &hosts].iter().all(|one| one.is_ok());
    let component = |result: Result<(), String>| Component {
        status: status(result.is_ok()),
        reason: result.err(),
    };
    let report = Readiness {
        status: status(healthy),
        services: Services {
            store: component(store),
            audit: component(audit),
            certificates: component(certificates),
            hosts: match (&hosts, saturation) {
                (Ok(()), Some(reason)) => Component { status: "saturated", reason: Some(reason) },
                _ => component(hosts),
            },
        },
    };
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(code, &report)
}

fn status(healthy: bool) -> &'static str {
    if healthy { "healthy" } else { "unhealthy" }
}
