//! Diagnostics over plain HTTP: `/livez`, `/readyz`, `/metrics` and the like. Callers only ask; nothing takes orders here.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request};
pub use hyper::{Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, sink};

use crate::clock;

/// How long a caller may take for its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may take in all: a caller that reads slowly gives its place to others.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller whose request was refused unread may take to read the answer, and how much more it may send meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const MAX_REST: u64 = 64 * 1024;

/// Bytes of a request's head.
const MAX_REQUEST: usize = 8192;

/// What a caller gets.
pub type Reply = Response<Full<Bytes>>;

/// Answers one request on a connection and closes it. `answer` gets the path of the request.
pub async fn serve<S, F>(mut stream: S, answer: impl Fn(String) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Reply>,
{
    let reply = service_fn(|request: Request<Incoming>| {
        let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
        let reply = is_read.then(|| answer(request.uri().path().to_owned()));
        async move {
            Ok::<_, Infallible>(match reply {
                Some(reply) => reply.await,
                None => method_not_allowed(),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(&mut stream), reply);
    // An error or slowness of one caller does not affect the others.
    if let Ok(Err(_)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        // A connection that is closed before everything was read is reset, and the answer may be lost with it.
        let mut rest = stream.take(MAX_REST);
        let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut rest, &mut sink())).await;
    }
}

/// Prepares a thread for serving HTTP for a clock that may show a time before 1970. hyper keeps the text of its Date
/// header for each thread: writing it for the first time aborts at such a time, later it keeps the old text.
pub fn prepare_thread() {
    let unused = service_fn(|_: Request<Incoming>| pending::<Result<Reply, Infallible>>());
    let empty = TokioIo::new(tokio::io::empty());
    let connection = http1::Builder::new().serve_connection(empty, unused);
    if clock::check(clock::now()).is_ok() {
        // The connection has ended already.
        let _ = pin!(connection).poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// A JSON document.
#[must_use]
pub fn json(code: StatusCode, body: &impl Serialize) -> Reply {
    let body = serde_json::to_string_pretty(body).unwrap_or_default() + "\n";
    reply(code, "application/json", body)
}

/// Says which methods there are, RFC 9110 section 15.5.6.
fn method_not_allowed() -> Reply {
    let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    reply
}

/// Plain text.
#[must_use]
pub fn text(code: StatusCode, body: String) -> Reply {
    reply(code, "text/plain; charset=utf-8", body)
}

fn reply(code: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = code;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn ask(request: &str) -> String {
        let (mut caller, stream) = duplex(1024);
        let served = serve(stream, |path| async move { text(StatusCode::OK, path) });
        let asked = async {
            caller.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            caller.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::join!(served, asked).1
    }

    /// All of it is read: a connection that is closed before is reset, and then the answer may be lost.
    #[tokio::test]
    async fn request_with_a_long_head_is_read_to_its_end_and_refused() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        let answer = ask(&long).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test]
    async fn get_is_answered_and_other_methods_are_refused() {
        let answer = ask("GET /livez?x=1 HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n/livez"), "{answer}");
        let answer = ask("POST /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn caller_that_reads_nothing_is_cut_off() {
        let (mut caller, stream) = duplex(16);
        caller.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let body = "x".repeat(4096);
        let served = serve(stream, |_| async { text(StatusCode::OK, body.clone()) });
        let asked = async {
            caller.write_all(b"host: a\r\n\r\n").await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = served => {}
            () = asked => {}
        }
    }
}
