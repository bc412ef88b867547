//! Answers questions about the daemon's health over HTTP: on the TCP address that the configuration names, and on a unix
//! socket in the storage, which `agent status` asks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::clock;
use host::diag::{Reply, StatusCode, json, serve, text};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::health::{Health, Status};

/// Connections at a time: a probe, a scraper and a person or two.
const CONNECTIONS: usize = 16;

/// Where callers come from.
pub enum Listener {
    /// The address that the configuration names.
    Tcp(TcpListener),
    /// The socket in the storage.
    Unix(UnixListener),
}

/// Where a caller, or an agent, is at the other end.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Answers until the task is dropped.
pub async fn serve_all(listener: Listener, health: Health) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let health = health.clone();
                tokio::spawn(async move {
                    serve(stream, |path| answer(path, health.clone())).await;
                    drop(seat);
                });
            }
            // Out of descriptors, say: connections that end make room.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn answer(path: String, health: Health) -> Reply {
    let wall = clock::now().unix_timestamp();
    match path.as_str() {
        "/livez" => text(StatusCode::OK, "OK\n".into()),
        "/metrics" => text(StatusCode::OK, health.metrics(wall)),
        "/readyz" => {
            let report = health.report(wall);
            json(code(report.status), &report)
        }
        path => {
            let report = health.report(wall);
            let component =
                path.strip_prefix("/readyz/").and_then(|name| report.services.get(name));
            match component {
                Some(component) => json(code(component.status), component),
                None => text(
                    StatusCode::NOT_FOUND,
                    "ask for /livez, /readyz, /readyz/NAME or /metrics\n".into(),
                ),
            }
        }
    }
}

const fn code(status: Status) -> StatusCode {
    match status {
        Status::Healthy => StatusCode::OK,
        Status::Initializing | Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    }
}
