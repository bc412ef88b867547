//! What a person sees of a Teleport cluster: why a host has not joined it, with advice, and who the host is there.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::teleport_peer::{Server, TeleportPeer};
use tests::world::{Said, World};

const OTHER_PIN: &str = "sha256:abababababababababababababababababababababababababababababababab";

/// A host, and a cluster whose server was started with some arguments.
struct Site {
    world: World,
    tpm: Swtpm,
    server: Server,
    scratch: Scratch,
}

impl Site {
    /// `None` where there is no Go. `{hash}` in an argument is the public hash of the host's EK.
    fn new(arguments: &[&str]) -> Result<Option<Self>> {
        let Some(peer) = TeleportPeer::built()? else { return Ok(None) };
        let tpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
        let world = World::absent(programs!())?;
        let rule = world.rule(&tpm.tcti())?;
        let hash = rule.lines().find_map(|line| line.trim().strip_prefix("ek_public_hash: "));
        let hash = hash.context("no hash")?.trim_matches('"').to_owned();
        let scratch = Scratch::new("teleport-messages")?;
        let token = "kind: token\nversion: v2\nmetadata: {name: iam}\nspec: {roles: [Bot], \
                     bot_name: b, join_method: iam}\n";
        let tokens = scratch.path().join("tokens.yaml");
        std::fs::write(&tokens, token)?;
        let listen = ["--proxy", "127.0.0.1:0", "--l7", "127.0.0.1:0"];
        let arguments = arguments.iter().map(|argument| {
            argument.replace("{hash}", &hash).replace("{tokens}", &tokens.display().to_string())
        });
        let arguments: Vec<String> = arguments.collect();
        let arguments = arguments.iter().map(String::as_str);
        let server =
            peer.server(scratch.path(), &listen.into_iter().chain(arguments).collect::<Vec<_>>())?;
        Ok(Some(Self { world, tpm, server, scratch }))
    }

    fn web_ca(&self) -> PathBuf {
        self.scratch.path().join("teleport/web-ca.pem")
    }

    /// A command of the agent, whose system trusts the CA of the Proxy. Words in braces stand for what the server said at its
    /// start.
    fn agent(&self, line: &str) -> Result<Said> {
        let word = |word: &str| match word.strip_prefix('{').and_then(|key| key.strip_suffix('}')) {
            Some(key) => self.server.start(key).to_owned(),
            None => word.to_owned(),
        };
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.world.agent_command(&words);
        command.env("SSL_CERT_FILE", self.web_ca()).env("AGENT_TPM", self.tpm.tcti());
        Said::by(command.env("AGENT_STORAGE", self.world.path("bot")))
    }
}

const ALLOWED: &[&str] = &["--token", "t", "--allow-hash", "{hash}"];
const OTHER_HOST: &[&str] = &["--token", "t", "--allow-hash", "00"];
const BY_AUTH: &str = "join --auth-server {auth_addr} --ca-pin {ca_pin} --token t";

#[test]
fn each_failure_of_a_join_names_its_cause_and_gives_advice() -> Result<()> {
    let wrong_pin = format!("join --auth-server {{auth_addr}} --ca-pin {OTHER_PIN} --token t");
    let wrong_pin_of_teleport = format!("{wrong_pin} --protocol teleport");
    let no_pin_of_proxy =
        format!("join --auth-server {{proxy_addr}} --ca-pin {OTHER_PIN} --token t");
    for (server, more, line, exit, said, advice) in [
        (ALLOWED, &[][..], &*wrong_pin, 69, "which is not pinned", "tctl status"),
        (ALLOWED, &[], &wrong_pin_of_teleport, 69, "which is not pinned", "tctl status"),
        (
            ALLOWED,
            &[],
            &BY_AUTH.replace("--token t", "--token other"),
            1,
            "refused by the Teleport cluster: token expired or not found",
            "tctl tokens ls",
        ),
        (OTHER_HOST, &[], BY_AUTH, 1, "did not match any allow rules", "agent identify"),
        (
            &["--token-file", "{tokens}"],
            &[],
            &BY_AUTH.replace("--token t", "--token iam"),
            1,
            "only supports method iam",
            "`join_method` is tpm",
        ),
        (
            ALLOWED,
            &["--new", "off", "--legacy", "unimplemented"],
            BY_AUTH,
            65,
            "the server has none of Teleport's join services",
            "Auth Service or Proxy",
        ),
        (
            ALLOWED,
            &["--fail-at", "challenge:close"],
            BY_AUTH,
            69,
            "the connection to the Teleport cluster was lost",
            "the Teleport cluster's log",
        ),
        (
            ALLOWED,
            &["--fail-at", "certs:unavailable"],
            BY_AUTH,
            69,
            "the Teleport cluster is unavailable: ",
            "try again",
        ),
        (
            ALLOWED,
            &[],
            "join --authority 127.0.0.1:1 --token t --protocol teleport",
            69,
            "cannot reach the Teleport cluster at 127.0.0.1:1: ",
            "`tctl status` on the cluster",
        ),
        (
            ALLOWED,
            &["--upgrades", "none"],
            "join --authority {l7_addr} --token t",
            69,
            "does not pass on the connection: ",
            "passes on WebSockets",
        ),
        (
            ALLOWED,
            &["--server-lie", "upgraded-certificate-for-other-name"],
            "join --authority {l7_addr} --token t",
            69,
            "is not a server of the Teleport cluster: its certificate does not have the name",
            "intercepted",
        ),
        (
            ALLOWED,
            &[],
            "join --authority {auth_addr} --token t --protocol teleport",
            69,
            "no CA that this system trusts has issued the certificate of",
            "`ca_pins` (`tctl status` shows them) if the address is an Auth Service's",
        ),
        (
            ALLOWED,
            &[],
            &no_pin_of_proxy,
            69,
            "the server does not name the CAs of a Teleport cluster",
            "a Teleport Proxy is given as `proxy_server`, without `ca_pins` and `ca_path`",
        ),
        (
            ALLOWED,
            &[],
            &format!("{no_pin_of_proxy} --protocol teleport"),
            69,
            "the server does not name the CAs of a Teleport cluster",
            "a Teleport Proxy is given as `proxy_server`, without `ca_pins` and `ca_path`",
        ),
    ] {
        let Some(site) = Site::new(&[server, more].concat())? else { return Ok(()) };
        let failed = site.agent(line)?;
        println!("{line} {more:?}\n{}", failed.err);
        let [what, then] = failed.failure(exit).with_context(|| line.to_owned())?;
        ensure!(what.contains(said), "{line}: not {said}: {what}");
        ensure!(then.contains(advice), "{line}: not {advice}: {then}");
        let both = format!("{what} {then}");
        ensure!(!both.contains("docs.rs") && !both.contains("close_notify"), "{both}");
        // Only a server that has not shown what it is may be an authority.
        let is_open = line.contains(&no_pin_of_proxy) || more.contains(&"none");
        ensure!(is_open || !both.contains("authority"), "{line}: {both}");
    }
    Ok(())
}

/// Teleport has no call for it; the answer is what the certificate says that the cluster accepts.
#[test]
fn whoami_shows_the_certificate_that_the_cluster_accepts() -> Result<()> {
    for (join, closed) in [
        (BY_AUTH, false),
        ("join --authority {proxy_addr} --token t", false),
        ("join --authority {proxy_addr} --token t", true),
    ] {
        let proxy = ["--auth-through-proxy", if closed { "off" } else { "on" }];
        let Some(site) = Site::new(&[ALLOWED, &["--bot", "web"], &proxy].concat())? else {
            return Ok(());
        };
        site.agent(join)?.success()?;
        let asked = site.agent("whoami")?;
        if closed {
            let [what, advice] = asked.failure(69)?;
            ensure!(what.contains("the Proxy does not pass on connections"), "{what}");
            ensure!(advice.contains("agent status"), "{advice}");
            continue;
        }
        let said = asked.success()?;
        ensure!(said.starts_with("Cluster:   example.test\nBot:       web\nRoles:     "), "{said}");
        ensure!(said.contains("which the Teleport cluster accepts"), "{said}");
        let json: Value = serde_json::from_str(&site.agent("whoami --format json")?.success()?)?;
        ensure!(json["source"] == "certificate" && json["spiffe_id"].is_null(), "{json}");
        let certificate = site.world.path("bot/tlscert").display().to_string();
        let serial = ["x509", "-noout", "-serial", "-in", &certificate];
        let serial = tests::world::run("openssl", &serial)?.trim().to_lowercase();
        let shown = json["certificate_serial"].as_str().context("no serial")?.replace(':', "");
        ensure!(serial == format!("serial={shown}"), "{serial} {shown}");
        let pings = site.server.events()?;
        let is_ping = |event: &&Value| {
            event["method"].as_str().is_some_and(|method| method.ends_with("/Ping"))
        };
        let last = pings.iter().rfind(is_ping).context("not asked")?;
        ensure!(last["client_certificate"] == true, "{last}");
    }
    Ok(())
}

/// The certificate of another cluster is not accepted, whatever the server says about itself.
#[test]
fn whoami_fails_if_the_cluster_does_not_accept_the_certificate() -> Result<()> {
    let Some(one) = Site::new(ALLOWED)? else { return Ok(()) };
    let Some(other) = Site::new(ALLOWED)? else { return Ok(()) };
    one.agent(BY_AUTH)?.success()?;
    other.agent(BY_AUTH)?.success()?;
    // The host has the identity of one, and the address and the CAs of the other.
    let read = |site: &Site| -> Result<Value> {
        let text = std::fs::read_to_string(site.world.path("bot/identity.json"))?;
        Ok(serde_json::from_str(&text)?)
    };
    let (mut confused, elsewhere) = (read(&one)?, read(&other)?);
    for key in ["authority", "ca_pins", "x509_authorities"] {
        ensure!(confused.get(key).is_some(), "no {key}");
        confused[key] = elsewhere[key].clone();
    }
    std::fs::write(one.world.path("bot/identity.json"), confused.to_string())?;
    let refused = one.agent("whoami")?;
    let [what, advice] = refused.failure(1)?;
    ensure!(what.contains("the Teleport cluster does not accept our certificate"), "{what}");
    ensure!(advice.contains("join again"), "{advice}");
    Ok(())
}
