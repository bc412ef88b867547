//! The agent on a socket, used by `ssh-add`, `ssh-keygen` and hostile callers.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use host::log::{Level, LogFormat};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use super::*;
use crate::attest::Attestor;
use crate::attest::rule::{Rule, Rules, UnixRule};
use crate::keys::{Signing, SoftwareKey};
use crate::log::Log;
use crate::ssh::key;
use crate::ssh::wire::Packed;

/// An agent, until it is dropped.
struct Running {
    directory: TempDir,
    offers: watch::Sender<Option<Arc<Offered>>>,
    _agent: SshAgent,
}

impl Running {
    fn new(key: Option<Arc<dyn Key>>) -> Self {
        Self::with(key, Rules::default(), LIMITS)
    }

    fn with(key: Option<Arc<dyn Key>>, rules: Rules, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let offered = key.map(|key| Arc::new(Offered { key, certificate: None }));
        let (offers, offered) = watch::channel(offered);
        let gate = Gate { rules, attestor: Attestor::new(None) };
        let named = ("test".to_owned(), Purpose::User);
        let log = Log::new(LogFormat::Text, Level::Error);
        let agent = SshAgent::serve(listener, named, offered, gate, limits, log);
        Self { directory, offers, _agent: agent }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.directory.path());
        command.env("SSH_AUTH_SOCK", self.socket());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

/// Sends a message and reads the response, without their lengths.
async fn ask(stream: &mut UnixStream, message: &[u8]) -> Vec<u8> {
    send(stream, message).await;
    receive(stream).await
}

async fn send(stream: &mut UnixStream, message: &[u8]) {
    stream.write_all(&Packed::default().string(message).into_vec()).await.unwrap();
}

async fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let mut response = vec![0; length.try_into().unwrap()];
    stream.read_exact(&mut response).await.unwrap();
    response
}

/// Whether the agent has closed the connection, which it may do before it has read everything.
async fn is_closed(stream: &mut UnixStream) -> bool {
    !matches!(stream.read(&mut [0; 16]).await, Ok(1..))
}

fn software() -> Arc<dyn Key> {
    Arc::new(SoftwareKey::generate().unwrap())
}

/// A request to sign a login of this key.
fn login(key: &[u8]) -> Vec<u8> {
    let data = Packed::default().string(b"id").byte(50).string(b"u").string(b"ssh-connection");
    let data = data.string(b"publickey").byte(1).string(b"ecdsa-sha2-nistp256").string(key);
    Packed::default().byte(13).string(key).string(&data.into_vec()).number(0).into_vec()
}

const FAILURE: &[u8] = &[5];

#[tokio::test]
async fn openssh_lists_the_key_signs_with_it_and_cannot_change_it() {
    let key = software();
    let running = Running::new(Some(Arc::clone(&key)));
    let line = key::line(&key::blob(&key.public())).unwrap();
    let listed = running.run("ssh-add", &["-L"]).await;
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), format!("{line} test\n"));
    let listed = running.run("ssh-add", &["-l"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.starts_with("256 SHA256:") && listed.ends_with(" test (ECDSA)\n"), "{listed}");

    std::fs::write(running.directory.path().join("k.pub"), format!("{line}\n")).unwrap();
    std::fs::write(running.directory.path().join("file"), "content").unwrap();
    std::fs::write(running.directory.path().join("signers"), format!("a {line}\n")).unwrap();
    let signed = running.run("ssh-keygen", &["-Y", "sign", "-f", "k.pub", "-n", "git", "file"]);
    let signed = signed.await;
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let verify = "ssh-keygen -Y verify -f signers -I a -n git -s file.sig < file";
    let verified = running.run("sh", &["-c", verify]).await;
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let made = running.run("ssh-keygen", &["-q", "-N", "", "-f", "other"]).await;
    assert!(made.status.success());
    // Locking asks for a password.
    let ask = running.directory.path().join("ask");
    std::fs::write(&ask, "#!/bin/sh\necho p\n").unwrap();
    std::fs::set_permissions(&ask, std::fs::Permissions::from_mode(0o700)).unwrap();
    for change in ["-D", "-d k.pub", "other", "-x", "-X"] {
        let command = format!("SSH_ASKPASS_REQUIRE=force SSH_ASKPASS=./ask ssh-add {change}");
        let changed = running.run("sh", &["-c", &command]).await;
        let said = String::from_utf8_lossy(&changed.stderr);
        assert!(!changed.status.success(), "{change}: {said}");
        assert!(["agent", "identit"].iter().any(|word| said.contains(word)), "{change}: {said}");
    }
    let listed = running.run("ssh-add", &["-L"]).await;
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), format!("{line} test\n"));
}

#[tokio::test]
async fn requests_that_are_not_served_fail_and_leave_the_connection_open() {
    let key = software();
    let running = Running::new(Some(Arc::clone(&key)));
    let mut stream = running.connect().await;
    for number in (0..=255).filter(|number| ![11, 13, 27].contains(number)) {
        assert_eq!(ask(&mut stream, &[number, 0, 0, 0, 1, 7]).await, FAILURE, "{number}");
    }
    let unknown = Packed::default().byte(27).string(b"unknown@x").string(&[7; 9000]).into_vec();
    assert_eq!(ask(&mut stream, &unknown).await, FAILURE);
    let query = Packed::default().byte(27).string(b"query").into_vec();
    let extensions = b"\x1d\0\0\0\x05query\0\0\0\x18session-bind@openssh.com";
    assert_eq!(ask(&mut stream, &query).await, extensions);
    let blob = key::blob(&key.public());
    let sign = |key: &[u8], data: &[u8]| {
        Packed::default().byte(13).string(key).string(data).number(0).into_vec()
    };
    for refused in [
        sign(&blob, b"anything"),
        sign(&blob, &[7; 32]),
        sign(b"", b""),
        login(&key::blob(&SoftwareKey::generate().unwrap().public())),
    ] {
        assert_eq!(ask(&mut stream, &refused).await, FAILURE);
    }
    assert_eq!(ask(&mut stream, &login(&blob)).await[0], 14);
}

#[tokio::test]
async fn session_that_the_host_has_not_signed_is_not_bound() {
    let running = Running::new(Some(software()));
    let mut stream = running.connect().await;
    let host = key::blob(&SoftwareKey::generate().unwrap().public());
    let scalars = Packed::default().mpint(&[1; 32]).mpint(&[2; 32]).into_vec();
    let signature = Packed::default().string(b"ecdsa-sha2-nistp256").string(&scalars).into_vec();
    let name = Packed::default().byte(27).string(b"session-bind@openssh.com");
    let bind = name.string(&host).string(b"id").string(&signature).byte(0).into_vec();
    for length in 30..=bind.len() {
        assert_eq!(ask(&mut stream, &bind[..length]).await, [28], "{length} bytes");
    }
}

#[tokio::test]
async fn message_of_a_wrong_length_closes_its_connection_and_no_other() {
    let running = Running::new(Some(software()));
    let mut other = running.connect().await;
    for frame in [&[0, 0, 0, 0][..], &[0xff; 4], &[0, 4, 0, 1], b"GET / HTTP/1.1\r\n"] {
        let mut stream = running.connect().await;
        stream.write_all(frame).await.unwrap();
        assert!(is_closed(&mut stream).await, "{frame:?}");
    }
    let mut cut = running.connect().await;
    cut.write_all(&[0, 0, 0, 9, 11]).await.unwrap();
    cut.shutdown().await.unwrap();
    assert!(is_closed(&mut cut).await);
    assert_eq!(ask(&mut other, &[11]).await[..5], [12, 0, 0, 0, 1]);
}

/// A key that signs when it is allowed to, like a TPM that takes its time.
#[derive(Debug)]
struct Slow {
    key: SoftwareKey,
    begun: Arc<Semaphore>,
    may_go_on: Arc<Semaphore>,
}

impl Key for Slow {
    fn public(&self) -> p256::ecdsa::VerifyingKey {
        self.key.public()
    }

    fn sign<'k>(&'k self, digest: &'k [u8; 32]) -> Signing<'k> {
        Box::pin(async move {
            self.begun.add_permits(1);
            let _permit = self.may_go_on.acquire().await.unwrap();
            self.key.sign(digest).await
        })
    }

    fn is_in_tpm(&self) -> bool {
        true
    }

    fn scalar(&self) -> Option<Zeroizing<[u8; 32]>> {
        None
    }

    fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, host::exit::Failure> {
        self.key.to_pem()
    }
}

#[tokio::test]
async fn signature_and_caller_that_take_long_delay_no_other_caller() {
    let (begun, may_go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let key = SoftwareKey::generate().unwrap();
    let blob = key::blob(&key.public());
    let slow = Slow { key, begun: Arc::clone(&begun), may_go_on: Arc::clone(&may_go_on) };
    let running = Running::new(Some(Arc::new(slow)));
    let mut silent = running.connect().await;
    silent.write_all(&[0, 0, 1]).await.unwrap();
    let mut waiting = running.connect().await;
    send(&mut waiting, &login(&blob)).await;
    begun.acquire().await.unwrap().forget();
    let mut other = running.connect().await;
    assert_eq!(ask(&mut other, &[11]).await[..5], [12, 0, 0, 0, 1]);
    may_go_on.add_permits(1);
    assert_eq!(receive(&mut waiting).await[0], 14);
}

#[tokio::test]
async fn key_that_was_shown_signs_also_after_another_one_is_offered() {
    let (old, new) = (software(), software());
    let running = Running::new(None);
    let mut stream = running.connect().await;
    assert_eq!(ask(&mut stream, &[11]).await, [12, 0, 0, 0, 0]);
    let offer = |key: &Arc<dyn Key>| {
        let offered = Offered { key: Arc::clone(key), certificate: None };
        running.offers.send_replace(Some(Arc::new(offered)));
        key::blob(&key.public())
    };
    let old = offer(&old);
    ask(&mut stream, &[11]).await;
    let new = offer(&new);
    assert_eq!(ask(&mut stream, &login(&old)).await[0], 14);
    assert_eq!(ask(&mut stream, &login(&new)).await[0], 14);
    let mut stream = running.connect().await;
    assert_eq!(ask(&mut stream, &login(&old)).await, FAILURE);
}

#[tokio::test]
async fn caller_that_matches_no_rule_is_not_served() {
    let own = rustix::process::geteuid().as_raw();
    for (uid, is_served) in [(own, true), (own + 1, false)] {
        let unix = UnixRule { uid: Some(uid), ..UnixRule::default() };
        let rules = Rules(vec![Rule { unix, ..Rule::default() }]);
        let running = Running::with(Some(software()), rules, LIMITS);
        let mut stream = running.connect().await;
        send(&mut stream, &[11]).await;
        match is_served {
            true => assert_eq!(receive(&mut stream).await[0], 12),
            false => assert!(is_closed(&mut stream).await),
        }
    }
}

#[tokio::test]
async fn connections_of_a_user_are_limited() {
    let limits = Limits { connections: 8, per_user: 1 };
    let running = Running::with(Some(software()), Rules::default(), limits);
    let mut first = running.connect().await;
    assert_eq!(ask(&mut first, &[11]).await[0], 12);
    let mut second = running.connect().await;
    assert!(is_closed(&mut second).await);
    assert_eq!(ask(&mut first, &[11]).await[0], 12);
}

#[tokio::test]
async fn certificate_that_has_expired_is_not_listed() {
    let directory = tempfile::tempdir().unwrap();
    let key = software();
    let line = key::line(&key::blob(&key.public())).unwrap();
    std::fs::write(directory.path().join("k.pub"), line).unwrap();
    let keygen = |arguments: &[&str]| {
        let mut command = Command::new("ssh-keygen");
        assert!(command.args(arguments).current_dir(&directory).status().unwrap().success());
        std::fs::read_to_string(directory.path().join("k-cert.pub")).ok()
    };
    keygen(&["-q", "-N", "", "-f", "ca"]);
    let sign = ["-q", "-s", "ca", "-I", "x", "-n", "x", "-V"];
    for (validity, number) in [("-1h:+10h", 2), ("-2h:-1h", 1), ("+1h:+2h", 1)] {
        let certificate = keygen(&[&sign[..], &[validity, "k.pub"]].concat());
        let running = Running::new(None);
        let offered = Offered { key: Arc::clone(&key), certificate };
        running.offers.send_replace(Some(Arc::new(offered)));
        let listed = ask(&mut running.connect().await, &[11]).await;
        assert_eq!(listed[..5], [12, 0, 0, 0, number], "{validity}");
    }
}
