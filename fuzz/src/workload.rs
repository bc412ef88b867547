//! The services that workloads call on the agent's socket, without a network and HTTP/2.

use std::sync::Arc;

use agent::attest::cgroup::Systemd;
use agent::attest::{Caller, Refused, Unix};
use agent::credential::jwt::JwtKey;
use agent::credential::svid::{Bundle, JwtSvid, KeyedSvid, X509Svid};
use agent::credential::validity::Validity;
use agent::log::Log;
use agent::workload_api::{
    Answer, Attest, Entitlement, Identities, NotIssued, Source, Subscription, services,
};
use host::log::{Level, LogFormat};
use http_body_util::{BodyExt, Full};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::Request;
use tonic::{Code, Status};
use tower::Service;

/// The public key of JWT-SVIDs: SubjectPublicKeyInfo, DER.
const JWT_KEY: &[u8] = include_bytes!("../fixtures/jwt.spki.der");

/// What the caller has.
pub(crate) const IDS: [&str; 2] = ["spiffe://td/a", "spiffe://td/b"];

/// What came back: the messages, and how the call ended.
pub(crate) struct Answered {
    pub(crate) messages: Vec<Vec<u8>>,
    pub(crate) status: Status,
}

/// An agent, to a workload with two identities.
pub(crate) struct Workload {
    runtime: Runtime,
    source: Arc<Fixed>,
    _stop: watch::Sender<bool>,
    stop: watch::Receiver<bool>,
}

impl Workload {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let (stop, stopping) = watch::channel(false);
        Self {
            runtime: runtime.expect("a runtime"),
            source: Arc::new(Fixed::new()),
            _stop: stop,
            stop: stopping,
        }
    }

    /// Calls a method with these messages and reads what is answered, up to so many messages.
    pub(crate) fn call(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        messages: &[&[u8]],
        most: usize,
    ) -> Answered {
        let mut request = Request::post(path).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let framed = |message: &&[u8]| {
            let length = u32::try_from(message.len()).expect("an input is short");
            [&[0][..], &length.to_be_bytes(), message].concat()
        };
        let body: Vec<u8> = messages.iter().flat_map(framed).collect();
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let source: Arc<dyn Source> = Arc::<Fixed>::clone(&self.source);
        let log = Log::new(LogFormat::default(), Level::Error);
        self.runtime.block_on(async {
            let mut services = services(Process, source, self.stop.clone(), log);
            let response = services.call(request).await.expect("infallible");
            if let Some(status) = Status::from_header_map(response.headers()) {
                return Answered { messages: Vec::new(), status };
            }
            read(response.into_body(), most).await
        })
    }
}

async fn read(mut body: Body, most: usize) -> Answered {
    let mut bytes = Vec::new();
    let mut messages = Vec::new();
    while messages.len() < most {
        let frame = body.frame().await.expect("a status").expect("the body is in memory");
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().expect("data or trailers");
                let status = Status::from_header_map(&trailers).expect("a status");
                return Answered { messages, status };
            }
        }
        while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let Some(message) = rest.get(..length) else { break };
            messages.push(message.to_vec());
            bytes.drain(..5 + length);
        }
    }
    Answered { messages, status: Status::new(Code::Ok, "") }
}

/// A process that does not end.
struct Process;

impl Attest for Process {
    fn attest(&self) -> Answer<'_, Result<Option<Caller>, Refused>> {
        let unix =
            Unix { pid: 1, uid: 2, gid: 3, supplementary_gids: Vec::new(), executable: None };
        let caller = Caller { unix, systemd: Systemd::default(), container: None, pod_uid: None };
        Box::pin(std::future::ready(Ok(Some(caller))))
    }

    fn ended(&self) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn uid(&self) -> Option<u32> {
        Some(2)
    }
}

/// Identities that are always the same.
struct Fixed(watch::Sender<Entitlement>);

const VALIDITY: Validity = Validity { not_before: 0, not_after: i64::MAX };

impl Fixed {
    fn new() -> Self {
        let svid = |id: &str| {
            let svid = X509Svid {
                spiffe_id: id.to_owned(),
                hint: "same".to_owned(),
                certificates: vec![vec![1], vec![2]],
                validity: VALIDITY,
            };
            Arc::new(KeyedSvid { svid, key: vec![3].into() })
        };
        let bundle = Bundle {
            trust_domain: "td".to_owned(),
            x509: vec![vec![4]],
            jwt: vec![JwtKey::new("k1", "ES256", JWT_KEY).expect("a key")],
            sequence: 1,
            refresh_hint: std::time::Duration::from_secs(60),
        };
        let identities = Identities { svids: IDS.map(svid).to_vec(), bundle: Arc::new(bundle) };
        Self(watch::Sender::new(Entitlement::Identities(Arc::new(identities))))
    }
}

impl Source for Fixed {
    fn subscribe(&self, _: Option<&Caller>) -> Subscription {
        self.0.subscribe()
    }

    fn jwt_svids<'a>(
        &'a self,
        _: Option<&'a Caller>,
        audiences: &'a [String],
        spiffe_id: Option<&'a str>,
    ) -> Answer<'a, Result<Vec<JwtSvid>, NotIssued>> {
        let wanted = IDS.into_iter().filter(|id| spiffe_id.is_none_or(|wanted| wanted == *id));
        let svids: Vec<JwtSvid> = wanted
            .map(|id| JwtSvid {
                spiffe_id: id.to_owned(),
                hint: "same".to_owned(),
                token: audiences.concat(),
                validity: VALIDITY,
            })
            .collect();
        let result = if svids.is_empty() { Err(NotIssued::Nothing) } else { Ok(svids) };
        Box::pin(std::future::ready(result))
    }
}
