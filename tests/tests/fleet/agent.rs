//! A host with the real agent and a TPM of swtpm.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::child::{Guarded, Scratch};
use testkit::swtpm::{Kind, Swtpm};
use tests::host::is_whole;
use tests::programs;
use tests::world::{Said, run};
use tokio::time::sleep;

use super::cluster::{Cluster, TIMEOUT};

/// What the daemon logs.
const RENEWED: &str = "INFO  renewed name=identity";
const JOINED: &str = "INFO  joined name=identity";

pub(crate) struct Agent {
    name: String,
    swtpm: Swtpm,
    scratch: Scratch,
    process: Option<Guarded>,
}

impl Agent {
    /// A host that has never joined.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let (name, scratch) = (name.to_owned(), Scratch::new("endorse-fleet-agent")?);
        Ok(Self { name, swtpm: tests::tpm::start(Kind::P256)?, scratch, process: None })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(programs!().agent);
        command.env_clear().args(arguments).current_dir(self.scratch.path());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }

    /// The rule of a token that lets it in.
    pub(crate) fn rule(&self) -> Result<String> {
        let identify = ["identify", "--tpm", &self.swtpm.tcti(), "--format", "rule"];
        Said::by(&mut self.command(&identify))?.success()
    }

    /// Starts the daemon, with what it needs to join this cluster.
    pub(crate) fn start(&mut self, cluster: &Cluster, token: &str, pin: &str) -> Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let config = format!(
            "version: v2\nproxy_server: {:?}\nonboarding: {{token: {token}, ca_pins: [{pin:?}]}}\nstorage: {}\n\
             tpm: {{address: {:?}}}\nservices:\n\
             - {{type: x509, name: web, destination: {}}}\n- {{type: identity, name: id, destination: {}}}\n",
            cluster.addresses(),
            at("bot"),
            self.swtpm.tcti(),
            at("web"),
            at("id"),
        );
        fs::write(self.path("tbot.yaml"), config)?;
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let mut command = self.command(&["start", "-c", "tbot.yaml"]);
        self.process = Some(Guarded::spawn(command.stderr(log), Some(self.scratch.path()))?);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        run("sh", &["-c", "kill \"$1\" \"$2\"", "kill", signal, &self.id()?]).map(drop)
    }

    /// Has it renew now, rather than after half of the lifetime, and waits until it has.
    pub(crate) async fn renew(&self) -> Result<()> {
        let before = self.received();
        self.signal("-USR1")?;
        self.until_received(before).await
    }

    /// Waits until all is in place after so many starts.
    pub(crate) async fn until_ready(&self, starts: usize) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while self.count("all credentials are valid") < starts {
            ensure!(Instant::now() < deadline, "{}: {}", self.name, self.log());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// How often it has joined or renewed.
    pub(crate) fn received(&self) -> usize {
        let log = self.log();
        [JOINED, RENEWED].iter().map(|words| log.matches(words).count()).sum()
    }

    /// Waits until it has joined or renewed once more than so often.
    pub(crate) async fn until_received(&self, before: usize) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while self.received() <= before {
            ensure!(Instant::now() < deadline, "{}: {}", self.name, self.log());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn id(&self) -> Result<String> {
        Ok(self.process.as_ref().context("it does not run")?.id().to_string())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn count(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// Waits until it has credentials of now: its files are whole, and trust as many CAs.
    pub(crate) async fn until_it_trusts(&self, cas: usize) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let Err(why) = self.seen(cas) else { return Ok(()) };
            let runs = run("sh", &["-c", "kill -0 \"$1\"", "kill", &self.id()?]).is_ok();
            ensure!(
                runs && Instant::now() < deadline,
                "{}: {why:#} ({runs}): {}",
                self.name,
                self.log()
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn seen(&self, cas: usize) -> Result<()> {
        let directory = self.path("web");
        let directory = directory.join(fs::read_link(directory.join("..data"))?);
        is_whole(&directory)?;
        let bundle = fs::read_to_string(directory.join("bundle.pem"))?;
        let found = bundle.matches("BEGIN CERTIFICATE").count();
        ensure!(found == cas, "{found} CAs instead of {cas}");
        Ok(())
    }
}
