//! `agent wait`, and how a running agent is asked for its health.

use std::path::Path;
use std::time::Duration;

use host::budget::{Budget, Budgeted};
use host::clock;
use host::exit::{Exit, Failure};
use host::go_duration;
use host::output::write;
use host::unix_socket;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::block_on;
use crate::cli::daemon::Wait;
use crate::daemon::SOCKET;
use crate::daemon::diag::Stream;
use crate::daemon::health::{Component, Report, Status};
use crate::file_access::FileAccess;

/// No report is larger.
const MAX_ANSWER: usize = 256 * 1024;

/// Bytes for the head of an answer, and for reads of few bytes.
const MAX_OVERHEAD: usize = 256 * 1024;

/// How long the agent may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval between two requests.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) fn run(arguments: &Wait) -> Result<(), Failure> {
    block_on(wait(arguments))?
}

async fn wait(arguments: &Wait) -> Result<(), Failure> {
    let path = match &arguments.service {
        Some(name) => format!("/readyz/{name}"),
        None => "/readyz".to_owned(),
    };
    let timeout = arguments.timeout.filter(|timeout| !timeout.is_zero());
    let begun = clock::boot();
    loop {
        let why = match ask_agent(arguments, &path).await {
            Ok((StatusCode::OK, _)) => return write(b"healthy\n"),
            Ok((StatusCode::NOT_FOUND, _)) => return Err(unknown(arguments)),
            Ok((_, body)) => reasons(&body),
            Err(why) => format!("the agent does not answer: {why}"),
        };
        let waited = clock::boot().saturating_sub(begun);
        if let Some(timeout) = timeout.filter(|timeout| waited >= *timeout) {
            return Err(Failure::new(
                Exit::Unavailable,
                format!("not healthy within {}: {why}", go_duration::text(timeout)),
                "check that the agent runs, and read its log",
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

fn unknown(arguments: &Wait) -> Failure {
    let message = match &arguments.service {
        Some(name) => format!("the agent has no service {name}"),
        None => "the process listening there is not an agent".to_owned(),
    };
    Failure::new(
        Exit::Usage,
        message,
        "run `agent status --storage DIR` to list the agent's services",
    )
}

async fn ask_agent(arguments: &Wait, path: &str) -> Result<(StatusCode, Bytes), String> {
    let asking = async {
        let stream: Box<dyn Stream> = match (&arguments.diag_addr, &arguments.storage) {
            (Some(address), _) => {
                let stream = TcpStream::connect((address.host(), address.port())).await;
                Box::new(stream.map_err(|cause| format!("{address}: {cause}"))?)
            }
            (None, Some(storage)) => {
                Box::new(connect(storage).await.map_err(|failure| failure.message)?)
            }
            (None, None) => return Err("pass --storage or --diag-addr".to_owned()),
        };
        ask(stream, path).await
    };
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.map_err(|_| "no answer".to_owned())?
}

/// The reasons in the agent's health report.
fn reasons(body: &[u8]) -> String {
    let reason = |component: Component| component.reason.unwrap_or_else(|| "not yet".into());
    if let Ok(report) = serde_json::from_slice::<Report>(body) {
        let unhealthy = report.services.into_iter().filter(|(_, c)| c.status != Status::Healthy);
        let unhealthy = unhealthy.map(|(name, c)| format!("{name}: {}", reason(c)));
        return unhealthy.collect::<Vec<_>>().join("; ");
    }
    serde_json::from_slice(body).map_or_else(|_| "malformed response".into(), reason)
}

/// The health of the agent that runs on this storage; `None` if none does.
pub(crate) async fn running(storage: &Path) -> Option<Report> {
    let asking = async {
        let stream = connect(storage).await.ok()?;
        let (_, body) = ask(Box::new(stream), "/readyz").await.ok()?;
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(ANSWER_TIMEOUT, asking).await.ok().flatten()
}

/// A connection to the agent that runs on this storage, whose file system may hang.
async fn connect(storage: &Path) -> Result<UnixStream, Failure> {
    let path = storage.join(SOCKET);
    let access = FileAccess::new(path.display().to_string(), ANSWER_TIMEOUT);
    let connect = move || {
        let stream = unix_socket::connect_outside(&path);
        stream.map_err(|cause| Failure::io(&cause, path.display()))
    };
    let stream = UnixStream::from_std(access.run(connect).await?);
    stream.map_err(|cause| Failure::io(&cause, SOCKET))
}

async fn ask(stream: Box<dyn Stream>, path: &str) -> Result<(StatusCode, Bytes), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("malformed response: {error}");
    let stream = Budgeted::new(stream, Budget::new(MAX_ANSWER + MAX_OVERHEAD));
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| wrong(&error))?;
    // Ends with the answer.
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", "agent").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| wrong(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| wrong(&error))?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    Ok((code, body.map_err(|error| wrong(&error))?.to_bytes()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// `100 Continue` without end is no body, which is limited by itself.
    #[tokio::test]
    async fn answer_without_end_is_refused() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let (client, mut server) = tokio::io::duplex(64 * 1024);
        let answer = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        let server = async move { while server.write_all(answer.as_bytes()).await.is_ok() {} };
        let asked = async {
            let refused = ask(Box::new(client), "/readyz").await.unwrap_err();
            assert!(refused.starts_with("malformed response"), "{refused}");
        };
        tokio::time::timeout(TIMEOUT, async { tokio::join!(server, asked) }).await.unwrap();
    }

    #[test]
    fn reason_lists_only_unhealthy_components() {
        let report = br#"{"status":"unhealthy","services":{
            "id":{"status":"healthy","updated_at":"t"},
            "mail":{"status":"initializing","updated_at":"t"},
            "web":{"status":"unhealthy","reason":"no","updated_at":"t"}}}"#;
        assert_eq!(reasons(report), "mail: not yet; web: no");
        let one = br#"{"status":"initializing","updated_at":"t"}"#;
        assert_eq!((reasons(one), reasons(b"?")), ("not yet".into(), "malformed response".into()));
    }
}
