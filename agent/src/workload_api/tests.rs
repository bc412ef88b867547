//! The server with a real client on a socket pair, and a source that says what the test wants.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use proto::envoy::discovery::DiscoveryRequest;
use proto::envoy::secret::secret_discovery_service_client::SecretDiscoveryServiceClient;
use proto::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::spiffe::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, WitBundlesRequest, WitsvidRequest,
    X509BundlesRequest, X509svidRequest,
};
use tokio::net::UnixStream;
use tonic::{Code, Request};
use zeroize::Zeroizing;

use super::*;
use crate::attest::cgroup::Systemd;
use crate::attest::{Refused, Unix};
use crate::ceremony::channel::Channel;
use crate::config::SdsNames;
use crate::credential::svid::X509Svid;
use crate::credential::validity::Validity;
use crate::log::Log;

/// What every caller may have, and what was asked for.
struct Fixed {
    entitlement: watch::Sender<Entitlement>,
    audiences: Mutex<Vec<String>>,
}

impl Source for Fixed {
    fn subscribe(&self, _: Option<&Caller>) -> Subscription {
        self.entitlement.subscribe()
    }

    fn jwt_svids<'a>(
        &'a self,
        _: Option<&'a Caller>,
        audiences: &'a [String],
        spiffe_id: Option<&'a str>,
    ) -> Answer<'a, Result<Vec<JwtSvid>, NotIssued>> {
        audiences.clone_into(&mut self.audiences.lock().unwrap());
        let svid = |path: &str| JwtSvid {
            spiffe_id: format!("spiffe://td/{path}"),
            hint: "same".into(),
            token: path.into(),
            validity: Validity { not_before: 0, not_after: i64::MAX },
        };
        let all = vec![svid("a"), svid("b")];
        let wanted = |svid: &JwtSvid| spiffe_id.is_none_or(|id| svid.spiffe_id == id);
        let svids: Vec<JwtSvid> = all.into_iter().filter(wanted).collect();
        Box::pin(async move { if svids.is_empty() { Err(NotIssued::Nothing) } else { Ok(svids) } })
    }
}

/// A process whose end the test decides.
struct Process(watch::Receiver<bool>);

impl Attest for Process {
    fn attest(&self) -> Answer<'_, Result<Option<Caller>, Refused>> {
        let unix =
            Unix { pid: 1, uid: 2, gid: 3, supplementary_gids: Vec::new(), executable: None };
        let caller = Caller { unix, systemd: Systemd::default(), container: None, pod_uid: None };
        let has_ended = *self.0.borrow();
        Box::pin(async move { if has_ended { Err(Refused::Ended) } else { Ok(Some(caller)) } })
    }

    fn ended(&self) -> Answer<'_, ()> {
        let mut ended = self.0.clone();
        Box::pin(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }

    fn uid(&self) -> Option<u32> {
        Some(2)
    }
}

/// A socket that only processes of the test connect to.
struct Open(tokio::net::UnixListener, watch::Receiver<bool>);

impl Listener for Open {
    fn accept(&self) -> Answer<'_, io::Result<Connected>> {
        Box::pin(async {
            let (stream, _) = self.0.accept().await?;
            let process = Ok(Box::new(Process(self.1.clone())) as Box<dyn Attest>);
            Ok(Connected { stream: Box::new(stream), process })
        })
    }
}

/// A server on a socket of its own, and a client of it.
struct Running {
    source: Arc<Fixed>,
    end_process: watch::Sender<bool>,
    server: Option<WorkloadApi>,
    channel: Channel,
    counts: Counts,
    _directory: tempfile::TempDir,
}

impl Running {
    async fn new(entitlement: Entitlement, limits: Limits) -> Self {
        let source = Arc::new(Fixed {
            entitlement: watch::Sender::new(entitlement),
            audiences: Mutex::default(),
        });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let (end_process, ended) = watch::channel(false);
        let counts = Counts::default();
        let serving = Serving {
            source: Arc::<Fixed>::clone(&source),
            sds_names: SdsNames::default(),
            limits,
            counts: counts.clone(),
            log: Log::new(host::log::LogFormat::default(), host::log::Level::Error),
        };
        let server = WorkloadApi::serve(Box::new(Open(listener, ended)), serving);
        let stream = UnixStream::connect(&path).await.unwrap();
        let channel = Channel::open(TokioIo::new(stream)).await.unwrap();
        let server = Some(server);
        Self { source, end_process, server, channel, counts, _directory: directory }
    }

    fn client(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::with_origin(self.channel.clone(), Channel::origin())
    }

    fn envoy(&self) -> SecretDiscoveryServiceClient<Channel> {
        SecretDiscoveryServiceClient::with_origin(self.channel.clone(), Channel::origin())
    }

    fn set(&self, entitlement: Entitlement) {
        self.source.entitlement.send_replace(entitlement);
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

pub(super) fn identities(paths: &[&str], ca: u8) -> Identities {
    let svid = |path: &&str| {
        let svid = X509Svid {
            spiffe_id: format!("spiffe://td/{path}"),
            hint: "same".into(),
            certificates: vec![vec![1], vec![2]],
            validity: Validity { not_before: 0, not_after: i64::MAX },
        };
        Arc::new(KeyedSvid { svid, key: Zeroizing::new(vec![3]) })
    };
    let bundle = Bundle {
        trust_domain: "td".into(),
        x509: vec![vec![ca], vec![5]],
        jwt: Vec::new(),
        sequence: 1,
        refresh_hint: Duration::from_secs(300),
    };
    Identities { svids: paths.iter().map(svid).collect(), bundle: Arc::new(bundle) }
}

fn entitled(paths: &[&str], ca: u8) -> Entitlement {
    Entitlement::Identities(Arc::new(identities(paths, ca)))
}

#[tokio::test]
async fn every_message_is_complete_and_a_stream_never_ends_with_success() {
    let running = Running::new(Entitlement::Pending, Limits::default()).await;
    let mut client = running.client();
    let mut stream =
        client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap().into_inner();
    running.set(entitled(&["a", "b"], 4));
    let first = stream.message().await.unwrap().unwrap();
    let [a, b] = first.svids.as_slice() else { panic!("two identities") };
    assert_eq!((a.spiffe_id.as_str(), a.hint.as_str()), ("spiffe://td/a", "same"));
    assert_eq!((a.x509_svid.as_slice(), a.x509_svid_key.as_slice()), (&[1, 2][..], &[3][..]));
    assert_eq!(a.bundle, [4, 5]);
    // The first of equal hints is the one that a client takes.
    assert_eq!((b.spiffe_id.as_str(), b.hint.as_str()), ("spiffe://td/b", ""));
    assert!(first.federated_bundles.is_empty());
    running.set(entitled(&["b"], 6));
    let next = stream.message().await.unwrap().unwrap();
    assert_eq!(next.svids.len(), 1);
    assert_eq!(next.svids.first().unwrap().bundle, [6, 5]);
    running.set(Entitlement::Nothing);
    let end = stream.message().await.unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::PermissionDenied, "no identity issued"));
    let refused = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap();
    let refused = refused.into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    running.set(Entitlement::Unavailable("expired".into()));
    let refused = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap();
    let refused = refused.into_inner().message().await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "expired"));
}

#[tokio::test]
async fn bundles_are_sent_only_when_they_have_changed() {
    let running = Running::new(entitled(&["a"], 4), Limits::default()).await;
    let mut client = running.client();
    let bundles = client.fetch_x509_bundles(with_header(X509BundlesRequest {})).await.unwrap();
    let mut bundles = bundles.into_inner();
    let first = bundles.message().await.unwrap().unwrap();
    assert_eq!(first.bundles.get("spiffe://td").unwrap(), &[4, 5]);
    // Another certificate, the same CAs; then other CAs.
    running.set(entitled(&["a", "b"], 4));
    tokio::task::yield_now().await;
    running.set(entitled(&["a", "b"], 7));
    let next = bundles.message().await.unwrap().unwrap();
    assert_eq!(next.bundles.get("spiffe://td").unwrap(), &[7, 5]);
    let jwts = client.fetch_jwt_bundles(with_header(JwtBundlesRequest {})).await.unwrap();
    let first = jwts.into_inner().message().await.unwrap().unwrap();
    assert_eq!(first.bundles.get("spiffe://td").unwrap(), br#"{"keys":[]}"#);
}

#[tokio::test]
async fn calls_need_the_security_header_and_those_of_envoy_do_not() {
    let running = Running::new(entitled(&["a"], 4), Limits::default()).await;
    let mut client = running.client();
    for values in [&[][..], &["True"], &["true", "true"], &[""]] {
        let mut request = Request::new(X509svidRequest {});
        for value in values {
            request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
        }
        let refused = client.fetch_x509svid(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{values:?}");
    }
    let request = DiscoveryRequest { resource_names: vec!["default".into()], ..Default::default() };
    let fetched = running.envoy().fetch_secrets(request).await.unwrap().into_inner();
    assert_eq!((fetched.resources.len(), fetched.version_info.as_str()), (1, ""));
}

#[tokio::test]
async fn jwts_are_for_every_identity_or_the_named_one() {
    let running = Running::new(entitled(&["a"], 4), Limits::default()).await;
    let mut client = running.client();
    let request = |audience: &[&str], spiffe_id: &str| {
        let audience = audience.iter().map(ToString::to_string).collect();
        with_header(JwtsvidRequest { audience, spiffe_id: spiffe_id.into() })
    };
    let both = client.fetch_jwtsvid(request(&["x", "y"], "")).await.unwrap().into_inner();
    let seen: Vec<_> =
        both.svids.iter().map(|svid| (svid.svid.as_str(), svid.hint.as_str())).collect();
    assert_eq!(seen, [("a", "same"), ("b", "")]);
    assert_eq!(*running.source.audiences.lock().unwrap(), ["x", "y"]);
    let one = client.fetch_jwtsvid(request(&["x"], "spiffe://td/b")).await.unwrap().into_inner();
    assert_eq!(one.svids.len(), 1);
    for (audience, id, code) in [
        (&[][..], "", Code::InvalidArgument),
        (&["x", ""], "", Code::InvalidArgument),
        (&["x"], "td/b", Code::InvalidArgument),
        (&["x"], "spiffe://td/c", Code::PermissionDenied),
    ] {
        let refused = client.fetch_jwtsvid(request(audience, id)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{audience:?} {id}");
    }
    let svid = "not.a.token".to_owned();
    let validate = with_header(ValidateJwtsvidRequest { audience: "x".into(), svid });
    assert_eq!(client.validate_jwtsvid(validate).await.unwrap_err().code(), Code::InvalidArgument);
    let wit = client.fetch_witsvid(with_header(WitsvidRequest::default())).await.unwrap_err();
    assert_eq!(wit.code(), Code::Unimplemented);
    let wit = client.fetch_wit_bundles(with_header(WitBundlesRequest {})).await.unwrap_err();
    assert_eq!(wit.code(), Code::Unimplemented);
}

#[tokio::test]
async fn streams_end_with_the_process_and_with_the_server() {
    let mut running = Running::new(entitled(&["a"], 4), Limits::default()).await;
    let mut client = running.client();
    let streams = |mut client: SpiffeWorkloadApiClient<Channel>| async move {
        let stream = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap();
        let mut stream = stream.into_inner();
        stream.message().await.unwrap().unwrap();
        stream
    };
    let mut stream = streams(client.clone()).await;
    drop(running.server.take());
    let end = stream.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    let mut running = Running::new(entitled(&["a"], 4), Limits::default()).await;
    client = running.client();
    let mut stream = streams(client.clone()).await;
    running.end_process.send_replace(true);
    let end = stream.message().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "the process that connected has ended")
    );
    let refused = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().starts_with("workload attestation failed"));
    running.server = None;
}

#[tokio::test]
async fn users_with_too_many_connections_are_refused() {
    let limits = Limits { connections: 8, per_user: 1 };
    let running = Running::new(entitled(&["a"], 4), limits).await;
    let mut first = running.client();
    let stream = first.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap();
    stream.into_inner().message().await.unwrap().unwrap();
    let path = running._directory.path().join("socket");
    let second = UnixStream::connect(&path).await.unwrap();
    let channel = Channel::open(TokioIo::new(second)).await;
    let refused = match channel {
        Err(_) => true,
        Ok(channel) => {
            let mut client = SpiffeWorkloadApiClient::with_origin(channel, Channel::origin());
            client.fetch_x509svid(with_header(X509svidRequest {})).await.is_err()
        }
    };
    assert!(refused);
}

#[tokio::test]
async fn rotation_reaches_a_thousand_streams() {
    const STREAMS: usize = 1000;
    let running = Running::new(entitled(&["a"], 4), Limits::default()).await;
    // A connection takes a hundred calls at a time.
    let mut streams = Vec::new();
    let path = running._directory.path().join("socket");
    for number in 0..STREAMS {
        if number % 100 == 0 {
            let stream = UnixStream::connect(&path).await.unwrap();
            let channel = Channel::open(TokioIo::new(stream)).await.unwrap();
            streams.push((channel, Vec::new()));
        }
        let (channel, streams) = streams.last_mut().unwrap();
        let mut client = SpiffeWorkloadApiClient::with_origin(channel.clone(), Channel::origin());
        let stream = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap();
        let mut stream = stream.into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 1);
        streams.push(stream);
    }
    assert_eq!(running.counts.streams.get(), 1000);
    assert_eq!(running.counts.attested.get(), 1000);
    running.set(entitled(&["a", "b"], 4));
    for stream in streams.iter_mut().flat_map(|(_, streams)| streams) {
        assert_eq!(stream.message().await.unwrap().unwrap().svids.len(), 2);
    }
    running.set(Entitlement::Nothing);
    for stream in streams.iter_mut().flat_map(|(_, streams)| streams) {
        assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    }
}
