//! An authority without a network: its services, and what they were about to write.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use authority::audit::{AuditLog, Author};
use authority::issue::{
    CaKey, ClusterName, Issuer, JwtAlgorithm, JwtKey, Profile, SshCa, SubjectKey, Ttl, Validity,
    X509Ca,
};
use authority::resource::{BotInstance, EkHash, ProvenEk, ProvenKey, Resource, Timestamp, read};
use authority::server::{Hosts, WebApi};
use authority::service::{Authority, Peer};
use authority::store::{
    Change, IfExists, Keyed, MemoryStore, Pending, Range, Records, Snapshot, Store, Table,
};
use host::clock::Clock;
use http_body_util::{BodyExt, Full};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::Request;
use tonic::{Code, Status};
use tower::Service;

use crate::fixtures;

/// Calls of one authority. The next one is new, since an authority counts calls, and keeps its audit log.
const MAX_CALLS: u32 = 10_000;

/// A bot, a token by which it joined, and an identity for its workloads.
const RESOURCES: &str = "\
kind: bot
version: v1
metadata: {name: example}
spec: {roles: [access, dev]}
---
kind: token
version: v2
metadata: {name: my-bot-token}
spec:
  roles: [Bot]
  join_method: tpm
  bot_name: example
  tpm:
    allow:
      - ek_public_hash: EK
---
kind: workload_identity
version: v1
metadata: {name: web, labels: {env: prod}}
spec:
  bots: {names: [example]}
  spiffe: {id: \"/site/{{ user.bot_name }}/web\", hint: web}
";

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A peer without a certificate.
    Stranger,
    /// A bot with its identity.
    Bot,
    /// The same with certificates for one of its outputs.
    Output,
}

/// What came back, and what was to be written.
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) message: Vec<u8>,
    pub(crate) written: Vec<Change>,
}

/// How a proof went.
pub(crate) struct Proof {
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) status: Status,
    pub(crate) written: Vec<Change>,
}

/// The services of an authority that one bot has joined.
pub(crate) struct Cluster {
    /// The bot's roles.
    pub(crate) roles: Vec<String>,
    /// When its identity ends, in seconds since 1970.
    pub(crate) not_after: u64,
    hosts: Hosts,
    web: Arc<WebApi>,
    store: Arc<Frozen>,
    identity: CertificateDer<'static>,
    output: CertificateDer<'static>,
    runtime: Runtime,
    calls: u32,
    _stop: watch::Sender<bool>,
    _log: tempfile::TempDir,
}

impl Cluster {
    /// With keys of its own. Its clock shows always the same.
    pub(crate) fn new() -> Self {
        let now = OffsetDateTime::from_unix_timestamp(fixtures::now().seconds()).expect("a time");
        let name: ClusterName = "example.test".parse().expect("a name");
        let key = || CaKey::generate().expect("a key");
        let x509 = X509Ca::create(&name, key(), now).expect("a CA");
        let ssh = SshCa::new(&name, &key()).expect("a CA");
        let jwt = JwtKey::generate(JwtAlgorithm::Es256).expect("a key");
        let ssh_host = SshCa::of_hosts(&name, &key()).expect("a CA");
        let issuer = Issuer::new(name, x509, ssh, ssh_host, jwt);

        let resources = read(&RESOURCES.replace("EK", &sha256(&fixtures::ek_spki())))
            .expect("as an operator writes it");
        let [Resource::Bot(bot), ..] = resources.as_slice() else { panic!("a bot first") };
        let public: SubjectKey = fixtures::join_key().verifying_key().into();
        let instance = joined(&public, now);
        let issue = |profile| {
            let validity = Validity { now, ttl: Ttl::default() };
            issuer.credentials(bot, &instance, profile, &public, validity).expect("certificates")
        };
        let (identity, output) = (issue(Profile::identity(1)), issue(Profile::IMPERSONATED));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let store = Arc::new(runtime.block_on(Frozen::new(&resources, &instance, now)));
        let log = tempfile::tempdir().expect("a directory");
        let audit = AuditLog::open(&log.path().join("audit.jsonl")).expect("a file");
        let authority = Authority::new(
            issuer,
            Arc::<Frozen>::clone(&store),
            audit.with_max_waiting(usize::MAX),
            Clock::new(move || now),
            Duration::from_secs(60),
        );
        let (stop, stopped) = watch::channel(false);
        let hosts = Hosts::new(&Arc::new(authority), 3025, stopped);
        Self {
            roles: bot.spec.roles.iter().map(ToString::to_string).collect(),
            not_after: identity.not_after.unix_timestamp().try_into().expect("after 1970"),
            web: hosts.web_api(),
            hosts,
            store,
            identity: identity.x509,
            output: output.x509,
            runtime,
            calls: 0,
            _stop: stop,
            _log: log,
        }
    }

    /// Calls a method with one message.
    pub(crate) fn call(&mut self, method: &str, who: Who, message: &[u8]) -> Answer {
        let request = self.request(method, who, &[message]);
        let (status, message) = self.runtime.block_on(answered(&mut self.hosts, request));
        Answer { status, message, written: self.store.take() }
    }

    /// A proof that a service's key is in the TPM, with these messages of the host.
    pub(crate) fn proof(&mut self, who: Who, messages: &[&[u8]]) -> Proof {
        let request = self.request("/endorse.v1.IdentityService/ProveKey", who, messages);
        let (status, replies) = self.runtime.block_on(replied(&mut self.hosts, request));
        Proof { replies, status, written: self.store.take() }
    }

    fn request(&mut self, method: &str, who: Who, messages: &[&[u8]]) -> Request<Body> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            *self = Self::new();
        }
        let certificate = match who {
            Who::Stranger => None,
            Who::Bot => Some(self.identity.clone()),
            Who::Output => Some(self.output.clone()),
        };
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let framed = |message: &&[u8]| {
            let length = u32::try_from(message.len()).expect("an input is short");
            [&[0][..], &length.to_be_bytes(), message].concat()
        };
        let body: Vec<u8> = messages.iter().flat_map(framed).collect();
        Request::post(method)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .extension(Peer::unlimited(remote, certificate))
            .body(Body::new(Full::new(Bytes::from(body))))
            .expect("a request")
    }

    /// All that a client of the web API gets that sends this and then waits.
    pub(crate) fn web(&self, sent: &[u8]) -> Vec<u8> {
        let mut received = Vec::new();
        let stream = tokio::io::join(sent.chain(Silence), &mut received);
        let _timers = self.runtime.enter();
        // What is there is served at once; the server waits for more up to a time limit.
        let _ = pin!(self.web.serve(stream)).poll(&mut Context::from_waker(Waker::noop()));
        received
    }
}

/// A peer that sends nothing, and does not hang up.
struct Silence;

impl AsyncRead for Silence {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// The status, and the first message. A stream may have no end.
async fn answered(hosts: &mut Hosts, request: Request<Body>) -> (Status, Vec<u8>) {
    let response = hosts.call(request).await.expect("infallible");
    if let Some(status) = Status::from_header_map(response.headers()) {
        return (status, Vec::new());
    }
    let mut body = response.into_body();
    let frame = body.frame().await.expect("an answer").expect("the body is in memory");
    match frame.into_data() {
        Ok(data) => (Status::new(Code::Ok, ""), data.get(5..).expect("a length").to_vec()),
        Err(frame) => {
            let trailers = frame.into_trailers().expect("data or trailers");
            (Status::from_header_map(&trailers).expect("a status"), Vec::new())
        }
    }
}

/// All messages, each of which is a frame of its own, and the status at their end.
async fn replied(hosts: &mut Hosts, request: Request<Body>) -> (Status, Vec<Vec<u8>>) {
    let response = hosts.call(request).await.expect("infallible");
    let mut replies = Vec::new();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return (status, replies);
    }
    let mut body = response.into_body();
    loop {
        let frame = body.frame().await.expect("an answer").expect("the body is in memory");
        match frame.into_data() {
            Ok(data) => replies.push(data.get(5..).expect("a length").to_vec()),
            Err(frame) => {
                let trailers = frame.into_trailers().expect("data or trailers");
                return (Status::from_header_map(&trailers).expect("a status"), replies);
            }
        }
    }
}

/// An instance of the bot with this key.
fn joined(key: &SubjectKey, now: OffsetDateTime) -> BotInstance {
    let ek = ProvenEk {
        public_hash: sha256(&fixtures::ek_spki()).parse::<EkHash>().expect("a hash"),
        certificate_serial: None,
        certificate_issuer: None,
        verified_by: None,
    };
    let hash = sha256(&key.to_spki().expect("a key"));
    let (bot, token) =
        ("example".parse().expect("a name"), "my-bot-token".parse().expect("a name"));
    let mut instance = BotInstance::joining(bot, token, ek, hash, now);
    let public_key_hash = sha256(&fixtures::service_key().spki_der());
    let proven = ProvenKey { public_key_hash, proven: Timestamp(now) };
    instance.record_key_in_tpm("db".to_owned(), proven);
    instance
}

/// In hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A store that stays as it is: what is written is kept to be looked at.
struct Frozen {
    records: Arc<MemoryStore>,
    written: Mutex<Vec<Change>>,
}

impl Frozen {
    /// With these records.
    async fn new(resources: &[Resource], instance: &BotInstance, now: OffsetDateTime) -> Self {
        let records = Arc::new(MemoryStore::default());
        let all = Records::new(Arc::<MemoryStore>::clone(&records));
        all.put(resources, IfExists::Replace, Author::system(now)).await.expect("in memory");
        let record = serde_json::to_vec(instance).expect("it can be stored");
        let insert = Change::Insert(Table::Instances, instance.path(), record);
        records.write(vec![insert]).await.expect("in memory");
        Self { records, written: Mutex::default() }
    }

    /// What was written since the last time.
    fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Frozen {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        self.records.read(table, key)
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        self.records.list(range)
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
        Box::pin(std::future::ready(Ok(())))
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        self.records.snapshot()
    }
}
