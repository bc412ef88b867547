//! What is spoken inside TLS: ALPN, RFC 7301.

use rustls::ConnectionCommon;

/// The protocol that both ends of a connection agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// HTTP/2, RFC 9113 section 3.2.
    Http2,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 under the name that Teleport's agents use to join through a proxy.
    ProxyGrpc,
    /// Teleport's tunnel over SSH. Agents also offer it alone, to find out whether a load balancer in between
    /// passes ALPN on.
    ReverseTunnel,
}

impl Application {
    pub(crate) const HTTP2_ID: &[u8] = b"h2";

    pub(crate) const HTTP1_ID: &[u8] = b"http/1.1";

    /// All of them with their identifiers; a server prefers the first ones.
    const ALL: [(Self, &[u8]); 4] = [
        (Self::Http2, Self::HTTP2_ID),
        (Self::ProxyGrpc, b"teleport-proxy-grpc"),
        (Self::Http1, Self::HTTP1_ID),
        (Self::ReverseTunnel, b"teleport-reversetunnel"),
    ];

    /// What this connection was agreed on for; `None` if nothing was, or before the handshake.
    #[must_use]
    pub fn of<Side>(connection: &ConnectionCommon<Side>) -> Option<Self> {
        let agreed = connection.alpn_protocol()?;
        Self::ALL.iter().find(|(_, id)| *id == agreed).map(|(application, _)| *application)
    }

    /// The identifiers that the authority offers.
    pub(crate) fn served() -> Vec<Vec<u8>> {
        Self::ALL.iter().map(|(_, id)| id.to_vec()).collect()
    }
}

/// Whether both ends agreed on HTTP/2. A client goes on without an agreement, RFC 7301 section 3.2, unless it asks this.
#[must_use]
pub fn is_http2<Side>(connection: &ConnectionCommon<Side>) -> bool {
    Application::of(connection) == Some(Application::Http2)
}
