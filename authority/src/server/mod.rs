//! The authority on the network: TLS, HTTP/2, limits; and on its unix socket.

mod admin;
mod diag;
mod leaf;
mod places;
mod public;
mod router;
mod tls_settings;

pub use admin::AdminSocket;
pub use diag::DiagListener;
pub use public::PublicListener;
pub use tls_settings::TlsSettings;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::admin_service_server::AdminServiceServer;
use proto::v1::identity_service_server::IdentityServiceServer;
use proto::v1::join_service_server::JoinServiceServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tonic::transport::Server;

use self::public::Connections;
use self::router::Hosts;
use crate::service::Authority;
use crate::service::refusal_log;
use crate::wire::admin::Operators;
use crate::wire::endorse_v1;

/// No message that a host sends is longer: an EK certificate and the CAs above it, some 2 KiB each.
/// Every unproven connection can make the authority store as much.
const MAX_MESSAGE: usize = 32 * 1024;

/// The same for operators: a stream of resources.
const MAX_ADMIN_MESSAGE: usize = 4 * 1024 * 1024;

/// Calls at a time on a connection of a known host, or of an operator.
const MAX_STREAMS: u32 = 16;

/// Calls at a time on a connection of a peer that has shown no certificate.
const MAX_UNPROVEN_STREAMS: u32 = 2;

/// HTTP/2 windows: what a peer may send ahead of the authority's reading. RFC 9113 section 6.9.2
/// begins with as much.
const WINDOW: u32 = 65_535;

/// Headers of one call.
const MAX_HEADERS: u32 = 16 * 1024;

/// A connection that says nothing for that long is asked whether it lives, and then given that
/// long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a call may take that is no join, until all of it is here included.
const CALL: Duration = Duration::from_secs(30);

/// After that a connection is asked to go: what a host has to ask takes seconds.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);

/// And then it is closed, in the middle of whatever it says: no join may take longer.
const GRACE: Duration = Duration::from_secs(600);

/// How long calls that are under way are waited for in the end.
const DRAIN: Duration = Duration::from_secs(20);

/// How long the audit log may take in the end to be on disk.
const SETTLE: Duration = Duration::from_secs(5);

/// How often what has ended is removed.
const PRUNE: Duration = Duration::from_secs(600);

/// Takes an address. Connections to it are refused until something listens on the socket.
pub fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until `stop` says so, then lets calls that are under way come to their end.
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
    let services = Hosts {
        join: JoinServiceServer::new(endorse_v1::Hosts(Arc::clone(&authority)))
            .max_decoding_message_size(MAX_MESSAGE),
        identity: IdentityServiceServer::new(endorse_v1::Hosts(Arc::clone(&authority)))
            .max_decoding_message_size(MAX_MESSAGE),
    };
    let Connections { unproven, known } = public.connections(Arc::clone(&authority.metrics));
    let strangers = limits(MAX_UNPROVEN_STREAMS).serve_with_incoming_shutdown(
        services.clone(),
        unproven,
        stopped(stop.clone()),
    );
    let hosts =
        limits(MAX_STREAMS).serve_with_incoming_shutdown(services, known, stopped(stop.clone()));
    let (pruning, counting) = (Arc::clone(&authority), Arc::clone(&authority));
    let settling = Arc::clone(&authority);
    let service = AdminServiceServer::new(Operators::new(authority))
        .max_decoding_message_size(MAX_ADMIN_MESSAGE);
    let operators = limits(MAX_STREAMS).serve_with_incoming_shutdown(
        service,
        admin.connections(),
        stopped(stop.clone()),
    );
    let drained = async {
        stopped(stop).await;
        tokio::time::sleep(DRAIN).await;
    };
    let served = tokio::select! {
        ended = async { tokio::try_join!(strangers, hosts, operators) } => ended.map(|_| ()),
        () = prune(pruning) => Ok(()),
        () = count_refusals(&counting) => Ok(()),
        () = settling.settle_audit_for_ever() => Ok(()),
        () = drained => {
            tracing::warn!(seconds = DRAIN.as_secs(), "calls in progress are cut off");
            Ok(())
        }
    };
    counting.record_last_refusals();
    // The next start does what this leaves.
    let _ = tokio::time::timeout(SETTLE, counting.settle_audit()).await;
    served
}

/// Never ends.
async fn count_refusals(authority: &Authority) {
    let mut times = tokio::time::interval(refusal_log::WINDOW);
    loop {
        times.tick().await;
        authority.record_counted_refusals();
    }
}

/// Never ends.
async fn prune(authority: Arc<Authority>) {
    let mut times = tokio::time::interval(PRUNE);
    loop {
        times.tick().await;
        authority.prune().await;
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
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .timeout(CALL)
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(GRACE)
}
