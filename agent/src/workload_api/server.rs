//! Connections of workloads, and which service a call is for.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
pub(super) use proto::envoy::secret::secret_discovery_service_server::SERVICE_NAME as SDS;
use proto::envoy::secret::secret_discovery_service_server::SecretDiscoveryServiceServer;
use proto::reflection::v1::server_reflection_server::{
    SERVICE_NAME as REFLECTION, ServerReflectionServer,
};
pub(super) use proto::spiffe::spiffe_workload_api_server::SERVICE_NAME as WORKLOAD_API;
use proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response, Uri};
use tower::Service;

use super::authority::Repaired;
use super::reflection::{self, OLD_REFLECTION, Reflection};
use super::updates::{stopped, stopping};
use super::{Answer, Counts, Source};
use crate::attest::{Caller, Refused};
use crate::config::SdsNames;
use crate::connections::{Limits, Places};
use crate::log::Log;

/// What every call of the Workload API must have, so that no request can be forged through a program that forwards HTTP.
const SECURITY_HEADER: &str = "workload.spiffe.io";

/// Bytes of a request: a token to validate is the longest.
const MAX_REQUEST: usize = 128 * 1024;

/// Bytes of the headers of a call.
const MAX_HEADERS: u32 = 16 * 1024;

/// HTTP/2 windows, bytes: what a workload may send before it is read.
const WINDOW: u32 = 64 * 1024;

/// Bytes that wait for a workload which does not read.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// Calls of one connection at a time.
const MAX_CALLS: u32 = 100;

/// How long a connection may take until its first call.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is at the other end of a connection.
pub trait Attest: Send + Sync + 'static {
    /// Attests the process at this moment; `None` where no process can be attested.
    fn attest(&self) -> Answer<'_, Result<Option<Caller>, Refused>>;

    /// Waits until the process has ended.
    fn ended(&self) -> Answer<'_, ()>;

    /// Its user when it connected, if that is known.
    fn uid(&self) -> Option<u32>;
}

/// The bytes of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection, and the process at its other end.
pub struct Connected {
    /// The bytes.
    pub stream: Box<dyn Stream>,
    /// The process, whose attestation has begun.
    pub process: Result<Box<dyn Attest>, Refused>,
}

/// Where workloads connect.
pub trait Listener: Send + 'static {
    /// The next connection. Cancel safe.
    fn accept(&self) -> Answer<'_, io::Result<Connected>>;
}

/// A server on one socket, which ends when it is dropped.
#[derive(Debug)]
pub struct WorkloadApi {
    stop: watch::Sender<bool>,
}

/// What is served.
pub struct Serving {
    /// Where identities come from.
    pub source: Arc<dyn Source>,
    /// The names of Envoy's secrets.
    pub sds_names: SdsNames,
    /// How many connections there may be.
    pub limits: Limits,
    /// For the metrics.
    pub counts: Counts,
    /// Where refusals are logged.
    pub log: Log,
}

/// What all connections of a server have in common.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) source: Arc<dyn Source>,
    pub(super) sds_names: SdsNames,
    counts: Counts,
    pub(super) log: Log,
}

/// The process at the other end of a connection.
pub(super) struct Peer {
    process: Box<dyn Attest>,
    stop: watch::Receiver<bool>,
    counts: Counts,
}

impl Peer {
    /// Attests the process, for each call: it may have executed another program since the last one.
    pub(super) async fn attest(&self) -> Result<Option<Caller>, Status> {
        let attested = self.process.attest().await;
        let counter =
            if attested.is_ok() { &self.counts.attested } else { &self.counts.unattested };
        counter.count();
        attested.map_err(|why| Status::unavailable(format!("workload attestation failed: {why}")))
    }

    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Waits until the process or the server ends.
    pub(super) async fn ended(&self) -> Status {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = self.process.ended() => Status::unavailable("the process that connected has ended"),
            () = stopping(&mut stop) => stopped(),
        }
    }
}

/// The process that sent a request.
pub(super) fn peer<T>(request: &tonic::Request<T>) -> Result<Arc<Peer>, Status> {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.cloned().ok_or_else(|| Status::internal("a request without a connection"))
}

impl WorkloadApi {
    /// Serves the connections of `listener`.
    #[must_use]
    pub fn serve(listener: Box<dyn Listener>, serving: Serving) -> Self {
        let (stop, stopping) = watch::channel(false);
        let Serving { source, sds_names, limits, counts, log } = serving;
        let served = Arc::new(Served { source, sds_names, counts, log });
        tokio::spawn(accept(listener, served, Places::new(limits), stopping));
        Self { stop }
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn accept(
    listener: Box<dyn Listener>,
    served: Arc<Served>,
    places: Places,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut stop) => return,
        };
        let Ok(Connected { stream, process }) = accepted else {
            // Out of descriptors, say: connections that end make room.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let process = match process {
            Ok(process) => process,
            Err(cause) => {
                served.counts.unattested.count();
                served.log.debug("refused a workload", &[("reason", &cause)]);
                continue;
            }
        };
        let uid = process.uid();
        let Some(place) = places.take(uid) else {
            let uid = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
            served.log.debug("refused a workload: too many connections", &[("uid", &uid)]);
            continue;
        };
        let counts = served.counts.clone();
        let open = counts.connections.begin();
        let peer = Arc::new(Peer { process, stop: stop.clone(), counts });
        let router = Router::new(&served, peer);
        let mut stop = stop.clone();
        tokio::spawn(async move {
            serve_connection(stream, router, &mut stop).await;
            drop((place, open));
        });
    }
}

/// Serves until the connection ends. A stop lets the streams end with a reason.
async fn serve_connection(
    stream: Box<dyn Stream>,
    router: Router,
    stop: &mut watch::Receiver<bool>,
) {
    let called = Arc::clone(&router.called);
    // On the heap: as a part of this future, which moves it, it would take its room more than once.
    let mut connection = Box::pin(
        Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_CALLS)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .serve_connection(
                TokioIo::new(Repaired::new(stream)),
                TowerToHyperService::new(router),
            ),
    );
    let silent = async {
        if tokio::time::timeout(FIRST_CALL_TIMEOUT, called.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Whatever the workload did, the next one is not affected.
        _ = &mut connection => return,
        () = silent => return,
        () = stopping(stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
}

/// The services of one connection.
#[derive(Clone)]
struct Router {
    workload_api: SpiffeWorkloadApiServer<Served>,
    sds: SecretDiscoveryServiceServer<Served>,
    peer: Arc<Peer>,
    /// Notified by the first call.
    called: Arc<tokio::sync::Notify>,
}

impl Router {
    fn new(served: &Arc<Served>, peer: Arc<Peer>) -> Self {
        let workload_api = SpiffeWorkloadApiServer::from_arc(Arc::clone(served));
        let sds = SecretDiscoveryServiceServer::from_arc(Arc::clone(served));
        Self {
            workload_api: workload_api.max_decoding_message_size(MAX_REQUEST),
            sds: sds.max_decoding_message_size(MAX_REQUEST),
            peer,
            called: Arc::default(),
        }
    }
}

type Routed = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<B> Service<Request<B>> for Router
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Routed;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Routed {
        self.called.notify_one();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.peer));
        let service = service_of(request.uri().path()).unwrap_or_default().to_owned();
        match service.as_str() {
            WORKLOAD_API if !has_security_header(request.headers()) => {
                at_once(Status::invalid_argument("security header missing from request"))
            }
            WORKLOAD_API => self.workload_api.call(request),
            // Envoy does not send the header.
            SDS => self.sds.call(request),
            REFLECTION => reflect(request),
            OLD_REFLECTION => {
                *request.uri_mut() = Uri::from_static(reflection::PATH);
                reflect(request)
            }
            _ => at_once(Status::unimplemented("unknown service")),
        }
    }
}

/// For the fuzz targets: the services of one connection, without HTTP/2.
#[doc(hidden)]
pub fn services<B>(
    process: impl Attest,
    source: Arc<dyn Source>,
    stop: watch::Receiver<bool>,
    log: Log,
) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sds_names, counts) = (SdsNames::default(), Counts::default());
    let served = Arc::new(Served { source, sds_names, counts: counts.clone(), log });
    Router::new(&served, Arc::new(Peer { process: Box::new(process), stop, counts }))
}

fn reflect(request: Request<Body>) -> Routed {
    ServerReflectionServer::new(Reflection).max_decoding_message_size(MAX_REQUEST).call(request)
}

fn at_once(status: Status) -> Routed {
    Box::pin(ready(Ok(status.into_http())))
}

fn service_of(path: &str) -> Option<&str> {
    path.strip_prefix('/')?.split_once('/').map(|(service, _)| service)
}

/// SPIFFE Workload Endpoint, section 3: the header once, with this value and no other.
fn has_security_header(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(SECURITY_HEADER).iter();
    values.next().is_some_and(|value| value == "true") && values.next().is_none()
}
