//! A Teleport Proxy, with and without a load balancer in front, as far as a connection sees it.

use std::convert::Infallible;
use std::sync::Arc;

use host::exit::{Exit, Failure};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::v1::WhoAmIRequest;
use proto::v1::identity_service_client::IdentityServiceClient;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::forge::{self, DIGITAL_SIGNATURE, Template, dns_name, key_usage, oid, purposes};
use tls::Roots;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;

use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{Connection, IsTeleport};
use crate::ceremony::route::Route;

/// A server's end of TLS: a certificate for `name` by `ca`, and the protocols that it knows.
fn server(ca: &forge::Ca, name: &str, protocols: &[&str]) -> TlsAcceptor {
    let key = forge::Ca::new(&format!("key of {name}"));
    let extensions =
        vec![dns_name(name), key_usage(DIGITAL_SIGNATURE), purposes(&[oid::SERVER_AUTH])];
    let leaf = Template::new(forge::named(name), key.spki(), extensions).issued_by(ca);
    let key = PrivateKeyDer::from_pem_slice(key.key_pem().as_bytes()).unwrap();
    let chain = vec![CertificateDer::from(leaf.der()), CertificateDer::from(ca.root().der())];
    let identity = tls::identity(chain, tls::software_key(key).unwrap()).unwrap();
    let clients = [CertificateDer::from(ca.root().der())];
    let mut config = ServerConfig::clone(&tls::server_config(identity, &clients).unwrap());
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Refuses each call with its name.
async fn refuse_calls(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        let mut response = Response::new(Empty::<Bytes>::new());
        let headers = response.headers_mut();
        headers.insert("content-type", "application/grpc".parse().unwrap());
        headers.insert("grpc-status", "7".parse().unwrap());
        headers.insert("grpc-message", request.uri().path().parse().unwrap());
        Ok::<_, Infallible>(response)
    });
    let server = http2::Builder::new(TokioExecutor::new());
    let _ = server.serve_connection(TokioIo::new(io), answer).await;
}

/// How the load balancer and what is behind it behave.
#[derive(Clone, Copy, PartialEq)]
enum Upgrades {
    WebSocket,
    AlpnPing,
    Alpn,
    /// Only a redirect to another place.
    Redirect,
    /// To a server without the name of a Proxy.
    Stranger,
}

/// The head of an HTTP request.
async fn head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// A load balancer that passes upgraded connections on to a Proxy.
async fn balance(mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, upgrades: Upgrades) {
    let head = head(&mut io).await;
    assert!(head.starts_with("GET /webapi/connectionupgrade HTTP/1.1\r\n"), "{head}");
    assert!(field(&head, "Host").unwrap().starts_with("localhost:"), "{head}");
    let known = match upgrades {
        Upgrades::WebSocket | Upgrades::Stranger => "websocket",
        Upgrades::AlpnPing => "alpn-ping",
        Upgrades::Alpn => "alpn",
        Upgrades::Redirect => {
            let answer = "HTTP/1.1 302 Found\r\nLocation: https://other.example/\r\n\r\n";
            return io.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    if field(&head, "Upgrade") != Some(known) {
        return io.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap();
    }
    let more = match field(&head, "Sec-WebSocket-Key") {
        Some(key) => format!(
            "Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: alpn\r\n",
            super::upgrade::accept(key)
        ),
        None => String::new(),
    };
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {known}\r\n{more}\r\n");
    io.write_all(answer.as_bytes()).await.unwrap();

    let (inner, outer) = duplex(64 * 1024);
    let name = if upgrades == Upgrades::Stranger { "other" } else { "teleport.cluster.local" };
    let proxy = server(&forge::Ca::new("cluster"), name, &["teleport-proxy-grpc"]);
    let proxy = tokio::spawn(async move {
        if let Ok(tls) = proxy.accept(inner).await {
            refuse_calls(tls).await;
        }
    });
    carry(io, outer, upgrades).await;
    proxy.await.unwrap();
}

/// Carries bytes both ways, in the framing of an upgrade, and pings first.
async fn carry(
    io: impl AsyncRead + AsyncWrite + Unpin,
    proxy: impl AsyncRead + AsyncWrite + Unpin,
    upgrades: Upgrades,
) {
    let (mut from_agent, mut to_agent) = tokio::io::split(io);
    let (mut from_proxy, mut to_proxy) = tokio::io::split(proxy);
    let is_websocket = matches!(upgrades, Upgrades::WebSocket | Upgrades::Stranger);
    let down = async {
        let ping: &[u8] = match upgrades {
            Upgrades::AlpnPing => &[0; 4],
            Upgrades::Alpn => &[],
            _ => &[0x89, 1, b'?'],
        };
        to_agent.write_all(ping).await?;
        let mut bytes = vec![0; 4096];
        loop {
            let read = from_proxy.read(&mut bytes).await?;
            if read == 0 {
                return to_agent.shutdown().await;
            }
            let length = u16::try_from(read).unwrap();
            let header = match upgrades {
                Upgrades::Alpn => Vec::new(),
                Upgrades::AlpnPing => u32::from(length).to_be_bytes().to_vec(),
                _ => [&[0x82, 126][..], &length.to_be_bytes()].concat(),
            };
            to_agent.write_all(&[&header, &bytes[..read]].concat()).await?;
            to_agent.flush().await?;
        }
    };
    let up = async {
        loop {
            let (payload, is_data) = match upgrades {
                Upgrades::Alpn => {
                    let mut bytes = vec![0; 4096];
                    let read = from_agent.read(&mut bytes).await?;
                    bytes.truncate(read);
                    (bytes, read > 0)
                }
                Upgrades::AlpnPing => {
                    let length = from_agent.read_u32().await?;
                    let mut bytes = vec![0; length as usize];
                    from_agent.read_exact(&mut bytes).await?;
                    (bytes, true)
                }
                _ => frame(&mut from_agent).await?,
            };
            if is_data {
                to_proxy.write_all(&payload).await?;
            } else {
                assert!(is_websocket && payload == b"?" || payload.is_empty());
            }
            if !is_websocket && payload.is_empty() {
                return to_proxy.shutdown().await;
            }
        }
    };
    let _: (std::io::Result<()>, std::io::Result<()>) = tokio::join!(down, up);
}

/// A client's frame, and whether it has data.
async fn frame(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(Vec<u8>, bool)> {
    let (opcode, second) = (io.read_u8().await?, io.read_u8().await?);
    assert!(second & 0x80 != 0, "not masked");
    let length = match second & 0x7f {
        126 => u64::from(io.read_u16().await?),
        short => u64::from(short),
    };
    let mask = io.read_u32().await?.to_be_bytes();
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    io.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((payload, opcode == 0x82))
}

/// The address of a server that serves each connection with `serve`, and the root of its public name.
async fn listen<F>(
    protocols: &[&str],
    serve: impl Fn(tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> F + Send + 'static,
) -> (String, Roots)
where
    F: Future<Output = ()> + Send + 'static,
{
    let public = forge::Ca::new("public");
    let acceptor = server(&public, "localhost", protocols);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // The probe may fail.
            if let Ok(tls) = acceptor.accept(tcp).await {
                tokio::spawn(serve(tls));
            }
        }
    });
    (address, Roots::new([CertificateDer::from(public.root().der())]))
}

/// Connects by the route to a Proxy, and makes a call.
async fn call(address: &str, roots: &Roots) -> Result<tonic::Status, Failure> {
    let route = Route::to_proxy(address, roots)?;
    let connection = Connection::open(address, &route).await?;
    let mut service = IdentityServiceClient::with_origin(connection.channel, Channel::origin());
    Ok(service.who_am_i(WhoAmIRequest {}).await.unwrap_err())
}

fn assert_served(status: &tonic::Status) {
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(status.message(), "/endorse.v1.IdentityService/WhoAmI");
}

#[tokio::test]
async fn proxy_without_a_load_balancer_is_reached_directly() {
    let protocols = ["teleport-reversetunnel", "teleport-proxy-grpc"];
    let (address, roots) = listen(&protocols, |tls| async {
        if tls.get_ref().1.alpn_protocol() == Some(b"teleport-proxy-grpc") {
            refuse_calls(tls).await;
        }
    })
    .await;
    assert_served(&call(&address, &roots).await.unwrap());
}

/// It chooses no protocol for the probe, or refuses it with an alert.
#[tokio::test]
async fn proxy_behind_a_load_balancer_is_reached_by_each_kind_of_upgrade() {
    for protocols in [&[][..], &["http/1.1", "h2"]] {
        for upgrades in [Upgrades::WebSocket, Upgrades::AlpnPing, Upgrades::Alpn] {
            let (address, roots) = listen(protocols, move |tls| balance(tls, upgrades)).await;
            assert_served(&call(&address, &roots).await.unwrap());
        }
    }
}

/// What is wrong with it, the connection without a load balancer tells better.
#[tokio::test]
async fn server_that_speaks_no_http1_is_not_taken_for_a_load_balancer_of_teleport() {
    let (address, roots) = listen(&["h2"], |_| async {}).await;
    let route = Route::to_proxy(&address, &roots).unwrap();
    let unopened = Connection::open(&address, &route).await.unwrap_err();
    assert_eq!(unopened.is_teleport, IsTeleport::Maybe, "{unopened:?}");
    let Failure { message, advice, .. } = unopened.failure;
    assert!(message.ends_with("handshake: no_application_protocol"), "{message}");
    assert!(
        advice.contains(&format!("check that {address} is the Teleport cluster's")),
        "{advice}"
    );
}

#[tokio::test]
async fn redirect_of_an_upgrade_is_not_followed() {
    let (address, roots) = listen(&[], |tls| balance(tls, Upgrades::Redirect)).await;
    let failure = call(&address, &roots).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message.contains("with status 302"), "{failure}");
}

#[tokio::test]
async fn server_behind_a_load_balancer_has_to_be_a_proxy() {
    let (address, roots) = listen(&[], |tls| balance(tls, Upgrades::Stranger)).await;
    let failure = call(&address, &roots).await.unwrap_err();
    assert!(failure.message.contains("behind localhost:"), "{failure}");
}

#[tokio::test]
async fn load_balancer_has_to_prove_its_public_name() {
    let (address, _) = listen(&[], |tls| balance(tls, Upgrades::WebSocket)).await;
    let other = Roots::new([CertificateDer::from(forge::Ca::new("other").root().der())]);
    let failure = call(&address, &other).await.unwrap_err();
    assert!(failure.message.contains("no CA that this system trusts"), "{failure}");
}

/// More than any server sends before it is authenticated.
#[tokio::test]
async fn endless_answer_to_an_upgrade_is_refused() {
    let (address, roots) = listen(&[], |mut tls| async move {
        head(&mut tls).await;
        let _ = tls.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").await;
        while tls.write_all(&[b'X'; 1024]).await.is_ok() {}
    })
    .await;
    let failure = call(&address, &roots).await.unwrap_err();
    assert!(failure.message.contains("longer than 8192 bytes"), "{failure}");
}
