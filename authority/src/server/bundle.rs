//! The public keys of the cluster over HTTPS, for anyone: the SPIFFE bundle (SPIFFE Federation section 5), and for receivers of
//! JWTs the discovery document and the keys (OpenID Connect Discovery 1.0).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host::diag::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use host::diag::{Reply, StatusCode, serve, text};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::leaf::{Leaf, Server};
use super::slots::{Limits, Slot, Slots};
use super::{handshake, open_files};
use crate::config::BundleProfile;
use crate::issue::{IssuerUrl, JWKS_PATH, OPENID_PATH};
use crate::service::documents::Document;
use crate::service::{Authority, Source};

/// How long a peer may take for its part of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a peer may send after its ClientHello: the rest of the handshake, and one request.
const MAX_REQUEST: usize = 32 * 1024;

/// How long to wait when the system has no more files for connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How often connections over their deadline are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that the kernel accepts ahead of the authority; it may cap them.
const BACKLOG: u32 = 1024;

/// A socket that listens for who verifies what the cluster issues.
pub struct BundleListener {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
}

impl BundleListener {
    /// Listens on a socket of [`super::bind`]'s.
    ///
    /// # Errors
    /// It cannot listen, or the endpoint's own certificate cannot be issued.
    pub fn listen(
        socket: TcpSocket,
        profile: &BundleProfile,
        authority: &Arc<Authority>,
    ) -> io::Result<Self> {
        let resolver: Arc<dyn ResolvesServerCert> = match profile {
            BundleProfile::HttpsWeb(_) => Arc::new(PublicCertificate(Arc::clone(authority))),
            BundleProfile::HttpsSpiffe => {
                Leaf::new(Arc::clone(authority), Server::Bundle).map_err(io::Error::other)?
            }
        };
        let tls = tls::web_server_config(resolver).map_err(io::Error::other)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the task is dropped.
    pub async fn serve(self, authority: Arc<Authority>) {
        // The connection metrics are those of hosts.
        let slots = Slots::new(Limits::for_bundle(open_files()), Arc::default());
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            let accepted = tokio::select! {
                now = sweep.tick() => {
                    slots.sweep(now);
                    continue;
                }
                accepted = slots.accept(&self.listener) => accepted,
            };
            match accepted {
                Ok((stream, remote, socket)) => {
                    let Some((slot, evicted)) = slots.enter(remote.ip(), Instant::now()) else {
                        continue;
                    };
                    let (authority, tls) = (Arc::clone(&authority), Arc::clone(&self.tls));
                    tokio::spawn(async move {
                        let served = tokio::select! {
                            served = connection(stream, remote, &slot, tls, &authority) => served,
                            // Another caller needs the slot.
                            _ = evicted => Ok(()),
                        };
                        if let Err(cause) = served {
                            debug!(%remote, %cause, "the handshake with the bundle endpoint failed");
                        }
                        drop((slot, socket));
                    });
                }
                Err(cause) => {
                    warn!(%cause, "cannot accept a connection to the bundle endpoint");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// Answers one request.
async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    slot: &Slot,
    tls: Arc<ServerConfig>,
    authority: &Authority,
) -> io::Result<()> {
    let (hello, budget) = handshake::client_hello(stream).await?;
    budget.set(Some(MAX_REQUEST));
    slot.set_computing();
    let source = Source::of(remote.ip());
    let answered = handshake::answer(&authority.workers, hello, tls, source).await?;
    let now = Instant::now();
    // The deadline of the request is the server's of HTTP, which is shorter.
    slot.set_waiting(now, now + 2 * HANDSHAKE_TIMEOUT);
    let stream = answered.finish(now + HANDSHAKE_TIMEOUT).await?;
    serve(stream, async |path| answer(&path, authority)).await;
    Ok(())
}

/// The document at a path. Those for receivers of JWTs are below the path of the issuer.
fn document_at(path: &str, authority: &Authority) -> Option<Document> {
    let issuer = authority.issuer.jwt_settings().issuer.as_ref();
    match path.strip_prefix(issuer.map_or("", IssuerUrl::path)) {
        _ if path == "/" => Some(Document::SpiffeBundle),
        Some(JWKS_PATH) => Some(Document::Jwks),
        Some(OPENID_PATH) => Some(Document::OpenIdConfiguration),
        Some(_) | None => None,
    }
}

fn answer(path: &str, authority: &Authority) -> Reply {
    let document = document_at(path, authority);
    let content = document.map_or(Ok(None), |document| authority.document(document));
    let reply = match content {
        Ok(Some(content)) => published(content),
        Ok(None) => text(StatusCode::NOT_FOUND, "not found\n".into()),
        Err(cause) => {
            error!(%cause, path, "cannot write a document of the bundle endpoint");
            text(StatusCode::INTERNAL_SERVER_ERROR, "see the log of the authority\n".into())
        }
    };
    let name = document.map_or("none", Document::name);
    authority.metrics.document(name, reply.status().as_u16());
    reply
}

/// Scripts of any web page may read it. It may change at any time, so caches ask again.
fn published(content: String) -> Reply {
    let mut reply = text(StatusCode::OK, content);
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-cache"),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply
}

/// The certificate from files, for any name.
struct PublicCertificate(Arc<Authority>);

impl ResolvesServerCert for PublicCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.public_names.endpoint_certificate()
    }
}

impl fmt::Debug for PublicCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicCertificate")
    }
}
