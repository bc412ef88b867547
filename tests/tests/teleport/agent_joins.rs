//! The agent joins a Teleport cluster: a server in Go that checks what Teleport checks, with the library that it uses.

use std::time::Duration;

use agent::ceremony::authenticated::Denied;
use agent::ceremony::client::Client;
use agent::ceremony::{JoinAttempt, JoinParameters};
use agent::config::{Protocol, Trust};
use agent::credential::identity::Identity;
use agent::tpm::attester::AkAlgorithm;
use agent::tpm::inventory::EkChoice;
use agent::tpm::passwords::Passwords;
use agent::tpm::thread::{Audience, End, Meter, TpmThread};
use anyhow::{Context, Result, ensure};
use host::exit::{Exit, Failure};
use serde_json::Value;
use testkit::bus::command_code;
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use testkit::tap::Tap;
use tests::host::until;
use tests::teleport_peer::{Server, TeleportPeer};
use tpm2::commands::{Command, FlushContext, by_code};

const TTL: Duration = Duration::from_secs(3600);

const BOT: &str = "peer-bot";
const TOKEN: &str = "peer-token";

/// A server of a Teleport cluster.
struct Peer {
    server: Server,
    _scratch: Scratch,
}

impl Peer {
    /// Starts a server whose token allows the TPM with this public EK hash; `None` where there is no Go.
    fn start(ek_hash: &str, arguments: &[&str]) -> Result<Option<Self>> {
        let Some(peer) = TeleportPeer::built()? else { return Ok(None) };
        let scratch = Scratch::new("endorse-peer")?;
        let token = ["--token", TOKEN, "--bot", BOT, "--allow-hash", ek_hash];
        let server = peer.server(scratch.path(), &[&token[..], arguments].concat())?;
        Ok(Some(Self { server, _scratch: scratch }))
    }

    /// All events of this kind so far.
    fn events(&self, kind: &str) -> Result<Vec<Value>> {
        Ok(self.server.events()?.into_iter().filter(|one| one["event"] == kind).collect())
    }

    /// The calls so far, in their order, by the last part of their names.
    fn calls(&self) -> Result<Vec<String>> {
        let calls = self.events("rpc")?;
        let name = |call: &Value| {
            let method = call["method"].as_str().context("no method")?;
            Ok(method.rsplit('/').next().unwrap_or_default().to_owned())
        };
        calls.iter().map(name).collect()
    }

    /// Waits until exactly these methods were called: the server writes about a call after its end.
    fn has_been_called(&self, expected: &[&str]) -> Result<()> {
        until(|| {
            let calls = self.calls()?;
            ensure!(calls == expected, "{calls:?}");
            Ok(())
        })
    }
}

/// A host with a TPM whose commands are recorded.
struct Host {
    swtpm: Swtpm,
    tap: Tap,
    ek_hash: String,
}

impl Host {
    fn new(kind: Kind) -> Result<Self> {
        let swtpm = Factory::shared().tpm(Maker::Vendor, kind)?.start()?;
        let mut tpm = tests::tpm::client(&swtpm)?;
        let reports = agent::tpm::inventory::report_all(&mut tpm, &Passwords::default())?;
        let report = reports.first().context("no endorsement key")?;
        let report = serde_json::to_value(report)?;
        let ek_hash = report["ek_public_hash"].as_str().context("no hash")?.to_owned();
        tpm.flush_all()?;
        drop(tpm);
        let tap = Tap::new(&swtpm)?;
        Ok(Self { swtpm, tap, ek_hash })
    }

    async fn open(&self) -> Result<(TpmThread, End)> {
        let address = self.tap.tcti().parse()?;
        Ok(TpmThread::open_async(&address, Meter::default(), Audience::Person).await?)
    }

    /// The commands since `past`, without flushes.
    fn commands(&self, past: usize) -> Vec<&'static str> {
        let exchanges = self.tap.recording().exchanges().split_off(past);
        let codes = exchanges.iter().map(|exchange| command_code(&exchange.command));
        let codes = codes.filter(|code| *code != FlushContext::INFO.code);
        codes.filter_map(by_code).map(|info| info.name.trim_start_matches("TPM2_")).collect()
    }

    fn past(&self) -> usize {
        self.tap.recording().exchanges().len()
    }

    async fn join(&self, client: &Client, stored: Option<&Identity>) -> Result<Identity, Failure> {
        let (tpm, end) = self.open().await.map_err(Failure::bug)?;
        let joined = client.join(&tpm, wanted(client, stored)).await;
        end.close().await;
        joined
    }

    async fn rejoin(&self, client: &Client, identity: &Identity) -> Result<Identity, Denied> {
        let (tpm, end) = self.open().await.map_err(Failure::bug)?;
        let wanted = wanted(client, Some(identity));
        let renewed = client.rejoin(&tpm, identity, wanted).await;
        end.close().await;
        renewed
    }
}

fn wanted(client: &Client, stored: Option<&Identity>) -> JoinParameters {
    JoinParameters {
        token: TOKEN.into(),
        choice: EkChoice::Auto,
        known: stored.map(|identity| identity.known_ek().expect("an endorsement key")),
        passwords: Passwords::default(),
        ttl: TTL,
        protocol: client.protocol(stored),
        attestation_key: stored.map(Identity::attestation_key).unwrap_or_default(),
        attempt: JoinAttempt::new().expect("random numbers"),
    }
}

fn by_pin(peer: &Peer) -> Result<Client> {
    let trust = Trust::Pins(vec![peer.server.start("ca_pin").parse()?]);
    Ok(Client::new(vec![peer.server.start("auth_addr").to_owned()], &trust)?)
}

/// Nothing is configured but a pin: the server is found to be Teleport's, and the newest service is used with an ECC key. The
/// TPM commands are listed here for each of the three ways to join; go-attestation needs 14 at the least.
#[tokio::test(flavor = "multi_thread")]
async fn host_joins_and_renews_by_the_newest_service() -> Result<()> {
    let host = Host::new(Kind::RsaAndP384)?;
    let Some(peer) = Peer::start(&host.ek_hash, &[])? else { return Ok(()) };
    let before = host.swtpm.handles()?;
    let client = by_pin(&peer)?;

    let past = host.past();
    let joined = host.join(&client, None).await?;
    let [read, start, create] = ["NV_Read", "StartAuthSession", "CreatePrimary"];
    let [certify, policy, activate] = ["CertifyCreation", "PolicySecret", "ActivateCredential"];
    let first = [read, read, start, create, certify, create, policy, activate];
    assert_eq!(host.commands(past), first);
    assert_eq!(host.swtpm.handles()?, before, "left behind");
    assert_eq!(
        (joined.protocol, joined.attestation_key()),
        (Protocol::Teleport, AkAlgorithm::P256)
    );
    assert_eq!((joined.bot.as_str(), joined.generation), (BOT, 1));
    assert_eq!((joined.cluster.as_str(), joined.spiffe_id.as_ref()), ("example.test", None));
    peer.has_been_called(&["GetClusterCACert", "WhoAmI", "Join"])?;

    let past = host.past();
    let other = host.join(&client, Some(&joined)).await?;
    assert_eq!(host.commands(past), [start, create, certify, create, policy, activate]);
    assert_eq!(host.swtpm.handles()?, before, "left behind");
    assert_ne!(other.instance, joined.instance);

    let past = host.past();
    let renewed = host.rejoin(&client, &joined).await.map_err(Failure::from)?;
    assert_eq!(host.commands(past), [start, create, certify, create, policy, "Sign", activate]);
    assert_eq!(host.swtpm.handles()?, before, "left behind");
    assert_eq!((&renewed.instance, renewed.generation), (&joined.instance, 2));
    assert_eq!(renewed.join_key(), joined.join_key(), "the key stays in the TPM");
    let again = host.rejoin(&client, &renewed).await.map_err(Failure::from)?;
    assert_eq!((&again.instance, again.generation), (&joined.instance, 3));
    let calls = peer.events("rpc")?;
    let last = calls.last().context("no call")?;
    assert_eq!(last["client_certificate"], true);
    assert_eq!(last["sni"], "6578616d706c652e74657374.teleport.cluster.local");

    // What was stored says how to join again; a server that says otherwise is not asked.
    let stored =
        Identity::from_json(&serde_json::to_string(&again)?).map_err(anyhow::Error::msg)?;
    assert_eq!(client.protocol(Some(&stored)), Some(Protocol::Teleport));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn older_service_is_used_where_the_newer_one_is_missing() -> Result<()> {
    let host = Host::new(Kind::RsaAndP384)?;
    let Some(peer) = Peer::start(&host.ek_hash, &["--new", "off"])? else { return Ok(()) };
    let trust = Trust::CaPath(peer.server.start("host_ca_file").into());
    let client = Client::new(vec![peer.server.start("auth_addr").to_owned()], &trust)?;
    let past = host.past();
    let joined = host.join(&client, None).await?;
    assert_eq!(host.commands(past).len(), 8, "the keys are created once for both services");
    peer.has_been_called(&["WhoAmI", "Join", "RegisterUsingTPMMethod"])?;
    let renewed = host.rejoin(&client, &joined).await.map_err(Failure::from)?;
    assert_eq!((&renewed.instance, renewed.generation), (&joined.instance, 2));
    Ok(())
}

/// Servers with the library of 2025 verify RSA only. The next join knows it.
#[tokio::test(flavor = "multi_thread")]
async fn rsa_attestation_key_is_created_only_for_a_server_that_takes_no_other() -> Result<()> {
    for arguments in [&["--require-ak", "rsa"][..], &["--require-ak", "rsa", "--new", "off"]] {
        let host = Host::new(Kind::P256)?;
        let Some(peer) = Peer::start(&host.ek_hash, arguments)? else { return Ok(()) };
        let before = host.swtpm.handles()?;
        let client = by_pin(&peer)?;
        let joined = host.join(&client, None).await?;
        assert_eq!(joined.attestation_key(), AkAlgorithm::Rsa2048);
        assert_eq!(host.swtpm.handles()?, before, "left behind");
        let past = host.past();
        let again = host.join(&client, Some(&joined)).await?;
        assert_eq!(again.attestation_key(), AkAlgorithm::Rsa2048);
        assert_eq!(host.commands(past).len(), 6, "{:?}", host.commands(past));
        let past = host.past();
        host.rejoin(&client, &again).await.map_err(Failure::from)?;
        assert_eq!(host.commands(past).len(), 7, "{:?}", host.commands(past));
    }
    Ok(())
}

/// A server that trusts another manufacturer refuses keys of any algorithm.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_the_certificate_of_the_ek_makes_no_attestation_key_on_rsa() -> Result<()> {
    let host = Host::new(Kind::RsaAndP384)?;
    let scratch = Scratch::new("endorse-ca")?;
    let file = scratch.path().join("ca.pem");
    let other = Factory::shared().tpm(Maker::Namesake, Kind::RsaAndP384)?;
    std::fs::write(&file, other.ca().issuer_pem())?;
    let arguments = ["--ek-ca", file.to_str().context("a path")?];
    let Some(peer) = Peer::start(&host.ek_hash, &arguments)? else { return Ok(()) };
    let client = by_pin(&peer)?;
    for _ in 0..2 {
        let past = host.past();
        let failure = host.join(&client, None).await.unwrap_err();
        assert!(failure.message.contains("validating TPM"), "{failure:?}");
        let commands = host.commands(past);
        let creations = commands.iter().filter(|name| **name == "CreatePrimary").count();
        assert_eq!(creations, 2, "{commands:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_server_are_reported_with_advice() -> Result<()> {
    let host = Host::new(Kind::P256)?;
    for (hash, arguments, said, advice) in [
        (host.ek_hash.as_str(), &["--enterprise", "off"][..], "Enterprise", "Enterprise"),
        ("00", &[], "did not match any allow rules", "agent identify"),
    ] {
        for service in [&["--new", "on"][..], &["--new", "off"]] {
            let arguments = [arguments, service].concat();
            let Some(peer) = Peer::start(hash, &arguments)? else { return Ok(()) };
            let failure = host.join(&by_pin(&peer)?, None).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Refused, "{failure:?}");
            assert!(failure.message.contains(said), "{failure:?}");
            assert!(failure.advice.contains(advice), "{failure:?}");
        }
    }
    Ok(())
}

const NEW: &[&str] = &["--new", "on", "--legacy", "unimplemented"];
const LEGACY: &[&str] = &["--new", "off"];

/// A join by a server that lies, by one service.
async fn join_liar(
    host: &Host,
    lie: &str,
    service: &[&str],
) -> Result<Option<Result<Identity, Failure>>> {
    let arguments = [&["--server-lie", lie], service].concat();
    let Some(peer) = Peer::start(&host.ek_hash, &arguments)? else { return Ok(None) };
    let before = host.swtpm.handles()?;
    let joined = host.join(&by_pin(&peer)?, None).await;
    ensure!(host.swtpm.handles()? == before, "{lie}: left behind");
    Ok(Some(joined))
}

/// The lies of a server, and how each is reported.
#[tokio::test(flavor = "multi_thread")]
async fn lying_server_is_refused() -> Result<()> {
    let host = Host::new(Kind::P256)?;
    for (lie, said) in [
        ("other-pin", "which is not pinned"),
        ("server-certificate-of-other-ca", "no trusted CA has issued"),
        ("server-certificate-expired", "has expired"),
        ("server-certificate-for-other-name", "name"),
        ("challenge-for-other-key", "another TPM or another key"),
        ("corrupt-challenge", "another TPM or another key"),
        ("challenge-without-length", "a malformed challenge"),
        ("empty-challenge", "challenge"),
        ("oversized-challenge", ""),
        ("second-challenge", "something else than"),
        ("more-messages", "another message"),
        ("result-before-challenge", "something else than"),
        ("no-certificates", "certificate"),
        ("no-ca-certificates", "no X.509 CA"),
        ("oversized-certificates", ""),
        ("ssh-key-for-certificate", "SSH certificate"),
        ("tls-certificate-for-other-key", "a certificate for another key"),
        ("ssh-certificate-for-other-key", "an SSH certificate for another key"),
        ("no-principals", "without principals"),
        ("empty-principal", "without principals"),
        ("expired-certificates", "expired"),
        ("other-ca", "UnknownIssuer"),
        ("issuer-without-organization", "name"),
        ("malformed-generation", "generation"),
    ] {
        for service in [NEW, LEGACY] {
            let Some(joined) = join_liar(&host, lie, service).await? else { return Ok(()) };
            let failure = joined.err().with_context(|| format!("{lie} {service:?}: joined"))?;
            ensure!(failure.exit != Exit::Bug, "{lie}: {failure:?}");
            ensure!(failure.message.contains(said), "{lie} {service:?}: {failure:?}");
        }
    }
    for (lie, said) in [
        ("result-before-init", "something else than its parameters"),
        ("other-method", "another join method"),
    ] {
        let Some(joined) = join_liar(&host, lie, NEW).await? else { return Ok(()) };
        let failure = joined.err().with_context(|| format!("{lie}: joined"))?;
        ensure!(failure.message.contains(said), "{lie}: {failure:?}");
    }
    Ok(())
}

/// What agents of Teleport need of a certificate, and this one does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_does_not_use_may_be_wrong() -> Result<()> {
    let host = Host::new(Kind::P256)?;
    for lie in ["unknown-suite", "no-roles", "malformed-traits", "malformed-join-attributes"] {
        for service in [NEW, LEGACY] {
            let Some(joined) = join_liar(&host, lie, service).await? else { return Ok(()) };
            joined.with_context(|| format!("{lie} {service:?}"))?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn renewal_for_another_instance_is_refused() -> Result<()> {
    let host = Host::new(Kind::P256)?;
    let lie = ["--server-lie", "new-instance-at-rejoin"];
    let Some(peer) = Peer::start(&host.ek_hash, &lie)? else { return Ok(()) };
    let client = by_pin(&peer)?;
    let joined = host.join(&client, None).await?;
    let denied = host.rejoin(&client, &joined).await.unwrap_err();
    assert!(Failure::from(denied).message.contains("renewed a different identity"));
    Ok(())
}

/// A cluster whose name is too long for a server name is asked for by the name that all servers have.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_is_renewed_whatever_the_length_of_its_name() -> Result<()> {
    const ANY: &str = "teleport.cluster.local";
    let host = Host::new(Kind::P256)?;
    for (length, sni) in
        [(31, format!("{}.{ANY}", "63".repeat(31))), (32, ANY.into()), (200, ANY.into())]
    {
        let name = "c".repeat(length);
        let Some(peer) = Peer::start(&host.ek_hash, &["--cluster", &name])? else { return Ok(()) };
        let client = by_pin(&peer)?;
        let joined = host.join(&client, None).await?;
        assert_eq!(joined.cluster, name);
        let renewed = host.rejoin(&client, &joined).await.map_err(Failure::from)?;
        assert_eq!((&renewed.instance, renewed.generation), (&joined.instance, 2));
        until(|| {
            let calls = peer.events("rpc")?;
            let last = calls.last().context("no call")?;
            ensure!(last["client_certificate"] == true && last["sni"] == *sni, "{calls:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// A connection that fails leads to the older service, and a server that fails later to another attempt some time.
#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_is_no_decision() -> Result<()> {
    let host = Host::new(Kind::P256)?;
    for at in ["init:close", "init:unavailable", "server-init:close"] {
        let Some(peer) = Peer::start(&host.ek_hash, &["--fail-at", at])? else { return Ok(()) };
        let joined = host.join(&by_pin(&peer)?, None).await;
        if let Err(failure) = &joined {
            assert_eq!(failure.exit, Exit::Unavailable, "{at}: {failure:?}");
        }
        // The server writes about a call after its end.
        until(|| {
            let calls = peer.calls()?;
            ensure!(calls.contains(&"RegisterUsingTPMMethod".to_owned()), "{at}: {calls:?}");
            Ok(())
        })?;
    }
    for at in ["challenge:close", "certs:close"] {
        let Some(peer) = Peer::start(&host.ek_hash, &["--fail-at", at])? else { return Ok(()) };
        let failure = host.join(&by_pin(&peer)?, None).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable, "{at}: {failure:?}");
    }
    Ok(())
}

/// A certificate of another cluster's bot, or none at all, opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn identity_that_the_server_does_not_know_leads_to_a_new_join() -> Result<()> {
    let host = Host::new(Kind::P256)?;
    let Some(one) = Peer::start(&host.ek_hash, &[])? else { return Ok(()) };
    let Some(other) = Peer::start(&host.ek_hash, &[])? else { return Ok(()) };
    let joined = host.join(&by_pin(&one)?, None).await?;
    let mut json: Value = serde_json::to_value(&joined)?;
    let elsewhere: Value = serde_json::to_value(host.join(&by_pin(&other)?, None).await?)?;
    // The host trusts the other cluster, but shows it the identity of this one.
    json["x509_authorities"] = elsewhere["x509_authorities"].clone();
    let confused = Identity::from_json(&json.to_string()).map_err(anyhow::Error::msg)?;
    let denied = host.rejoin(&by_pin(&other)?, &confused).await.unwrap_err();
    assert!(matches!(denied, Denied::IdentityGone(_)), "{denied:?}");
    Ok(())
}
