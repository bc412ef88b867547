//! The authority on the network: TLS, HTTP/2, limits; and on its unix socket.

mod admin;
mod bundle;
mod diag;
mod handshake;
mod leaf;
mod public;
mod router;
mod slots;
mod tls_settings;

pub use admin::AdminSocket;
pub use bundle::BundleListener;
pub use diag::DiagListener;
pub use public::PublicListener;
pub use router::Hosts;
pub use tls_settings::TlsSettings;

pub use crate::wire::web::WebApi;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::admin_service_server::AdminServiceServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tonic::transport::Server;

use self::public::Connections;
use crate::keyring::HEARTBEAT_INTERVAL;
use crate::service::Authority;
use crate::service::refusal_log;
use crate::wire::admin::Operators;

/// No message that a host sends is longer: an EK certificate and the CAs above it, some 2 KiB each.
/// Every unproven connection can make the authority buffer as much.
const MAX_MESSAGE: usize = 32 * 1024;

/// The same for operators: a stream of resources.
const MAX_ADMIN_MESSAGE: usize = 4 * 1024 * 1024;

/// Concurrent calls on a connection of a host with a certificate, or of an operator.
const MAX_STREAMS: u32 = 16;

/// Concurrent calls on a connection without a certificate.
const MAX_UNPROVEN_STREAMS: u32 = 2;

/// HTTP/2 flow-control windows, bytes: the initial value of RFC 9113 section 6.9.2.
const WINDOW: u32 = 65_535;

/// Headers of one call.
const MAX_HEADERS: u32 = 16 * 1024;

/// After this silence a connection gets an HTTP/2 ping, and the same time to answer it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long a call other than a join may take, including the time to receive it.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// After this time a connection is asked to close (GOAWAY): a host's calls take seconds.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);

/// After this further time it is closed, even during a call: no join may take longer.
const MAX_CONNECTION_GRACE: Duration = Duration::from_secs(600);

/// How long a stop waits for calls in progress.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a stop waits until the audit log is on the disk.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often expired records are removed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// How often the CAs and the keys for JWTs are looked at.
const KEYS_INTERVAL: Duration = Duration::from_secs(60);

/// How often changes of the CAs by other authorities are looked for.
const KEYRING_INTERVAL: Duration = Duration::from_secs(2);

/// How often the files with certificates of public names are read again.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);

/// Binds an address. Connections to it are refused until something listens on the socket.
pub fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until `stop` is true, then lets calls in progress finish.
pub async fn serve(
    authority: Arc<Authority>,
    public: PublicListener,
    admin: AdminSocket,
    stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let stopped = |mut stop: watch::Receiver<bool>| async move {
        // An error means that all senders are gone.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let port = public.address().map_or(0, |address| address.port());
    let services = Hosts::new(&authority, port, stop.clone());
    let Connections { unproven, known } =
        public.connections(services.web_api(), Arc::clone(&authority.metrics));
    let strangers = limits(MAX_UNPROVEN_STREAMS).serve_with_incoming_shutdown(
        services.clone(),
        unproven,
        stopped(stop.clone()),
    );
    let hosts =
        limits(MAX_STREAMS).serve_with_incoming_shutdown(services, known, stopped(stop.clone()));
    let (pruning, counting) = (Arc::clone(&authority), Arc::clone(&authority));
    let (syncing, reloading) = (Arc::clone(&authority), Arc::clone(&authority));
    let retaining = Arc::clone(&authority);
    let (maintaining, following) = (Arc::clone(&authority), Arc::clone(&authority));
    let service = AdminServiceServer::new(Operators::new(authority))
        .max_decoding_message_size(MAX_ADMIN_MESSAGE);
    let operators = limits(MAX_STREAMS).serve_with_incoming_shutdown(
        service,
        admin.connections(),
        stopped(stop.clone()),
    );
    let drained = async {
        stopped(stop).await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    let served = tokio::select! {
        ended = async { tokio::try_join!(strangers, hosts, operators) } => ended.map(|_| ()),
        () = prune(pruning) => Ok(()),
        () = summarize(&counting) => Ok(()),
        () = reload_certificates(reloading) => Ok(()),
        () = maintain_keys(maintaining) => Ok(()),
        () = follow_keyring(&following) => Ok(()),
        () = syncing.sync_audit_log_periodically() => Ok(()),
        () = retaining.retain_periodically() => Ok(()),
        () = drained => {
            tracing::warn!(seconds = DRAIN_TIMEOUT.as_secs(), "calls in progress are cut off");
            Ok(())
        }
    };
    counting.record_last_refusals();
    let last = async {
        counting.summarize_refusals().await;
        counting.sync_audit_log().await;
    };
    // The next start appends what is missing.
    let _ = tokio::time::timeout(AUDIT_TIMEOUT, last).await;
    served
}

/// Never ends.
async fn summarize(authority: &Authority) {
    let mut times = tokio::time::interval(refusal_log::WINDOW);
    loop {
        times.tick().await;
        authority.record_counted_refusals();
        authority.record_summaries().await;
    }
}

/// Never ends.
async fn prune(authority: Arc<Authority>) {
    let mut times = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        times.tick().await;
        authority.prune().await;
    }
}

/// Never ends.
async fn reload_certificates(authority: Arc<Authority>) {
    let mut times = tokio::time::interval(CERTIFICATE_INTERVAL);
    loop {
        times.tick().await;
        let authority = Arc::clone(&authority);
        // A file system may hang. An error means that the program ends.
        let _ = tokio::task::spawn_blocking(move || authority.reload_certificates()).await;
    }
}

/// Never ends.
async fn maintain_keys(authority: Arc<Authority>) {
    let mut times = tokio::time::interval(KEYS_INTERVAL);
    loop {
        times.tick().await;
        authority.maintain_keys().await;
    }
}

/// Loads what other authorities change, and says that this one is alive; ends when another one has removed it.
async fn follow_keyring(authority: &Authority) {
    let Some(keyring) = authority.keyring.as_ref().filter(|keyring| keyring.is_shared()) else {
        return std::future::pending().await;
    };
    let mut polls = tokio::time::interval(KEYRING_INTERVAL);
    let mut beats = tokio::time::interval(HEARTBEAT_INTERVAL);
    // The log has the first failure of a store, until it works again.
    let mut is_said = false;
    loop {
        let done = tokio::select! {
            _ = polls.tick() => keyring.refresh().await,
            _ = beats.tick() => keyring.beat(authority.clock.now()).await,
        };
        match done {
            Err(_) if keyring.is_removed() => return,
            Err(cause) if !is_said => {
                tracing::warn!(%cause, "cannot look for changes of the CAs by other authorities");
                is_said = true;
            }
            Err(_) => {}
            Ok(()) => is_said = false,
        }
    }
}

/// How many files this process may have open.
fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the number of files that this process may have open as far as the system allows.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(cause) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%cause, "cannot raise the limit of open files");
    }
}

fn limits(streams: u32) -> Server {
    Server::builder()
        .max_concurrent_streams(streams)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_INTERVAL))
        .timeout(CALL_TIMEOUT)
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_GRACE)
}
