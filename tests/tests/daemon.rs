//! `agent start`: a daemon that keeps credentials fresh, on a software TPM, against a real authority.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::programs;
use tests::world::{PATIENCE, World, run};
use xtask::swtpm::{Factory, Kind, Maker, Swtpm};

/// A host with a daemon that serves two services.
struct Host {
    world: World,
    swtpm: Swtpm,
    daemon: Option<Child>,
}

impl Host {
    fn new() -> Result<Self> {
        let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
        let world = World::new(programs!())?;
        world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
        let host = Self { world, swtpm, daemon: None };
        host.configure("")?;
        Ok(host)
    }

    fn configure(&self, more: &str) -> Result<()> {
        let web = self.world.path("web");
        let config = format!(
            "version: v2\nproxy_server: {}\nonboarding:\n  token: t\n  ca_pins: [{}]\n\
             storage: {}\ntpm:\n  address: {}\nservices:\n  - type: x509\n    name: web\n    \
             destination: {}\n    reload:\n      command: [touch, {}]\n{more}",
            self.world.address(),
            self.world.pin(),
            self.world.path("bot").display(),
            self.swtpm.tcti(),
            web.display(),
            self.world.path("reloaded").display(),
        );
        fs::write(self.world.path("tbot.yaml"), config)?;
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let log =
            fs::File::options().create(true).append(true).open(self.world.path("agent.log"))?;
        let mut command =
            self.world.agent_command(&["start", "-c", "tbot.yaml", "--pid-file", "pid"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn()?);
        Ok(())
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let id = self.daemon.as_ref().context("no daemon")?.id().to_string();
        run("sh", &["-c", "kill -$1 $2", "kill", signal, &id]).map(drop)
    }

    fn ended(&mut self) -> Result<std::process::ExitStatus> {
        let mut daemon = self.daemon.take().context("no daemon")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = daemon.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        daemon.kill()?;
        bail!("the daemon does not end: {}", self.log())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.world.path("agent.log")).unwrap_or_default()
    }

    /// What `agent status` says of the daemon.
    fn health(&self) -> Result<Value> {
        let said = self.world.agent(&["status", "--storage", "bot", "--format", "json"])?;
        Ok(serde_json::from_str::<Value>(&said.well()?)?["daemon"].clone())
    }

    /// Waits until the daemon is so, and returns all that it says.
    fn until(&self, status: &str) -> Result<Value> {
        self.until_that(|health| health["status"] == status)
    }

    fn until_that(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.health() {
                Ok(health) if wanted(&health) => return Ok(health),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("it does not come to that: {:?}\n{}", self.health(), self.log())
    }

    /// How often the log has these words.
    fn count(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    fn until_logged(&self, words: &str, times: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.count(words) >= times {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        bail!("not {times} times {words:?}: {}", self.log())
    }

    fn web_is_whole(&self) -> Result<()> {
        let web = |name: &str| self.world.path("web").join(name).display().to_string();
        run("openssl", &["verify", "-CAfile", &web("bundle.pem"), &web("svid.pem")])?;
        let certified = run("openssl", &["x509", "-in", &web("svid.pem"), "-noout", "-pubkey"])?;
        let key = run("openssl", &["pkey", "-in", &web("svid.key"), "-pubout"])?;
        ensure!(certified == key, "a certificate of another key");
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn a_daemon_joins_serves_renews_when_told_and_ends_in_order() -> Result<()> {
    let mut host = Host::new()?;
    let before = host.swtpm.handles()?;
    host.start()?;
    host.until("healthy")?;
    host.web_is_whole()?;
    ensure!(host.world.path("reloaded").exists(), "nobody was told of the files");
    ensure!(host.swtpm.handles()? == before, "something is left behind in the TPM");

    for (signal, renewals) in [("USR1", 1), ("HUP", 2)] {
        host.signal(signal)?;
        host.until_logged("renewed name=identity", renewals)?;
        host.until_logged("issued name=web", renewals + 1)?;
        host.web_is_whole()?;
    }
    let private = run("find", &[&host.world.path("bot"), Path::new("-name"), Path::new("key")])?;
    ensure!(private.is_empty(), "a private key in the bot's storage: {private}");

    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    ensure!(!host.world.path("pid").exists() && !host.world.path("bot/agent.sock").exists());
    ensure!(host.swtpm.handles()? == before, "something is left behind in the TPM");
    Ok(())
}

#[test]
fn a_restart_with_valid_credentials_asks_nothing_of_the_tpm() -> Result<()> {
    let mut host = Host::new()?;
    host.start()?;
    host.until("healthy")?;
    host.signal("KILL")?;
    ensure!(!host.ended()?.success());

    // The TPM is gone and so is the authority: what is valid needs neither.
    host.world.stop()?;
    let tcti = host.swtpm.tcti();
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    fs::write(host.world.path("tbot.yaml"), text.replace(&tcti, "swtpm:path=/nonexistent"))?;
    host.start()?;
    host.until("healthy")?;
    ensure!(host.count("joined") == 1, "{}", host.log());
    Ok(())
}

#[test]
fn an_outage_is_said_and_outlived() -> Result<()> {
    let mut host = Host::new()?;
    host.world.stop()?;
    host.start()?;
    host.until_logged("not joined", 2)?;
    ensure!(host.log().contains("cannot reach the authority"), "{}", host.log());
    host.world.start(&[])?;
    host.until("healthy")?;
    host.web_is_whole()
}

#[test]
fn a_host_that_is_no_longer_allowed_says_why_and_comes_back_when_it_is() -> Result<()> {
    let mut host = Host::new()?;
    host.start()?;
    host.until("healthy")?;
    host.world.authority(&["rm", "token/t"])?.well()?;
    host.signal("USR1")?;
    host.until_that(|health| health["services"]["identity"]["status"] == "unhealthy")?;
    let rule = host.world.rule(&host.swtpm.tcti())?;
    host.world.allow("t", &rule, &[])?;
    host.signal("USR1")?;
    host.until("healthy")?;
    host.web_is_whole()
}

#[test]
fn a_configuration_that_became_unusable_changes_nothing() -> Result<()> {
    let mut host = Host::new()?;
    host.start()?;
    host.until("healthy")?;
    host.configure("nonsense: true\n")?;
    host.signal("HUP")?;
    host.until_logged("the configuration stays as it was", 1)?;
    ensure!(host.health()?["status"] == "healthy", "{}", host.log());
    Ok(())
}

#[test]
fn once_is_once() -> Result<()> {
    let host = Host::new()?;
    host.configure("oneshot: true\n")?;
    host.world.agent(&["start", "-c", "tbot.yaml"])?.well()?;
    host.web_is_whole()?;
    Ok(())
}
