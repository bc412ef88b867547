//! One TLS connection to the authority, and gRPC on it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use host::budget::Budget;
use host::exit::{Exit, Failure};
use host::frames::{Charged, Http2Frames};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, PeerMisbehaved};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::ceremony::channel::Channel;
use crate::ceremony::handshake::{self, Behind, Stream};
use crate::ceremony::route::{Hop, Naming, Route, Search};
use crate::ceremony::tls_failure::{
    handshake_failure, is_unknown_ca, may_be_teleport, not_accepted,
};
use crate::ceremony::upgrade::{self, Kind};
use crate::ceremony::wording::{TELEPORT, Wording};

/// Limit of the time to connect to an address, and then of the TLS handshake without the TPM's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The minimum time for each of several addresses of a name.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit of the time to find out whether there is a load balancer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 8;

/// Limit of the authority's time for a call, for all its responses together. The authority has the same limit for a join.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes that the server may send before it is authenticated; its certificate has about 1 KiB.
pub(crate) const MAX_HANDSHAKE: usize = 32 * 1024;

/// Bytes that the authority may send for one call. The longest message has 32 KiB.
pub(crate) const MAX_CALL: usize = 64 * 1024;

/// A connection, with a secret that only its two ends know.
#[derive(Debug)]
pub struct Connection {
    /// gRPC on this connection. It never reconnects: a proof is only valid on its own connection.
    pub channel: Channel,
    /// The value that binds a join to this connection.
    pub exporter: [u8; 32],
    pub(crate) end: End,
    pub(crate) budget: Budget,
}

/// Why a connection failed. No server has proved to be the authority, so nothing is decided: the authority may be at another
/// address, or available later.
#[derive(Debug)]
pub struct Unopened {
    /// The failure to report.
    pub failure: Failure,
    /// Whether a peer answered, which is more informative than silence.
    is_answered: bool,
    /// Whether the server is one of Teleport.
    pub(super) is_teleport: IsTeleport,
    /// Whether the server has a certificate of a CA that is not trusted.
    pub(super) is_of_unknown_ca: bool,
}

/// What a failed connection shows of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IsTeleport {
    No,
    /// It failed as one of Teleport does.
    Maybe,
    /// It answered as only one of Teleport does.
    Yes,
}

impl Unopened {
    /// The more informative of both; of two alike the earlier.
    pub(crate) fn or_more_telling(self, earlier: Option<Self>) -> Self {
        let before = earlier.as_ref().map_or(IsTeleport::No, |earlier| earlier.is_teleport);
        let is_teleport = self.is_teleport.max(before);
        let telling = match earlier {
            Some(earlier) if earlier.is_answered || !self.is_answered => earlier,
            _ => self,
        };
        Self { is_teleport, ..telling }
    }

    const fn silent(failure: Failure) -> Self {
        Self { failure, is_answered: false, is_teleport: IsTeleport::No, is_of_unknown_ca: false }
    }

    /// A peer answered, and is not the server that is meant.
    pub(super) fn answered(failure: Failure) -> Self {
        Self { is_answered: true, ..Self::silent(failure) }
    }

    /// The same of a server that is one of Teleport.
    pub(super) fn by_teleport(self) -> Self {
        Self { is_teleport: IsTeleport::Yes, ..self }
    }
}

impl From<Failure> for Unopened {
    fn from(failure: Failure) -> Self {
        Self::silent(failure)
    }
}

impl From<Unopened> for Failure {
    fn from(unopened: Unopened) -> Self {
        unopened.failure
    }
}

impl Connection {
    /// Connects to HOST:PORT by `route`, trying the addresses of the name in order.
    ///
    /// # Errors
    /// No server responds there, or it is not the trusted authority: [`Exit::Unavailable`].
    pub async fn open(address: &str, route: &Route) -> Result<Self, Unopened> {
        if address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            let message = format!("{address:?} is not HOST:PORT");
            let advice = "write it as in authority.example.com:3025";
            return Err(Unopened::silent(Failure::new(Exit::Usage, message, advice)));
        }
        let sockets = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host(address))
            .await
            .map_err(|_| {
                unreachable(address, route, "its name was not resolved within 10 seconds")
            })?
            .map_err(|error| unreachable(address, route, &error.to_string()))?;
        let sockets: Vec<SocketAddr> = sockets.take(MAX_ADDRESSES).collect();
        let share = CONNECT_TIMEOUT / u32::try_from(sockets.len().max(1)).unwrap_or(u32::MAX);
        let mut telling = None;
        for socket in sockets {
            let share = share.max(MIN_CONNECT_TIMEOUT);
            match Self::open_socket(address, socket, share, route).await {
                Ok(connection) => return Ok(connection),
                Err(unopened) => telling = Some(unopened.or_more_telling(telling)),
            }
        }
        Err(telling
            .unwrap_or_else(|| unreachable(address, route, "its name resolves to no address")))
    }

    async fn open_socket(
        address: &str,
        socket: SocketAddr,
        limit: Duration,
        route: &Route,
    ) -> Result<Self, Unopened> {
        let is_behind_balancer = match route.search().map_err(Unopened::silent)? {
            Search::Known(is_there) => is_there,
            Search::Probe(hop) => {
                let budget = Budget::new(MAX_HANDSHAKE);
                let tcp = connect(address, socket, limit, route).await?;
                is_load_balancer(handshake::connect(tcp, budget, &hop, PROBE_TIMEOUT).await)
            }
        };
        let hops: Vec<Hop> = match is_behind_balancer {
            false => vec![route.direct()],
            true => Kind::ALL.into_iter().filter_map(|kind| route.upgraded(kind)).collect(),
        };
        let mut refused = None;
        for hop in hops {
            let budget = Budget::new(MAX_HANDSHAKE);
            let tcp = connect(address, socket, limit, route).await?;
            match handshake::connect(tcp, budget.clone(), &hop, CONNECT_TIMEOUT).await {
                Ok(tls) => return Self::on(address, route, tls, budget).await,
                // An older Proxy does not know WebSockets, a newer one nothing else.
                Err(error) if is_refusal(&error) => refused = refused.or(Some(error)),
                Err(error) => return Err(not_shaken(address, route, &hop, &error)),
            }
        }
        let error = refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into());
        Err(Unopened::answered(not_upgraded(address, &error)).by_teleport())
    }

    /// gRPC on a connection that was just made.
    async fn on(
        address: &str,
        route: &Route,
        tls: Stream,
        budget: Budget,
    ) -> Result<Self, Unopened> {
        // Only protocols that carry HTTP/2 are offered.
        if tls.get_ref().1.alpn_protocol().is_none() {
            let failure = without_http2(address, route.wording);
            // Or a load balancer before one.
            let is_teleport = IsTeleport::Maybe;
            return Err(Unopened { is_teleport, ..Unopened::answered(failure) });
        }
        budget.set(Some(MAX_CALL));
        let bug = |error: rustls::Error| Unopened::silent(Failure::bug(error));
        let exporter = tls::join_exporter(tls.get_ref().1).map_err(bug)?;

        let end = End { alert: Arc::default(), wording: route.wording };
        let io = Charged::<_, Http2Frames>::new(Watched { tls, end: end.clone() }, budget.clone());
        let io = TokioIo::new(io);
        let channel = Channel::open(io).await.map_err(|error| {
            let failure = unreachable(address, route, "it closed the connection").failure;
            Unopened::silent(failure.caused_by(&error))
        })?;
        Ok(Self { channel, exporter, end, budget })
    }
}

async fn connect(
    address: &str,
    socket: SocketAddr,
    limit: Duration,
    route: &Route,
) -> Result<TcpStream, Unopened> {
    let failed = |error: io::Error| unreachable(address, route, &error.to_string());
    let tcp = timeout(limit, TcpStream::connect(socket))
        .await
        .map_err(|_| {
            unreachable(address, route, &format!("no answer in {} seconds", limit.as_secs()))
        })?
        .map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    Ok(tcp)
}

/// Whether the answer to a protocol of Teleport alone is from a load balancer: it chose none, or refused the handshake for
/// that. Any other failure is the next connection's to explain.
fn is_load_balancer(probed: io::Result<Stream>) -> bool {
    match probed {
        Ok(tls) => tls.get_ref().1.alpn_protocol().is_none(),
        Err(error) => matches!(
            error.get_ref().and_then(|inner| inner.downcast_ref()),
            Some(
                rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
                    | rustls::Error::PeerMisbehaved(
                        PeerMisbehaved::SelectedUnofferedApplicationProtocol
                    )
            )
        ),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<upgrade::Refused>())
}

fn not_shaken(address: &str, route: &Route, hop: &Hop, error: &io::Error) -> Unopened {
    if error.kind() == io::ErrorKind::TimedOut {
        return unreachable(address, route, "no TLS handshake within 10 seconds");
    }
    let inner = error.get_ref();
    let failure = match inner.and_then(|inner| inner.downcast_ref::<Behind>()) {
        Some(Behind(error)) => handshake_failure(
            &format!("the Teleport Proxy behind {address}"),
            Naming::Internal,
            &TELEPORT,
            error,
        ),
        None if hop.through.is_some()
            && !inner.is_some_and(|inner| inner.is::<rustls::Error>()) =>
        {
            not_upgraded(address, error)
        }
        None => handshake_failure(address, route.naming, route.wording, error),
    };
    // A server that lets nobody speak HTTP with it need not be a load balancer.
    let is_aborted = matches!(
        inner.and_then(|inner| inner.downcast_ref()),
        Some(rustls::Error::AlertReceived(_))
    );
    let is_teleport = match may_be_teleport(error) {
        _ if hop.through.is_some() && !is_aborted => IsTeleport::Yes,
        true => IsTeleport::Maybe,
        false => IsTeleport::No,
    };
    let is_of_unknown_ca = is_unknown_ca(error);
    Unopened { is_teleport, is_of_unknown_ca, ..Unopened::answered(failure) }
}

/// There is a load balancer, and no Proxy behind it.
fn not_upgraded(address: &str, error: &io::Error) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("the load balancer at {address} does not pass on the connection: {error}"),
        "check that it is in front of a Teleport Proxy and passes on WebSockets; in front of an \
         authority it must pass on TLS; if there is no load balancer, set \
         TELEPORT_TLS_ROUTING_CONN_UPGRADE=no",
    )
}

/// It speaks TLS, but chose none of the protocols that were offered.
fn without_http2(address: &str, wording: &Wording) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("cannot reach {} at {address}: it does not speak HTTP/2", wording.name),
        format!(
            "check that the address is {}; a load balancer in front of it has to pass on TLS, or to \
             negotiate h2 (ALPN)",
            wording.whose
        ),
    )
}

fn unreachable(address: &str, route: &Route, what: &str) -> Unopened {
    let Wording { name, status, .. } = route.wording;
    Unopened::silent(Failure::new(
        Exit::Unavailable,
        format!("cannot reach {name} at {address}: {what}"),
        format!(
            "check that it runs ({status}), that the address is correct, and that no firewall \
             blocks it"
        ),
    ))
}

/// The rest of the time for the authority's responses to a call. A machine without power never closes a connection, and a
/// hostile authority could be slow at each step.
#[derive(Debug)]
pub(crate) struct CallTime {
    left: Duration,
}

impl CallTime {
    /// The time of a call that begins.
    pub(crate) const fn new() -> Self {
        Self { left: CALL_TIMEOUT }
    }

    /// An answer of the authority. What happens between two of them, as in the host's own TPM, is not counted.
    ///
    /// # Errors
    /// Those of the response; or the time of the call is over.
    pub(crate) async fn wait<T>(
        &mut self,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let begin = Instant::now();
        let answer = timeout(self.left, answer).await;
        self.left = self.left.saturating_sub(begin.elapsed());
        let late = format!("no answer in {} seconds", CALL_TIMEOUT.as_secs());
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded(late)))
    }
}

/// The TLS alert at the end of a connection. In TLS 1.3 the authority verifies our certificate after our handshake is done, so
/// the first call fails, and its error only says that the connection is closed.
#[derive(Clone, Debug)]
pub(crate) struct End {
    alert: Arc<Mutex<Option<AlertDescription>>>,
    wording: &'static Wording,
}

impl End {
    /// Why the server does not accept our certificate, if that ended the connection.
    pub(crate) fn rejection(&self) -> Option<Failure> {
        let alert = *self.alert.lock().unwrap_or_else(PoisonError::into_inner);
        alert.map(|alert| not_accepted(self.wording, alert))
    }

    fn note(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            self.alert.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(*alert);
        }
    }
}

/// A connection that records how it ended.
#[derive(Debug)]
struct Watched {
    tls: Stream,
    end: End,
}

impl Watched {
    /// A peer that closes the connection sent its reason first. After a failed write it is no longer read elsewhere, so read it here.
    fn wrote<T>(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if matches!(wrote, Poll::Ready(Err(_))) {
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            match Pin::new(&mut self.tls).poll_read(context, &mut buffer) {
                Poll::Ready(Err(said)) => {
                    self.end.note(&said);
                    return Poll::Ready(Err(said));
                }
                // The runtime may not know of received data yet, but of the end of the connection it will.
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
            }
        }
        wrote
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tls).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.end.note(error);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.tls).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wrote = Pin::new(&mut self.tls).poll_flush(context);
        self.wrote(context, wrote)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn answers_of_a_call_share_one_timeout() {
        const PART: Duration = Duration::from_millis(20);
        let mut time = CallTime::new();
        let answer = async {
            sleep(PART).await;
            Ok(())
        };
        time.wait(answer).await.unwrap();
        assert!(time.left <= CALL_TIMEOUT - PART, "{time:?}");
        time.left = PART;
        for _ in 0..2 {
            let late = time.wait(std::future::pending::<Result<(), _>>()).await.unwrap_err();
            assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
            assert_eq!(time.left, Duration::ZERO);
        }
    }
}
