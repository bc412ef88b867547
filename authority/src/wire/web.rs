//! What clients of Teleport ask the web address of a proxy before they connect: `GET /webapi/find`.

use host::diag::{Reply, StatusCode, json};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::service::Authority;
use crate::wire::teleport::SIGNATURE_ALGORITHM_SUITE;

/// The documents of the web API.
pub struct WebApi {
    found: Found,
}

/// The answer to `/webapi/find` and `/webapi/ping`. It has no `server_version`: some clients refuse an older one than
/// their own.
#[derive(Serialize)]
struct Found {
    auth: Auth,
    proxy: Proxy,
    cluster_name: String,
}

#[derive(Serialize)]
struct Auth {
    /// Clients choose the algorithm of their keys by it.
    signature_algorithm_suite: &'static str,
}

#[derive(Serialize)]
struct Proxy {
    ssh: Addresses,
    /// Everything is on one port, told apart by ALPN.
    tls_routing_enabled: bool,
}

#[derive(Serialize)]
struct Addresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_addr: Option<String>,
}

#[derive(Serialize)]
struct Failed<'a> {
    error: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

impl WebApi {
    /// The web API of an authority that listens at this port.
    pub fn new(authority: &Authority, port: u16) -> Self {
        let public_addr = authority.public_names.address().map(|addr| addr.with_port(port));
        let found = Found {
            auth: Auth { signature_algorithm_suite: SIGNATURE_ALGORITHM_SUITE },
            proxy: Proxy { ssh: Addresses { public_addr }, tls_routing_enabled: true },
            cluster_name: authority.issuer.cluster().to_string(),
        };
        Self { found }
    }

    /// Whether a path is in the web API.
    pub(crate) fn has(path: &str) -> bool {
        ["/webapi/", "/v1/webapi/"].iter().any(|prefix| path.starts_with(prefix))
    }

    /// Answers one request of HTTP/1.1 on a connection.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        host::diag::serve(stream, async |path| self.answer(&path)).await;
    }

    /// The answer to a GET of this path.
    pub(crate) fn answer(&self, path: &str) -> Reply {
        match path {
            "/webapi/find" | "/v1/webapi/find" | "/webapi/ping" | "/v1/webapi/ping" => {
                json(StatusCode::OK, &self.found)
            }
            _ => failed(StatusCode::NOT_FOUND, "not found: this server has no web interface"),
        }
    }
}

/// The answer to a request with another method than GET and HEAD.
pub(crate) fn method_not_allowed() -> Reply {
    failed(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: use GET")
}

/// The answer on a connection that has made as many calls as it may, or as costly ones.
pub(crate) fn too_many_requests() -> Reply {
    failed(StatusCode::TOO_MANY_REQUESTS, "too many requests on one connection")
}

fn failed(code: StatusCode, message: &str) -> Reply {
    json(code, &Failed { error: Message { message } })
}
