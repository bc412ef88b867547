//! Against OpenSSL, both ways.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use base16ct::upper::encode_string as upper_hex;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, Error, PeerIncompatible, ServerConnection, StreamOwned};
use tempfile::TempDir;
use x509_cert::der::pem::{LineEnding, encode_string};

use super::pki::{KINDS, Key, Kind, Pki};
use crate::{
    AUTHORITY_NAME, CaPin, EXPORTER_LABEL, ServerTrust, authority_name, client_config,
    join_exporter, server_config,
};

const TIMEOUT: Duration = Duration::from_secs(20);
/// OpenSSL looks for commands at the start of what it reads in one go.
const COMMAND_PAUSE: Duration = Duration::from_millis(100);
const SUITES: [&str; 3] =
    ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
const GROUPS: [&str; 3] = ["X25519", "P-256", "P-384"];

/// The PKI as files, for OpenSSL to read.
fn write_pem(pki: &Pki) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, label: &str, der: &[u8]| {
        let text = encode_string(label, LineEnding::LF, der).unwrap();
        fs::write(directory.path().join(name), text).unwrap();
    };
    let key = |key: &Key| key.pkcs8().secret_pkcs8_der().to_vec();
    write("ca.pem", "CERTIFICATE", &pki.ca);
    write("authority.pem", "CERTIFICATE", &pki.authority);
    write("authority.key", "PRIVATE KEY", &key(&pki.authority_key));
    write("bot.pem", "CERTIFICATE", &pki.bot);
    write("bot.key", "PRIVATE KEY", &key(&pki.bot_key));
    directory
}

/// An `openssl` that is stopped when the test is over, however it ends.
struct OpenSsl(Child);

impl OpenSsl {
    fn start(directory: &Path, arguments: &[&str]) -> (Self, BufReader<ChildStdout>) {
        let mut child = Command::new("openssl")
            .current_dir(directory)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(directory.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        (Self(child), output)
    }

    /// The connection that it makes; it may also have given up before that.
    fn accepted_by(&mut self, listener: &TcpListener) -> TcpStream {
        listener.set_nonblocking(true).unwrap();
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).unwrap();
                    return patient(socket);
                }
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            assert!(self.0.try_wait().unwrap().is_none(), "openssl gave up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
}

fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.set_write_timeout(Some(TIMEOUT)).unwrap();
    socket
}

fn read_line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        from.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

fn listening_address(output: &mut impl Read) -> String {
    loop {
        if let Some(address) = read_line(output).strip_prefix("ACCEPT ") {
            return address.trim().to_owned();
        }
    }
}

/// Our server, and an `openssl s_client` with a bot's certificate.
fn serve_s_client(pki: &Pki, suite: &str, group: &str) {
    let directory = write_pem(pki);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let label = std::str::from_utf8(EXPORTER_LABEL).unwrap();
    let (mut openssl, mut output) = OpenSsl::start(
        directory.path(),
        &[
            "s_client",
            "-connect",
            &address,
            "-tls1_3",
            "-ciphersuites",
            suite,
            "-groups",
            group,
            "-CAfile",
            "ca.pem",
            "-cert",
            "bot.pem",
            "-key",
            "bot.key",
            "-verify_return_error",
            "-verify_hostname",
            AUTHORITY_NAME,
            "-alpn",
            "h2",
            "-keymatexport",
            label,
            "-keymatexportlen",
            "32",
        ],
    );
    let config = server_config(pki.authority_identity(), from_ref(&pki.ca)).unwrap();
    let socket = openssl.accepted_by(&listener);
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).unwrap();
    }
    assert_eq!(tls.conn.peer_certificates().and_then(<[_]>::first), Some(&pki.bot));
    assert_eq!(tls.conn.alpn_protocol(), Some(b"h2".as_slice()));
    let agreed = tls.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(format!("{agreed:?}").replace("TLS13", "TLS"), suite);

    // `K` at the start of a line: update our keys, and we want yours updated too.
    let input = openssl.0.stdin.as_mut().unwrap();
    input.write_all(b"one\n").unwrap();
    assert_eq!(read_line(&mut tls), "one\n");
    input.write_all(b"K\n").unwrap();
    input.flush().unwrap();
    std::thread::sleep(COMMAND_PAUSE);
    openssl.0.stdin.as_mut().unwrap().write_all(b"two\n").unwrap();
    assert_eq!(read_line(&mut tls), "two\n");
    tls.write_all(b"three\n").unwrap();
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    let exported = upper_hex(&join_exporter(&tls.conn).unwrap());
    drop(tls);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    assert!(text.contains("three\n"), "{text}");
    let stderr = fs::read_to_string(directory.path().join("stderr")).unwrap();
    assert!(stderr.contains("KEYUPDATE"), "{stderr}");
    assert!(!text.contains("New Session Ticket"), "{text}");
    assert!(text.contains(&format!("Keying material: {exported}")), "{exported} in {text}");
}

#[test]
fn openssl_is_served_with_every_suite_and_group() {
    let pki = Pki::new(Kind::P256);
    for suite in SUITES {
        // P-384 is not served: it costs too much.
        for group in &GROUPS[..2] {
            serve_s_client(&pki, suite, group);
        }
    }
}

#[test]
fn openssl_is_served_with_every_certificate() {
    for kind in KINDS {
        serve_s_client(&Pki::new(kind), SUITES[0], GROUPS[0]);
    }
}

/// An `openssl s_server` that wants a certificate where `extra` says so, and our client.
fn call_s_server(
    directory: &Path,
    trust: &ServerTrust,
    identity: Option<Arc<dyn ResolvesClientCert>>,
    extra: &[&str],
) {
    let label = std::str::from_utf8(EXPORTER_LABEL).unwrap();
    let mut arguments = vec![
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-naccept",
        "1",
        "-alpn",
        "h2",
        "-CAfile",
        "ca.pem",
        "-cert",
        "authority.pem",
        "-key",
        "authority.key",
        "-cert_chain",
        "ca.pem",
        "-keymatexport",
        label,
        "-keymatexportlen",
        "32",
    ];
    arguments.extend(extra);
    let (mut openssl, mut output) = OpenSsl::start(directory, &arguments);
    let address = listening_address(&mut output);
    let client = ClientConnection::new(client_config(trust, identity).unwrap(), authority_name());
    let socket = patient(TcpStream::connect(address).unwrap());
    let mut tls = StreamOwned::new(client.unwrap(), socket);
    let mut say = |text: &[u8]| {
        let input = openssl.0.stdin.as_mut().unwrap();
        input.write_all(text).unwrap();
        input.flush().unwrap();
    };
    tls.write_all(b"one\n").unwrap();
    say(b"two\n");
    assert_eq!(read_line(&mut tls), "two\n");
    tls.conn.refresh_traffic_keys().unwrap();
    tls.write_all(b"three\n").unwrap();
    // `K`: update our keys, and we want yours updated too. Were it not taken for a command, it
    // would arrive as data.
    std::thread::sleep(COMMAND_PAUSE);
    say(b"K\n");
    std::thread::sleep(COMMAND_PAUSE);
    say(b"four\n");
    assert_eq!(read_line(&mut tls), "four\n");
    tls.write_all(b"five\n").unwrap();
    assert_eq!(tls.conn.alpn_protocol(), Some(b"h2".as_slice()));
    let exported = upper_hex(&join_exporter(&tls.conn).unwrap());
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    drop(tls);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(text.contains(&format!("Keying material: {exported}")), "{exported} in {text}");
    for line in ["one\n", "three\n", "five\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn our_client_calls_openssl_with_every_suite_and_group() {
    let pki = Pki::new(Kind::P256);
    let directory = write_pem(&pki);
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    for suite in SUITES {
        for group in GROUPS {
            let extra =
                ["-Verify", "2", "-verify_return_error", "-ciphersuites", suite, "-groups", group];
            call_s_server(directory.path(), &trust, Some(pki.bot_identity()), &extra);
        }
    }
}

#[test]
fn our_client_calls_openssl_with_every_certificate() {
    for kind in KINDS {
        let pki = Pki::new(kind);
        let directory = write_pem(&pki);
        let trust = ServerTrust::Certificates(vec![pki.ca.clone()]);
        let extra = ["-Verify", "2", "-verify_return_error"];
        call_s_server(directory.path(), &trust, Some(pki.bot_identity()), &extra);
    }
}

#[test]
fn our_client_believes_rsa_certificates() {
    for (bits, digest) in [("2048", "-sha256"), ("3072", "-sha384"), ("4096", "-sha512")] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let bits = format!("rsa_keygen_bits:{bits}");
        for name in ["ca.key", "authority.key"] {
            run(path, &["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-out", name]);
        }
        run(
            path,
            &[
                "req",
                "-x509",
                "-new",
                "-key",
                "ca.key",
                "-out",
                "ca.pem",
                digest,
                "-days",
                "1",
                "-subj",
                "/CN=CA",
                "-addext",
                "keyUsage=critical,keyCertSign",
            ],
        );
        run(
            path,
            &[
                "req",
                "-new",
                "-key",
                "authority.key",
                "-out",
                "authority.csr",
                "-subj",
                "/CN=authority",
            ],
        );
        let extensions =
            format!("subjectAltName=DNS:{AUTHORITY_NAME}\nextendedKeyUsage=serverAuth\n");
        fs::write(path.join("extensions"), extensions).unwrap();
        run(
            path,
            &[
                "x509",
                "-req",
                "-in",
                "authority.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                digest,
                "-CAcreateserial",
                "-days",
                "1",
                "-extfile",
                "extensions",
                "-out",
                "authority.pem",
            ],
        );
        let ca = CertificateDer::from_pem_file(path.join("ca.pem")).unwrap();
        let pin = CaPin::of_certificate(&ca).unwrap();
        assert_eq!(pin.to_string(), openssl_pin(path));
        call_s_server(path, &ServerTrust::Pins(vec![pin]), None, &[]);
        call_s_server(path, &ServerTrust::Certificates(vec![ca]), None, &[]);
    }
}

/// The pin as a shell computes it.
fn openssl_pin(directory: &Path) -> String {
    let output = Command::new("sh")
        .current_dir(directory)
        .args([
            "-c",
            "openssl x509 -in ca.pem -noout -pubkey | openssl pkey -pubin -outform DER \
             | openssl dgst -sha256 -r | cut -d' ' -f1",
        ])
        .output()
        .unwrap();
    format!("sha256:{}", String::from_utf8(output.stdout).unwrap().trim())
}

#[test]
fn tls_1_2_is_refused_both_ways() {
    let pki = Pki::new(Kind::P256);
    let directory = write_pem(&pki);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (mut openssl, _output) =
        OpenSsl::start(directory.path(), &["s_client", "-connect", &address, "-tls1_2"]);
    let config = server_config(pki.authority_identity(), from_ref(&pki.ca)).unwrap();
    let mut server = ServerConnection::new(config).unwrap();
    let mut socket = openssl.accepted_by(&listener);
    server.read_tls(&mut socket).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert_eq!(
        error,
        Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)
    );

    let (_openssl, mut output) = OpenSsl::start(
        directory.path(),
        &[
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-naccept",
            "1",
            "-tls1_2",
            "-cert",
            "authority.pem",
            "-key",
            "authority.key",
        ],
    );
    let address = listening_address(&mut output);
    let trust = ServerTrust::Pins(vec![pki.pin()]);
    let config = client_config(&trust, None).unwrap();
    let mut client = ClientConnection::new(config, authority_name()).unwrap();
    let error = client.complete_io(&mut patient(TcpStream::connect(address).unwrap()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
}
