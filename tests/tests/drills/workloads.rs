//! Workloads that hold streams of the Workload API open, while something happens to their agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64ct::{Base64UrlUnpadded, Encoding};
use proto::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use proto::spiffe::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, X509svidRequest,
    X509svidResponse,
};
use serde_json::Value;
use testkit::swtpm::Swtpm;
use tests::host::{Host, until};
use tests::programs;
use tests::tpm::Busy;
use tests::world::{BOT, CLUSTER, TIMEOUT, World};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use x509_cert::Certificate;
use x509_cert::der::{Decode, SliceReader};

use super::disk::{fill, on_a_small_disk};
use super::switched_on;

const HOURS: Duration = Duration::from_secs(10 * 3600);

/// The service, whose identities are valid for so long.
fn service(socket: &Path, ttl: &str) -> String {
    let socket = socket.display();
    format!(
        "  - type: workload-identity-api\n    name: api\n    listen: unix://{socket}\n    credential_ttl: {ttl}\n"
    )
}

/// A host in this world, and a workload that has called its agent.
fn served(swtpm: &Swtpm, world: World, ttl: &str) -> Result<(Host, Workload)> {
    let mut host = Host::new(world, &swtpm.tcti())?;
    let socket = host.path("workload.sock");
    host.configure(&service(&socket, ttl))?;
    host.start()?;
    host.wait_healthy()?;
    let workload = Workload::new(socket)?;
    until(|| workload.svid())?;
    Ok((host, workload))
}

/// A program that uses the Workload API.
struct Workload {
    socket: PathBuf,
    runtime: Runtime,
}

type Client = SpiffeWorkloadApiClient<Channel>;

impl Workload {
    fn new(socket: PathBuf) -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build()?;
        Ok(Self { socket, runtime })
    }

    /// On a connection of its own.
    async fn client(&self) -> Result<Client, Status> {
        let failed = |error| Status::unavailable(format!("no connection: {error}"));
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display()));
        let channel = endpoint.map_err(failed)?.connect().await.map_err(failed)?;
        Ok(SpiffeWorkloadApiClient::new(channel))
    }

    fn x509(&self) -> Result<Streaming<X509svidResponse>, Status> {
        self.runtime.block_on(async {
            Ok(self
                .client()
                .await?
                .fetch_x509svid(with_header(X509svidRequest {}))
                .await?
                .into_inner())
        })
    }

    fn jwt_bundles(&self) -> Result<Streaming<JwtBundlesResponse>, Status> {
        self.runtime.block_on(async {
            let request = with_header(JwtBundlesRequest {});
            Ok(self.client().await?.fetch_jwt_bundles(request).await?.into_inner())
        })
    }

    /// The next message of a stream; one that ends with success is an error.
    fn next<M>(&self, stream: &mut Streaming<M>) -> Result<M, Status> {
        self.runtime.block_on(async {
            match tokio::time::timeout(TIMEOUT, stream.message()).await {
                Ok(Ok(Some(message))) => Ok(message),
                Ok(Ok(None)) => Err(Status::ok("the stream ended with success")),
                Ok(Err(status)) => Err(status),
                Err(_) => Err(Status::deadline_exceeded("no message")),
            }
        })
    }

    /// How a stream ends.
    fn end<M>(&self, stream: &mut Streaming<M>) -> Status {
        loop {
            if let Err(status) = self.next(stream) {
                return status;
            }
        }
    }

    /// The certificate that a new caller gets.
    fn svid(&self) -> Result<Certificate> {
        let message = self.x509().and_then(|mut stream| self.next(&mut stream));
        certificate(&message.map_err(|status| anyhow::anyhow!("{status}"))?)
    }

    /// JWTs for an audience.
    fn jwts(&self) -> Result<Vec<Jwtsvid>, Status> {
        self.runtime.block_on(async {
            let request = JwtsvidRequest { audience: vec!["a".into()], spiffe_id: String::new() };
            let mut client = self.client().await?;
            let answer = client.fetch_jwtsvid(with_header(request));
            let late = |_| Status::deadline_exceeded("no answer");
            let answer = tokio::time::timeout(TIMEOUT, answer).await.map_err(late)?;
            Ok(answer?.into_inner().svids)
        })
    }

    /// A JWT for that audience.
    fn jwt(&self) -> Result<String> {
        Ok(self.jwts()?.into_iter().next().context("no JWT")?.svid)
    }

    /// Why a new caller gets nothing.
    fn refusal(&self) -> Result<Status> {
        match self.x509().and_then(|mut stream| self.next(&mut stream)) {
            Ok(_) => anyhow::bail!("there is an identity"),
            Err(status) => Ok(status),
        }
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = tonic::metadata::MetadataValue::from_static("true");
    request.metadata_mut().insert("workload.spiffe.io", value);
    request
}

/// The certificate of a message that is whole.
fn certificate(message: &X509svidResponse) -> Result<Certificate> {
    let [svid] = &message.svids[..] else { anyhow::bail!("not one identity: {message:?}") };
    ensure!(svid.spiffe_id == format!("spiffe://{CLUSTER}/bot/{BOT}"), "{}", svid.spiffe_id);
    ensure!(!svid.x509_svid_key.is_empty() && !svid.bundle.is_empty(), "half of an identity");
    Ok(Certificate::decode(&mut SliceReader::new(&svid.x509_svid)?)?)
}

fn ends(certificate: &Certificate) -> Duration {
    certificate.tbs_certificate().validity().not_after.to_unix_duration()
}

#[test]
fn workloads_are_without_identity_while_the_authority_is_away_past_expiry() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, workload) = served(&swtpm, World::new(programs!())?, "16s")?;
    let mut stream = workload.x509()?;
    workload.next(&mut stream)?;
    host.world.stop()?;
    let end = workload.end(&mut stream);
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    let refused = workload.refusal()?;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    host.until_logged("WARN  no identities for workloads name=api", 1)?;
    host.world.start(&[])?;
    // The agent's own renewal shows that the authority is there again.
    host.signal("USR1")?;
    until(|| workload.svid())?;
    Ok(())
}

#[test]
fn workloads_of_an_agent_that_has_not_joined_are_told_to_come_back() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let socket = host.path("workload.sock");
    host.configure(&service(&socket, "1h"))?;
    host.world.stop()?;
    host.start()?;
    let workload = Workload::new(socket)?;
    until(|| {
        ensure!(workload.socket.exists(), "no socket: {}", host.log());
        Ok(())
    })?;
    let refused = workload.refusal()?;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    host.world.start(&[])?;
    host.signal("USR1")?;
    until(|| workload.svid())?;
    Ok(())
}

/// To a process, sleep is that it does not run while time passes.
#[test]
fn identities_that_expired_during_sleep_are_not_handed_out() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, workload) = served(&swtpm, World::with_clocks(programs!())?, "1h")?;
    let before = workload.svid()?;
    let mut stream = workload.x509()?;
    workload.next(&mut stream)?;
    host.signal("STOP")?;
    host.world.pass(HOURS)?;
    host.signal("CONT")?;
    let after = until(|| workload.svid())?;
    ensure!(ends(&after) > ends(&before) + HOURS / 2, "a new caller gets what has expired");
    match workload.next(&mut stream) {
        Ok(message) => ensure!(ends(&certificate(&message)?) > ends(&before)),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
    }
    Ok(())
}

#[test]
fn identities_expire_while_the_tpm_does_not_answer() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, workload) = served(&swtpm, World::with_clocks(programs!())?, "10h")?;
    let mut stream = workload.x509()?;
    workload.next(&mut stream)?;
    let busy = Busy::new(&swtpm)?;
    // Time to renew. The agent's own certificate has expired, so that a new connection needs the TPM.
    host.world.pass(HOURS * 6 / 10)?;
    let refused = workload.jwts().err().context("a JWT without the TPM")?;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    host.world.pass(HOURS * 6 / 10)?;
    let end = workload.end(&mut stream);
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    let refused = workload.refusal()?;
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    drop(busy);
    until(|| workload.svid())?;
    Ok(())
}

#[test]
fn trust_bundle_that_changes_reaches_open_streams() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, workload) = served(&swtpm, World::new(programs!())?, "16s")?;
    // Identities are renewed as long as they are watched, and the bundle comes with them.
    let mut watched = workload.x509()?;
    workload.next(&mut watched)?;
    let mut stream = workload.jwt_bundles()?;
    let keys = |message: &JwtBundlesResponse| {
        let bundle = message.bundles.get(&format!("spiffe://{CLUSTER}"));
        let bundle: Value = serde_json::from_slice(bundle.context("no own trust domain")?)?;
        Ok::<_, anyhow::Error>(bundle["keys"].as_array().context("no keys")?.clone())
    };
    let before = keys(&workload.next(&mut stream)?)?;
    assert_eq!(before.len(), 1, "{before:?}");
    host.world.stop()?;
    // A new key is published before it signs.
    fs::write(host.world.path("authority.yaml"), "jwt: {algorithm: RS256}\n")?;
    host.world.start(&["--config", "authority.yaml"])?;
    let after = keys(&workload.next(&mut stream)?)?;
    ensure!(after.len() == 2 && before.iter().all(|key| after.contains(key)), "{after:?}");
    Ok(())
}

#[test]
fn workload_that_matches_no_rule_is_logged_and_counted() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    let socket = host.path("workload.sock");
    host.configure(&format!("{}    rules: [{{unix: {{pid: 1}}}}]\n", service(&socket, "1h")))?;
    host.start()?;
    host.wait_healthy()?;
    let workload = Workload::new(socket)?;
    let refused = workload.refusal()?;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = workload.jwts().err().context("a JWT for a stranger")?;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(host.metric("agent_workload_unmatched_total{name=\"api\"}")?, 2.0);
    host.until_logged("INFO  refused a workload name=api uid=", 1)?;
    host.until_logged("reason=\"it matches none of the rules\"", 1)
}

/// It is good for whoever has seen it, so that it lives shorter than certificates.
#[test]
fn jwt_lives_for_minutes_however_long_certificates_do() -> Result<()> {
    let swtpm = switched_on()?;
    let (_host, workload) = served(&swtpm, World::new(programs!())?, "10h")?;
    let token = workload.jwt()?;
    let payload = token.split('.').nth(1).context("no payload")?;
    let claims: Value = serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload)?)?;
    let [issued, expires] = ["iat", "exp"].map(|name| claims[name].as_i64());
    assert_eq!(expires.context("no exp")? - issued.context("no iat")?, 300, "{claims}");
    Ok(())
}

#[test]
fn operator_who_asks_to_renew_renews_what_workloads_watch() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, workload) = served(&swtpm, World::new(programs!())?, "1h")?;
    let mut stream = workload.x509()?;
    let first = certificate(&workload.next(&mut stream)?)?;
    host.signal("USR1")?;
    let renewed = certificate(&workload.next(&mut stream)?)?;
    let serial = |certificate: &Certificate| certificate.tbs_certificate().serial_number().clone();
    ensure!(serial(&first) != serial(&renewed), "the same certificate again");
    Ok(())
}

/// The socket stays open, and so nobody reports it again.
#[test]
fn configuration_that_is_read_again_leaves_socket_and_health_as_they_are() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, workload) = served(&swtpm, World::new(programs!())?, "1h")?;
    for times in 1..=2 {
        host.signal("HUP")?;
        host.until_logged("INFO  the configuration is in effect", times)?;
        host.wait_healthy()?;
    }
    workload.svid()?;
    ensure!(host.count("INFO  serving workloads name=api") == 1, "{}", host.log());
    Ok(())
}

#[test]
fn socket_that_is_removed_is_made_again() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, workload) = served(&swtpm, World::new(programs!())?, "1h")?;
    let mut stream = workload.x509()?;
    workload.next(&mut stream)?;
    fs::remove_file(&workload.socket)?;
    host.until_logged("INFO  serving workloads name=api", 2)?;
    until(|| workload.svid())?;
    let end = workload.end(&mut stream);
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    host.wait_healthy()
}

#[test]
fn agent_that_is_killed_leaves_a_socket_that_the_next_one_replaces() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, workload) = served(&swtpm, World::new(programs!())?, "1h")?;
    let mut stream = workload.x509()?;
    workload.next(&mut stream)?;
    host.signal("KILL")?;
    host.ended()?;
    ensure!(workload.socket.exists(), "nobody has removed it");
    assert_ne!(workload.end(&mut stream).code(), Code::Ok);
    host.start()?;
    until(|| workload.svid())?;
    host.wait_healthy()
}

#[test]
fn full_disk_holds_up_no_workload() -> Result<()> {
    let swtpm = switched_on()?;
    let socket = |world: &World| world.path("workload.sock");
    let prepared = on_a_small_disk(&swtpm, |world| service(&socket(world), "16s"))?;
    let Some((host, _)) = prepared else { return Ok(()) };
    let workload = Workload::new(socket(&host.world))?;
    until(|| workload.svid())?;
    fill(&host)?;
    let mut stream = workload.x509()?;
    let first = certificate(&workload.next(&mut stream)?)?;
    let renewed = certificate(&workload.next(&mut stream)?)?;
    ensure!(ends(&renewed) > ends(&first), "not renewed");
    workload.svid().map(drop)
}
