//! One TLS connection to the authority, and gRPC on it.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::exit::{Exit, Failure};

/// How long an address may take to answer, and then to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, and what only its two ends know of it.
#[derive(Debug)]
pub struct Connection {
    /// gRPC on this connection. It is never made anew: a proof would be worth nothing on another.
    pub channel: Channel,
    /// The value that binds a join to this connection.
    pub exporter: [u8; 32],
}

impl Connection {
    /// Connects to HOST:PORT.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] if nobody answers there, [`Exit::Refused`] if it is not the authority that is trusted.
    pub async fn open(address: &str, config: Arc<ClientConfig>) -> Result<Self, Failure> {
        let unavailable = |what: String| {
            Failure::new(
                Exit::Unavailable,
                format!("cannot reach the authority at {address}: {what}"),
                "see that it runs (`authority status` there), that the address is right and no firewall is between",
            )
        };
        if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            let message = format!("{address:?} is not HOST:PORT");
            return Err(Failure::new(
                Exit::Usage,
                message,
                "write it as in authority.example.com:3025",
            ));
        }
        let tcp = tokio::time::timeout(PATIENCE, TcpStream::connect(address))
            .await
            .map_err(|_| unavailable("no answer in ten seconds".into()))?
            .map_err(|error| unavailable(error.to_string()))?;
        tcp.set_nodelay(true).map_err(|error| unavailable(error.to_string()))?;
        let handshake = TlsConnector::from(config).connect(tls::authority_name(), tcp);
        let tls = tokio::time::timeout(PATIENCE, handshake)
            .await
            .map_err(|_| unavailable("no TLS handshake in ten seconds".into()))?
            .map_err(|error| handshake_failure(address, &error))?;
        let exporter = tls::join_exporter(tls.get_ref().1).map_err(Failure::bug)?;

        let mut only = Some(TokioIo::new(tls));
        let connector = tower::service_fn(move |_| {
            let io = only.take().ok_or_else(|| std::io::Error::other("the connection was closed"));
            async move { io }
        });
        let channel = Endpoint::from_static("http://authority.endorse.internal")
            .connect_with_connector(connector)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(Self { channel, exporter })
    }
}

/// TLS failed: whoever answers is not whom we trust, or does not trust us, or speaks something else.
fn handshake_failure(address: &str, error: &std::io::Error) -> Failure {
    let message = format!("no TLS with {address}: {error}");
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Failure::new(
            Exit::Refused,
            message,
            "compare --ca-pin with what `authority status` shows; if they agree, somebody stands between",
        ),
        Some(rustls::Error::AlertReceived(_)) => Failure::new(
            Exit::Refused,
            message,
            "the authority does not accept the certificate: it has expired, or is another cluster's; join anew",
        ),
        Some(_) => {
            Failure::new(Exit::Unavailable, message, "see that the address is an authority's")
        }
        None => Failure::new(
            Exit::Unavailable,
            message,
            "see that the authority is well, and try again",
        ),
    }
}
