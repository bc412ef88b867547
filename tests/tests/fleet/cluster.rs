//! Two authorities with one database.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::child::{Guarded, Scratch};
use testkit::postgresql::Postgresql;
use tests::programs;
use tests::world::{BOT, ClockLibrary, Said, run};
use tls::{CaPin, ServerTrust};

use super::link::Link;

/// More than anything takes on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) const TOKEN: &str = "fleet";

pub(crate) struct Cluster {
    /// In the order in which hosts try them.
    pub(crate) nodes: [Node; 2],
    pub(crate) database: Postgresql,
    pub(crate) link: Link,
}

/// An authority.
pub(crate) struct Node {
    name: &'static str,
    program: PathBuf,
    config: PathBuf,
    scratch: Scratch,
    process: Option<Guarded>,
    pub(crate) address: String,
    pub(crate) diag: String,
    pub(crate) pin: String,
    /// Its clock, if it has one of its own.
    clock: Option<ClockLibrary>,
}

impl Cluster {
    /// Both run. `None`, with a message, if PostgreSQL is not installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        match Postgresql::start(LOCAL, settings)? {
            Some(database) => Self::on(database).await.map(Some),
            None => Ok(None),
        }
    }

    /// The same with tables on a file system of this many bytes. `None`, with a message, if none can be mounted.
    pub(crate) async fn start_on_small_disk(bytes: u64) -> Result<Option<Self>> {
        match Postgresql::start_with_small_disk(LOCAL, settings, bytes)? {
            Some(database) => Self::on(database).await.map(Some),
            None => Ok(None),
        }
    }

    async fn on(database: Postgresql) -> Result<Self> {
        let link = Link::to(database.port()).await?;
        database.sql("postgres", "CREATE ROLE endorse LOGIN")?;
        let nodes = [Node::new("one", &link)?, Node::new("two", &link)?];
        let mut cluster = Self { nodes, database, link };
        cluster.migrate(Path::new(programs!().authority))?;
        let [one, two] = &mut cluster.nodes;
        one.start()?;
        let line = two.authority(&["authorities", "request", "--name", two.name])?.success()?;
        one.authority(&["authorities", "add", line.trim_end()])?.success()?;
        two.start()?;
        one.create(&format!(
            "kind: bot\nversion: v1\nmetadata: {{name: {BOT}}}\nspec: {{roles: [access]}}\n"
        ))?;
        Ok(cluster)
    }

    /// Makes or upgrades the tables, by this program.
    pub(crate) fn migrate(&self, program: &Path) -> Result<()> {
        let owner = self.nodes[0].scratch.path().join("owner.yaml");
        let url = self.database.url("postgres", "postgres");
        fs::write(&owner, format!("store: {{type: postgresql, url: \"{url}\"}}\n"))?;
        let migrate = ["store", "migrate", "--runtime-role", "endorse", "-c"];
        let mut command = Command::new(program);
        Said::by(command.args(migrate).arg(owner))?.success().map(drop)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// What hosts trust when they join: the present CA.
    pub(crate) fn trust(&self) -> Result<ServerTrust> {
        let pin: CaPin = self.nodes[0].pin.parse().map_err(anyhow::Error::msg)?;
        Ok(ServerTrust::Pins(vec![pin]))
    }
}

/// The relay connects over TCP.
const LOCAL: &str = "host all all 127.0.0.1/32 trust\n";

fn settings(_: &Path) -> Vec<String> {
    vec!["fsync=off".to_owned()]
}

impl Node {
    fn new(name: &'static str, link: &Link) -> Result<Self> {
        let scratch = Scratch::new("endorse-fleet")?;
        let config = scratch.path().join("authority.yaml");
        let address = link.address;
        let text = format!(
            "store: {{type: postgresql, url: \"postgresql://endorse@{address}/postgres\", tls: off}}\n"
        );
        fs::write(&config, text)?;
        let [address, diag] = ["127.0.0.1:0"; 2].map(str::to_owned);
        let pin = String::new();
        let program = programs!().authority.into();
        Ok(Self { name, program, config, scratch, process: None, address, diag, pin, clock: None })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().args(arguments).current_dir(self.scratch.path());
        command.env("AUTHORITY_DATA_DIR", self.path("data"));
        if let Some(clock) = &self.clock {
            clock.give(&mut command, &self.path("clock"));
        }
        command
    }

    /// Has it run as this program from the next start on.
    pub(crate) fn use_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// An operator's command.
    pub(crate) fn authority(&self, arguments: &[&str]) -> Result<Said> {
        Said::by(&mut self.command(arguments))
    }

    /// Creates resources, or replaces them.
    pub(crate) fn create(&self, yaml: &str) -> Result<()> {
        fs::write(self.path("resource.yaml"), yaml)?;
        self.authority(&["create", "-f", "resource.yaml"])?.success().map(drop)
    }

    /// Starts it at the address that it had, and waits until it listens.
    pub(crate) fn start(&mut self) -> Result<()> {
        let config = self.config.display().to_string();
        let start = ["start", "--cluster-name", "fleet.example", "-c", &config];
        let mut command = self.command(&start);
        command.args(["--listen", &self.address, "--diag-addr", &self.diag]);
        let said = self.path("said");
        command.stdout(File::create(&said)?);
        command.stderr(File::options().create(true).append(true).open(self.path("log"))?);
        let mut process = Guarded::spawn(&mut command, Some(self.scratch.path()))?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let text = fs::read_to_string(&said)?;
            let word = |label| text.lines().find_map(|line| line.strip_prefix(label));
            if let (Some(address), Some(pin), Some(diag), true) =
                (word("Listen   "), word("CA pin   "), word("Diag     "), text.ends_with('\n'))
            {
                (self.address, self.pin, self.diag) = (address.into(), pin.into(), diag.into());
                self.process = Some(process);
                return Ok(());
            }
            if process.exited()?.is_some() || Instant::now() > deadline {
                bail!("{} does not start: {}", self.name, self.log()?);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let process = self.process.take().context("it does not run")?;
        let ended = process.terminate(TIMEOUT)?.context("it does not stop")?;
        ensure!(ended.success(), "{}: {ended}: {}", self.name, self.log()?);
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        let id = self.process.as_ref().context("it does not run")?.id().to_string();
        run("sh", &["-c", "kill \"$1\" \"$2\"", "kill", signal, &id]).map(drop)
    }

    /// Has it start with a clock of its own, ahead of the machine's by so many seconds.
    pub(crate) fn set_clock(&mut self, ahead: i64) -> Result<()> {
        self.clock = Some(ClockLibrary::installed()?);
        ClockLibrary::set(&self.path("clock"), ahead)
    }

    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("log"))?)
    }

    /// What monitoring is told: the code of HTTP, and the reasons.
    pub(crate) fn readiness(&self) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.diag)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let code = head.split(' ').nth(1).context("no code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    /// Waits until monitoring is told this code. Returns the reasons.
    pub(crate) async fn until_readiness_is(&self, code: u16) -> Result<String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let (found, body) = tokio::task::block_in_place(|| self.readiness())?;
            if found == code {
                return Ok(body);
            }
            ensure!(Instant::now() < deadline, "{}: {found} instead of {code}: {body}", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A list of resources.
    pub(crate) fn list(&self, kind: &str) -> Result<Vec<Value>> {
        let list = self.authority(&["get", kind, "--format", "json"])?.success()?;
        Ok(serde_json::from_str(&list)?)
    }

    /// The logs of all authorities in the database are whole, and agree with the records.
    pub(crate) fn verify_log(&self) -> Result<Value> {
        let head = self.path("data/log.head").display().to_string();
        let verify = ["audit", "verify", "--format", "json", "--head", &head];
        let said = self.authority(&verify)?;
        let report = said.out.clone();
        said.success().with_context(|| format!("at {}", self.name))?;
        Ok(serde_json::from_str::<Value>(&report)?["logs"].clone())
    }

    /// All entries of all logs.
    pub(crate) fn log_entries(&self) -> Result<Vec<Value>> {
        let to = self.path("exported");
        let _ = fs::remove_dir_all(&to);
        self.authority(&["audit", "export", "--to", &to.display().to_string()])?.success()?;
        let mut entries = Vec::new();
        for file in fs::read_dir(&to)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                let text = fs::read_to_string(file)?;
                entries.extend(text.lines().map(entry).collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(entries)
    }
}

/// An entry as it is exported: JSON, or a brief entry in hexadecimal, which docs/authority.md describes.
fn entry(line: &str) -> Result<Value> {
    if line.starts_with('{') {
        return Ok(serde_json::from_str(line)?);
    }
    let bytes = base16ct::lower::decode_vec(line).map_err(|cause| anyhow::anyhow!("{cause}"))?;
    let event = match bytes.get(1) {
        Some(1) => "bot.renew",
        Some(2) => "bot.issue",
        other => bail!("{other:?} in {line}"),
    };
    let instance = bytes.get(59..75).context("a short entry")?;
    let mut id = base16ct::lower::encode_string(instance);
    for at in [20, 16, 12, 8] {
        id.insert(at, '-');
    }
    Ok(json!({"event": event, "outcome": "granted", "bot_instance_id": id}))
}
