//! gRPC on one connection, RFC 9113. It never reconnects: what is proved on one connection is worth nothing on another.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tonic::body::Body;
use tower::Service;

/// HTTP/2 windows, bytes: what the other end may send before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 128 * 1024;

/// The `:scheme` and `:authority` of each call. TLS has shown who answers, so the name is only a form.
const ORIGIN: &str = "http://authority.endorse.internal";

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
        // Each call says itself why it failed.
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
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(SOFTWARE));
        Box::pin(self.0.send_request(request))
    }
}
