//! A host of a Teleport cluster, whose agent runs as a daemon; and its renewals.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::child::{Guarded, Scratch};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::host::until;
use tests::programs;
use tests::teleport_peer::{Server, TeleportPeer};
use tests::world::{TIMEOUT, World, run};

const JOIN: &str = "/teleport.join.v1.JoinService/Join";

/// Which server is configured, and what vouches for it.
pub(super) enum Way<'a> {
    /// A Proxy, whose public name these CAs vouch for.
    Proxy { address: &'a str, roots: &'a Path },
    /// An Auth Service of a cluster with this CA.
    Auth { address: &'a str, pin: &'a str },
}

/// The agent as a daemon.
pub(super) struct Daemon {
    world: World,
    /// Ends with it.
    process: Guarded,
}

impl Daemon {
    /// Starts the agent, with nothing in its configuration but where to join.
    pub(super) fn start(tpm: &Swtpm, way: &Way<'_>) -> Result<Self> {
        let world = World::absent(programs!())?;
        let (server, pins, roots) = match way {
            Way::Proxy { address, roots } => {
                (format!("proxy_server: {address}"), String::new(), *roots)
            }
            Way::Auth { address, pin } => {
                let pins = format!("  ca_pins: [\"{pin}\"]\n");
                (format!("auth_server: {address}"), pins, Path::new("/dev/null"))
            }
        };
        let config = format!(
            "version: v2\n{server}\nonboarding:\n  join_method: tpm\n  token: t\n{pins}\
             storage: {}\ntpm:\n  address: {}\n",
            world.path("bot").display(),
            tpm.tcti()
        );
        fs::write(world.path("tbot.yaml"), config)?;
        let mut command = world.agent_command(&["start", "-c", "tbot.yaml"]);
        command.env("SSL_CERT_FILE", roots).stderr(File::create(world.path("agent.log"))?);
        let process = Guarded::spawn(&mut command, None)?;
        Ok(Self { world, process })
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.world.path("agent.log"))?)
    }

    pub(super) fn until_logged(&mut self, words: &str) -> Result<()> {
        self.until_logged_times(words, 1)
    }

    fn until_logged_times(&mut self, words: &str, times: usize) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let log = self.log()?;
            if log.matches(words).count() >= times {
                return Ok(());
            }
            ensure!(self.process.exited()?.is_none() && Instant::now() < deadline, "{log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has the identity renewed, until the log has these words once more.
    pub(super) fn renew(&mut self, words: &str) -> Result<()> {
        let before = self.log()?.matches(words).count();
        run("sh", &["-c", "kill -USR1 \"$1\"", "kill", &self.process.id().to_string()])?;
        self.until_logged_times(words, before + 1)
    }

    /// The identity as it is stored.
    fn stored(&self) -> Result<Value> {
        let text = fs::read_to_string(self.world.path("bot/identity.json"))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The hash of the TPM's endorsement key, as the agent prints it for a token.
pub(super) fn ek_hash(swtpm: &Swtpm) -> Result<String> {
    let rule = World::absent(programs!())?.rule(&swtpm.tcti())?;
    let hash = rule.lines().find_map(|line| line.trim().strip_prefix("ek_public_hash: "));
    Ok(hash.context("no hash")?.trim_matches('"').to_owned())
}

/// Waits until exactly these joins were granted: whether with a certificate, and under which server name.
fn until_joined(server: &Server, expected: &[(bool, &str)]) -> Result<()> {
    until(|| {
        let events = server.events()?;
        let joins = events.iter().filter(|event| event["method"] == JOIN && event["code"] == "OK");
        let said = |event: &Value| {
            let shown = event["client_certificate"].as_bool();
            Some((shown?, event["sni"].as_str()?.to_owned()))
        };
        let joins: Option<Vec<_>> = joins.map(said).collect();
        let joins = joins.context("a call without a connection")?;
        let joins: Vec<_> = joins.iter().map(|(shown, name)| (*shown, name.as_str())).collect();
        ensure!(joins == expected, "{joins:?}");
        Ok(())
    })
}

/// The address and a pin are configured, nothing else; the host stays the same bot instance.
#[test]
fn daemon_renews_at_an_auth_service() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
    let scratch = Scratch::new("teleport-auth")?;
    let server =
        peer.server(scratch.path(), &["--allow-hash", &ek_hash(&swtpm)?, "--token", "t"])?;
    let before = swtpm.handles()?;
    let way = Way::Auth { address: server.start("auth_addr"), pin: server.start("ca_pin") };
    let mut daemon = Daemon::start(&swtpm, &way)?;
    daemon.until_logged("all credentials are valid")?;
    let joined = daemon.stored()?;
    for _ in 0..2 {
        daemon.renew("renewed name=identity")?;
    }
    let cluster = "6578616d706c652e74657374.teleport.cluster.local";
    let (first, renewal) = ((false, "teleport.cluster.local"), (true, cluster));
    until_joined(&server, &[first, renewal, renewal])?;
    let stored = daemon.stored()?;
    ensure!(stored["instance"] == joined["instance"] && stored["generation"] == 3, "{stored:#}");
    ensure!(
        daemon.log()?.matches("joined as a new bot instance").count() == 1,
        "{}",
        daemon.log()?
    );
    drop(daemon);
    ensure!(swtpm.handles()? == before, "left behind");
    Ok(())
}

/// Not every Proxy passes on connections to the Auth Service. The host is not left without an identity.
#[test]
fn proxy_that_does_not_pass_on_renewals_leads_to_a_new_instance() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
    let scratch = Scratch::new("teleport-proxy")?;
    let hash = ek_hash(&swtpm)?;
    let listen = ["--proxy", "127.0.0.1:0", "--auth-through-proxy", "off"];
    let token = ["--allow-hash", &hash, "--token", "t"];
    let server = peer.server(scratch.path(), &[&listen[..], &token].concat())?;
    let before = swtpm.handles()?;
    let roots = scratch.path().join("teleport/web-ca.pem");
    let way = Way::Proxy { address: server.start("proxy_addr"), roots: &roots };
    let mut daemon = Daemon::start(&swtpm, &way)?;
    daemon.until_logged("all credentials are valid")?;
    let joined = daemon.stored()?;
    daemon.renew("joined as a new bot instance")?;
    daemon.until_logged(
        "the Proxy does not pass on renewals, so the host joins as a new bot instance",
    )?;
    daemon.until_logged("give the address of the Auth Service as `auth_server`")?;
    until_joined(&server, &[(false, "localhost"), (false, "localhost")])?;
    until(|| {
        let stored = daemon.stored()?;
        ensure!(stored["instance"] != joined["instance"], "{stored:#}");
        ensure!(stored["generation"] == 1, "{stored:#}");
        Ok(())
    })?;
    drop(daemon);
    ensure!(swtpm.handles()? == before, "left behind");
    Ok(())
}
