//! Answers questions about the daemon's health over HTTP: on the TCP address that the configuration names, and on a unix
//! socket in the storage, which `agent status` asks.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::health::{Health, Status};
use crate::clock;

/// Connections at a time: a probe, a scraper and a person or two.
const CONNECTIONS: usize = 16;

/// How long a caller may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);

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
                let connection = serve(stream, health.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(seat);
                });
            }
            // Out of descriptors, say: connections that end make room.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn serve(stream: Box<dyn Stream>, health: Health) {
    let answer = service_fn(move |request| {
        let response = answer(&request, &health);
        async move { Ok::<_, Infallible>(response) }
    });
    // What a caller does wrong is the caller's trouble.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .max_buf_size(8192)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    let wall = clock::now().unix_timestamp();
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "OK\n".into()),
        "/metrics" => text(StatusCode::OK, health.metrics(wall)),
        "/readyz" => {
            let report = health.report(wall);
            json(report.status, &report)
        }
        path => {
            let report = health.report(wall);
            let component =
                path.strip_prefix("/readyz/").and_then(|name| report.services.get(name));
            match component {
                Some(component) => json(component.status, component),
                None => text(
                    StatusCode::NOT_FOUND,
                    "ask for /livez, /readyz, /readyz/NAME or /metrics\n".into(),
                ),
            }
        }
    }
}

fn json(status: Status, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let code = match status {
        Status::Healthy => StatusCode::OK,
        Status::Initializing | Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = serde_json::to_string_pretty(body).unwrap_or_default() + "\n";
    let mut response = text(code, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
