//! gRPC on one connection, RFC 9113. It never reconnects, because a proof is only valid on its own connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// HTTP/2 windows, bytes: what the other end may send before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;

/// The `:scheme` and `:authority` of each call. TLS has authenticated the server, so the name has no meaning.
const ORIGIN: &str = "http://authority.endorse.internal";

/// The details of a gRPC status. Nothing here reads them, and tonic 0.14.9 panics if they are not Base64.
const STATUS_DETAILS: &str = "grpc-status-details-bin";

const SOFTWARE: &str = concat!("endorse-agent/", env!("CARGO_PKG_VERSION"));

/// Where calls are sent. The connection ends with the last copy.
#[derive(Clone, Debug)]
pub struct Channel(SendRequest<Body>);

impl Channel {
    /// Speaks HTTP/2 on a connection that has just been made.
    ///
    /// # Errors
    /// The connection failed.
    pub(crate) async fn open(
        io: impl Read + Write + Unpin + Send + 'static,
    ) -> Result<Self, hyper::Error> {
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(io)
            .await?;
        // Each call reports why it failed.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        Ok(Self(requests))
    }

    /// The origin that the generated clients put before the path of each call.
    #[must_use]
    pub fn origin() -> Uri {
        Uri::from_static(ORIGIN)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Answer>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Ready too when the connection is lost: `call` says so then. tonic's clients would bury a status that comes from
    /// here in a text of their own.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(context).map(|_| Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(SOFTWARE));
        let response = self.0.send_request(request);
        Box::pin(async move {
            let mut response = response.await.map_err(failed)?;
            if response.status() != StatusCode::OK {
                return Err(not_grpc(response.status()));
            }
            remove_details(response.headers_mut());
            Ok(response.map(Answer))
        })
    }
}

/// The body of a response, without the header that makes tonic panic.
#[derive(Debug)]
pub struct Answer(Incoming);

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let mut frame = frame.map_err(failed)?;
            frame.trailers_mut().into_iter().for_each(remove_details);
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

fn remove_details(headers: &mut HeaderMap) {
    headers.remove(STATUS_DETAILS);
}

/// The connection or the stream failed. tonic would translate some HTTP/2 error codes into statuses with which an authority
/// refuses, but an authority that decides sends a status.
fn failed(error: hyper::Error) -> Status {
    let mut status = Status::unavailable("the connection was lost");
    status.set_source(Arc::new(error));
    status
}

/// The server speaks HTTP/2 and not gRPC, as the web server of a Teleport Proxy, or it is not ready.
fn not_grpc(status: StatusCode) -> Status {
    let message =
        format!("the server answers with HTTP status {} instead of gRPC", status.as_u16());
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Status::unavailable(message),
        _ => Status::unimplemented(message),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::time::Duration;

    use http_body_util::{BodyExt, Full};
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proto::v1::WhoAmIRequest;
    use proto::v1::identity_service_client::IdentityServiceClient;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;
    use tonic::Code;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// The result of a call that `authority` answers.
    async fn call<F>(authority: impl FnOnce(DuplexStream) -> F) -> Status
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (client, server) = duplex(64 * 1024);
        let authority = tokio::spawn(authority(server));
        let channel = Channel::open(TokioIo::new(client)).await.unwrap();
        let mut service = IdentityServiceClient::with_origin(channel, Channel::origin());
        let answer = timeout(TIMEOUT, service.who_am_i(WhoAmIRequest {})).await.unwrap();
        authority.abort();
        answer.unwrap_err()
    }

    #[tokio::test]
    async fn call_on_a_lost_connection_says_that_it_is_lost() {
        let (client, server) = duplex(64 * 1024);
        let mut channel = Channel::open(TokioIo::new(client)).await.unwrap();
        drop(server);
        let is_lost = poll_fn(|context| match channel.0.poll_ready(context) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            _ => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        });
        timeout(TIMEOUT, is_lost).await.unwrap();
        let mut service = IdentityServiceClient::with_origin(channel, Channel::origin());
        let status = service.who_am_i(WhoAmIRequest {}).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unavailable, "the connection was lost")
        );
    }

    fn refusal() -> HeaderMap {
        let headers = [("grpc-status", "7"), ("grpc-message", "no"), (STATUS_DETAILS, "!!!!")];
        let header = |(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        headers.into_iter().map(header).collect()
    }

    /// Answers with a refusal whose details are malformed, in the headers or in the trailers.
    async fn refuse(io: DuplexStream, in_headers: bool) {
        let answer = service_fn(move |_: Request<Incoming>| async move {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            let trailers = match in_headers {
                true => {
                    headers.extend(refusal());
                    None
                }
                false => Some(Ok(refusal())),
            };
            let body = Full::new(Bytes::new()).with_trailers(async { trailers });
            let mut response = Response::new(body);
            *response.headers_mut() = headers;
            Ok::<_, Infallible>(response)
        });
        let server = http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(io), answer).await;
    }

    #[tokio::test]
    async fn malformed_details_of_a_status_are_ignored() {
        for in_headers in [true, false] {
            let status = call(|io| refuse(io, in_headers)).await;
            assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "no"));
        }
    }

    /// Answers as a web server does.
    async fn answer_with(io: DuplexStream, status: StatusCode) {
        let answer = service_fn(move |_: Request<Incoming>| async move {
            let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found")));
            *response.status_mut() = status;
            Ok::<_, Infallible>(response)
        });
        let server = http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(io), answer).await;
    }

    #[tokio::test]
    async fn answer_of_a_web_server_is_no_answer_of_an_authority() {
        for (status, code) in [
            (StatusCode::NOT_FOUND, Code::Unimplemented),
            (StatusCode::FORBIDDEN, Code::Unimplemented),
            (StatusCode::FOUND, Code::Unimplemented),
            (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        ] {
            let refused = call(|io| answer_with(io, status)).await;
            assert_eq!(refused.code(), code, "{refused}");
            assert!(refused.message().contains(status.as_str()), "{refused}");
        }
    }

    /// Resets the first stream with the error code INADEQUATE_SECURITY. RFC 9113, 3.4, 4.1 and 6.4.
    async fn reset(mut io: DuplexStream) {
        const HEADERS: u8 = 1;
        io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        let mut header = [0; 9];
        while header[3] != HEADERS {
            io.read_exact(&mut header).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            io.read_exact(&mut vec![0; length as usize]).await.unwrap();
        }
        io.write_all(&[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0xc]).await.unwrap();
        let _ = io.read_to_end(&mut Vec::new()).await;
    }

    #[tokio::test]
    async fn reset_of_a_stream_is_no_refusal() {
        let status = call(reset).await;
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let cause = crate::ceremony::endorse_v1::refused(&status).cause;
        assert!(cause.contains("security properties"), "{cause}");
    }
}
