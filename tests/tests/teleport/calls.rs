//! The peer's client with the authority: it joins, joins again, and makes the calls of a running `tbot` with an `identity` service,
//! whose `ssh_config` asks the public name over HTTPS.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::teleport_peer::{TeleportPeer, tpm_address};
use tests::world::{BOT, World, run};

/// The calls of an identity service, in the order in which the client makes them.
const CALLS: [&str; 8] = [
    "/proto.AuthService/GetRole",
    "/teleport.clusterconfig.v1.ClusterConfigService/GetAuthPreference",
    "/proto.AuthService/GenerateUserCerts",
    "/proto.AuthService/GetClusterCACert",
    "/teleport.trust.v1.TrustService/GetCertAuthorities",
    "/teleport.presence.v1.PresenceService/ListRemoteClusters",
    "/webapi/find",
    "/teleport.trust.v1.TrustService/GetCertAuthority",
];

/// An authority with a public name, and a host whose TPM may join.
struct Scene {
    world: World,
    peer: TeleportPeer,
    _swtpm: Swtpm,
    tpm: String,
}

impl Scene {
    fn new(roles: &str) -> Result<Option<Self>> {
        let Some(peer) = TeleportPeer::built()? else { return Ok(None) };
        let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
        let tpm = tpm_address(&swtpm);
        let mut world = World::absent(programs!())?;
        let file = |name: &str| world.path(name).display().to_string();
        let (certificate, key) = (file("public.pem"), file("public.key"));
        let options = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=public \
                       -addext subjectAltName=DNS:localhost -out";
        let options = options.split_whitespace().chain([&*certificate, "-keyout", &key]);
        run("openssl", &options.collect::<Vec<_>>())?;
        let config = file("authority.yaml");
        let keypair = format!("{{cert_file: {certificate}, key_file: {key}}}");
        fs::write(&config, format!("public_addr: localhost\nhttps_keypairs: [{keypair}]\n"))?;
        world.start(&["-c", &config])?;
        world.create(&format!(
            "kind: bot\nversion: v1\nmetadata:\n  name: {BOT}\nspec:\n  roles: {roles}\n"
        ))?;
        let identified = peer.identify(&tpm)?;
        let hash = identified["ek_public_hash"].as_str().context("no hash")?;
        world.allow("t", &format!("- ek_public_hash: {hash}"), &[])?;
        Ok(Some(Self { world, peer, _swtpm: swtpm, tpm }))
    }

    /// What the client reports that connects in this way.
    fn client(&self, way: &[&str]) -> Result<Value> {
        let host = ["--token", "t", "--tpm", &self.tpm, "--rejoin", "1", "--outputs", "identity"];
        let directory = self.world.path("tbot").display().to_string();
        let arguments = [&host[..], &["--dir", &directory], way].concat();
        self.peer.client_trusting(&self.world.path("public.pem"), &arguments)
    }
}

/// Whether the report has each call, and all ended well.
fn check(report: &Value) -> Result<()> {
    ensure!(report["ok"] == true, "{report:#}");
    let events = report["events"].as_array().context("no events")?;
    for call in CALLS {
        let made = events.iter().filter(|event| event["name"] == call);
        let codes: Vec<_> = made.filter_map(|event| event["code"].as_str()).collect();
        ensure!(!codes.is_empty(), "{call} is missing: {report:#}");
        ensure!(codes.iter().all(|code| ["OK", "200 OK"].contains(code)), "{call}: {codes:?}");
    }
    Ok(())
}

#[test]
fn every_generation_with_auth_server_gets_its_identity_service() -> Result<()> {
    let Some(scene) = Scene::new("[access, dev]")? else { return Ok(()) };
    let (address, pin) = (scene.world.address(), scene.world.pin());
    for generation in ["a", "b", "c"] {
        let way = ["--generation", generation, "--auth-server", address, "--ca-pin", pin];
        check(&scene.client(&way)?)?;
    }
    let instances = scene.world.authority(&["bots", "instances", "--format", "json"])?.success()?;
    let instances: Value = serde_json::from_str(&instances)?;
    let instances = instances.as_array().context("no list")?;
    ensure!(instances.len() == 3, "{instances:#?}");
    for instance in instances {
        let status = &instance["status"];
        ensure!(status["generation"] == 2, "{instance:#}");
        ensure!(status["heartbeat"]["os"] == "linux", "{instance:#}");
        ensure!(status["services"]["tbot"]["certificate_serial"].is_string(), "{instance:#}");
    }
    Ok(())
}

#[test]
fn first_generation_with_proxy_server_gets_its_identity_service() -> Result<()> {
    let Some(scene) = Scene::new("[]")? else { return Ok(()) };
    let (_, port) = scene.world.address().rsplit_once(':').context("no port")?;
    let proxy = format!("localhost:{port}");
    check(&scene.client(&["--generation", "a", "--proxy-server", &proxy])?)?;
    // Later ones join, and then want an SSH tunnel.
    let report = scene.client(&["--generation", "b", "--proxy-server", &proxy])?;
    ensure!(report["ok"] == false, "{report:#}");
    let events = report["events"].as_array().context("no events")?;
    let failed: Vec<_> = events.iter().filter(|event| event["kind"] == "tunnel").collect();
    ensure!(!failed.is_empty(), "{report:#}");
    ensure!(report["joins"].as_array().is_some_and(|joins| !joins.is_empty()), "{report:#}");
    Ok(())
}
