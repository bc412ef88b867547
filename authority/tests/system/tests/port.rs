//! Everything that the one port speaks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use serde_json::{Value, json};
use testkit::simulated::TIMEOUT;
use tls::ServerTrust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::harness::{Harness, run};

const FIND: [&str; 4] = ["/webapi/find", "/v1/webapi/find", "/webapi/ping", "/v1/webapi/ping"];

/// A connection that offers these protocols.
async fn connect(
    harness: &Harness,
    offered: &[&str],
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let trust = ServerTrust::Certificates(vec![harness.ca()]);
    let config = tls::client_config(&trust, identity).unwrap();
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = offered.iter().map(|id| id.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(harness.address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(tls::authority_name(), stream).await
}

/// Everything up to the end of the connection.
async fn read_all(mut stream: TlsStream<TcpStream>) -> Vec<u8> {
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    tokio::time::timeout(TIMEOUT, read).await.expect("an end").expect("a polite end");
    all
}

/// The answer to a request of HTTP/1.1: status and body.
async fn ask(harness: &Harness, offered: &[&str], request: &str) -> (String, Value) {
    let mut stream = connect(harness, offered, None).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_all(stream).await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/json") || !head.contains(" 200"), "{head}");
    (head[9..12].to_owned(), serde_json::from_str(body).unwrap_or_default())
}

/// A file with the CA.
fn ca_file(harness: &Harness) -> PathBuf {
    let path = harness.dir.path().join("ca.pem");
    let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, &harness.ca());
    std::fs::write(&path, pem.unwrap()).unwrap();
    path
}

/// The answer to curl: the version of HTTP, the status, and the body.
pub(crate) async fn curl(harness: &Harness, flags: &'static [&str], path: &str) -> (String, Value) {
    let ca = ca_file(harness);
    let port = harness.address.port();
    let url = format!("https://{}:{port}{path}", tls::AUTHORITY_NAME);
    let address = format!("{}:{port}:127.0.0.1", tls::AUTHORITY_NAME);
    let asked = tokio::task::spawn_blocking(move || {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "30", "-w", "\n%{http_version} %{http_code}"]);
        run(curl.args(flags).arg("--cacert").arg(ca).args(["--resolve", &address, &url]))
    });
    let said = String::from_utf8(asked.await.unwrap()).unwrap();
    let (body, status) = said.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn web_clients_find_out_how_to_connect() {
    let harness = Harness::new().await;
    let found = json!({
        "auth": {"signature_algorithm_suite": "balanced-v1"},
        "proxy": {"ssh": {}, "tls_routing_enabled": true},
        "cluster_name": "test.example",
    });
    for path in FIND {
        for (flags, version) in [(&["--http1.1"] as &[_], "1.1"), (&["--http2"], "2")] {
            let (status, body) = curl(&harness, flags, path).await;
            assert_eq!((status, &body), (format!("{version} 200"), &found), "{path}");
        }
        // An HTTP client that does not know ALPN.
        let request = format!("GET {path}?group=x HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(ask(&harness, &[], &request).await, ("200".into(), found.clone()));
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_as_json() {
    let harness = Harness::new().await;
    for path in ["/webapi/connectionupgrade", "/webapi/", "/", "/webapi/find/x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (status, body) = ask(&harness, &["http/1.1"], &request).await;
        assert_eq!(status, "404", "{path}");
        assert!(body["error"]["message"].is_string(), "{path}: {body}");
    }
    let (status, body) = curl(&harness, &["--http2"], "/v1/webapi/host").await;
    assert!(status == "2 404" && body["error"]["message"].is_string(), "{status} {body}");
    for flags in [&["--http2", "-d", ""] as &[_], &["--http1.1", "-d", ""]] {
        let (status, _) = curl(&harness, flags, "/v1/webapi/host/credentials").await;
        assert!(status.ends_with(" 405"), "{status}");
    }
}

#[tokio::test]
async fn http1_request_with_a_long_head_is_refused() {
    let harness = Harness::new().await;
    // Longer than a head may be, and short enough for what a connection without a certificate may send in all.
    let request =
        format!("GET /webapi/find HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(9 << 10));
    assert_eq!(ask(&harness, &["http/1.1"], &request).await.0, "431");
}

#[tokio::test]
async fn protocols_are_agreed_on_as_clients_of_teleport_expect() {
    let harness = Harness::new().await;
    let cases: [(&[&str], Option<&str>); 7] = [
        (&["h2"], Some("h2")),
        (&["h2", "http/1.1"], Some("h2")),
        (&["teleport-proxy-grpc", "h2"], Some("h2")),
        (&["teleport-proxy-grpc"], Some("teleport-proxy-grpc")),
        (&["teleport-reversetunnel"], Some("teleport-reversetunnel")),
        (&["teleport-reversetunnelv2", "teleport-reversetunnel"], Some("teleport-reversetunnel")),
        (&[], None),
    ];
    for (offered, agreed) in cases {
        let stream = connect(&harness, offered, None).await.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol();
        assert_eq!(protocol, agreed.map(str::as_bytes), "{offered:?}");
        if agreed == Some("teleport-reversetunnel") {
            assert_eq!(read_all(stream).await, b"");
        }
    }
    let refused = connect(&harness, &["teleport-proxy-ssh"], None).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// The type and the flags of the next frame.
async fn frame(stream: &mut TlsStream<TcpStream>) -> (u8, u8) {
    let mut header = [0; 9];
    let payload = async {
        stream.read_exact(&mut header).await?;
        let mut payload = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
        stream.read_exact(&mut payload).await
    };
    tokio::time::timeout(TIMEOUT, payload).await.expect("a frame").unwrap();
    (header[3], header[4])
}

/// A daemon pings once a minute for as long as it runs, also while it has no calls.
#[tokio::test]
async fn pings_of_a_host_are_answered_without_goaway() {
    let harness = Harness::new().await;
    let (tpm, issued) = harness.joined().await;
    for offered in ["h2", "teleport-proxy-grpc"] {
        let identity = Some(tpm.identity(&issued));
        let mut stream = connect(&harness, &[offered], identity).await.unwrap();
        stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.unwrap();
        for answered in 0..1000 {
            let ping = [0, 0, 8, PING, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            stream.write_all(&ping).await.unwrap();
            loop {
                let (kind, flags) = frame(&mut stream).await;
                assert_ne!(kind, GOAWAY, "after {answered}");
                if (kind, flags) == (PING, 1) {
                    break;
                }
            }
        }
    }
}

/// How `openssl s_client` ends that asks for a server name and verifies it.
pub(crate) async fn s_client(harness: &Harness, name: &str) -> Result<(), String> {
    s_client_with(harness, ca_file(harness), name).await
}

/// The same, with this CA.
pub(crate) async fn s_client_with(
    harness: &Harness,
    ca: PathBuf,
    name: &str,
) -> Result<(), String> {
    let (address, name) = (harness.address.to_string(), name.to_owned());
    tokio::task::spawn_blocking(move || s_client_at(&address, &ca, &name)).await.unwrap()
}

/// The same at this address, with this CA.
pub(crate) fn s_client_at(address: &str, ca: &Path, name: &str) -> Result<(), String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-brief", "-verify_return_error", "-alpn", "h2"]);
    openssl.args(["-connect", address, "-servername", name, "-verify_hostname", name]);
    let output = openssl.arg("-CAfile").arg(ca).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() && said.contains("Verification: OK") { Ok(()) } else { Err(said) }
}

#[tokio::test]
async fn certificate_has_the_names_that_clients_of_teleport_verify() {
    let harness = Harness::new().await;
    for name in [
        "teleport.cluster.local",
        // The hexadecimal form of this cluster's name, and of another one's.
        "746573742e6578616d706c65.teleport.cluster.local",
        "61.teleport.cluster.local",
        tls::AUTHORITY_NAME,
    ] {
        s_client(&harness, name).await.unwrap_or_else(|said| panic!("{name}: {said}"));
    }
    let said = s_client(&harness, "example.com").await.unwrap_err();
    assert!(said.contains("hostname mismatch"), "{said}");
}

/// rustls refuses a label over 63 bytes. If this fails, longer cluster names can be allowed for agents of Teleport:
/// `ClusterName::MAX_LEN_IN_SERVER_NAME`.
#[tokio::test]
async fn server_name_of_a_cluster_with_a_long_name_is_refused_by_tls() {
    let harness = Harness::new().await;
    let name = |length: usize| format!("{}.teleport.cluster.local", "61".repeat(length));
    s_client(&harness, &name(31)).await.unwrap();
    let said = s_client(&harness, &name(32)).await.unwrap_err();
    assert!(said.contains("illegal parameter"), "{said}");
}
