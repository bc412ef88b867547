//! Answers questions about the daemon's health over HTTP: on the TCP address that the configuration names, and on a unix
//! socket in the storage, which `agent status` asks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::clock;
use host::diag::{Reply, StatusCode, json, serve, text};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

use super::health::{Health, Status};

/// Connections at a time: a probe, a scraper and a person or two.
const MAX_CONNECTIONS: usize = 16;

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

/// A connection that is served.
struct Served {
    task: AbortHandle,
    /// Whether it has sent its request.
    has_asked: Arc<AtomicBool>,
}

/// The connections that are served, the oldest first.
#[derive(Default)]
struct Connections(Vec<Served>);

impl Connections {
    /// Adds one. If that is one too many, the oldest that has not sent a request is closed: a client that only connects must not
    /// keep others out.
    fn add(&mut self, served: Served) {
        self.0.retain(|served| !served.task.is_finished());
        if self.0.len() >= MAX_CONNECTIONS {
            let is_silent = |served: &Served| !served.has_asked.load(Ordering::Relaxed);
            let oldest = self.0.iter().position(is_silent).unwrap_or(0);
            self.0.remove(oldest).task.abort();
        }
        self.0.push(served);
    }
}

/// Answers until the task is dropped.
pub async fn serve_all(listener: Listener, health: Health) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let (health, has_asked) = (health.clone(), Arc::new(AtomicBool::new(false)));
                let asked = Arc::clone(&has_asked);
                let task = tokio::spawn(async move {
                    let answer = |path| {
                        asked.store(true, Ordering::Relaxed);
                        answer(path, health.clone())
                    };
                    serve(stream, answer).await;
                });
                connections.add(Served { task: task.abort_handle(), has_asked });
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
                    "paths: /livez, /readyz, /readyz/NAME, /metrics\n".into(),
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn oldest_connection_without_a_request_gives_way_to_a_new_one() {
        let mut connections = Connections::default();
        let mut tasks = Vec::new();
        for number in 0..=MAX_CONNECTIONS {
            let task = tokio::spawn(pending::<()>());
            let has_asked = Arc::new(AtomicBool::new(number == 0));
            connections.add(Served { task: task.abort_handle(), has_asked });
            tasks.push(task);
        }
        assert!(tasks.remove(1).await.unwrap_err().is_cancelled());
        assert!(tasks.iter().all(|task| !task.is_finished()));
    }
}
