//! A host with a software TPM, an authority that lets it in, and agents on it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::child::{Guarded, Scratch};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};

use super::process::{Memory, Process};
use super::streams::Streams;
use crate::vm::{Authority, TOKEN};
use crate::{cargo, target_directory};

const TIMEOUT: Duration = Duration::from_secs(60);
/// The runtime's helper threads end after ten seconds without work.
const CALM: Duration = Duration::from_secs(15);
/// Lifetime of the workloads' certificates, so that a rotation comes within half of it.
const TTL: &str = "1m";
/// As the unit has it.
const WATCHDOG: Duration = Duration::from_secs(300);

/// The host.
#[derive(Debug)]
pub(super) struct Host {
    authority: Authority,
    tpm: Swtpm,
    home: Scratch,
    diag: u16,
}

/// A successful join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Join {
    /// From the program's start to its end.
    pub(super) wall: Duration,
    /// Inside of TPM commands, as the agent's transport measures.
    pub(super) tpm: Duration,
    pub(super) commands: u64,
}

impl Join {
    pub(super) fn beside(&self) -> Duration {
        self.wall.saturating_sub(self.tpm)
    }
}

/// What was seen of a daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) memory: Memory,
    /// While it was idle.
    pub(super) wake_ups: u64,
    /// On average.
    pub(super) renewal_commands: f64,
    pub(super) restart_commands: u64,
}

/// What was seen of a daemon with a Workload API.
#[derive(Debug)]
pub(super) struct Workloads {
    /// Before the first workload connects.
    pub(super) idle: Memory,
    pub(super) wake_ups: u64,
    /// With all streams, after a rotation.
    pub(super) streaming: Memory,
    /// From a rotation's first message to its last.
    pub(super) rotation: Duration,
}

impl Host {
    pub(super) fn new() -> Result<Self> {
        // The one that is shipped takes part in the joins; the other has the administrative verbs.
        for profile in ["dev", "release"] {
            let mut build = cargo();
            build.args(["build", "--package", "authority", "--profile", profile]);
            let status = build.stdin(Stdio::null()).status()?;
            ensure!(status.success(), "the authority does not build");
        }
        let tpm = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()?;
        let authority = Authority::start_with(target_directory().join("release/authority"), &tpm)?;
        let diag = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        Ok(Self { authority, tpm, home: Scratch::new("endorse-figures")?, diag })
    }

    /// Runs `agent join` once, with this storage.
    pub(super) fn join(&self, storage: &str) -> Result<Join> {
        let authority = format!("127.0.0.1:{}", self.authority.port());
        let mut command = self.agent();
        command.args(["join", "--debug", "--token", TOKEN, "--ca-pin", self.authority.pin()]);
        command.args(["--authority", &authority, "--tpm", &self.tpm.tcti(), "--storage", storage]);
        let begun = Instant::now();
        let output = command.output().context("cannot run the agent")?;
        let wall = begun.elapsed();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "agent join: {said}");
        let value = |name: &str| {
            let word = said.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.with_context(|| format!("agent join --debug does not say {name}: {said}"))
        };
        Ok(Join {
            wall,
            tpm: Duration::from_secs_f64(value("tpm_seconds=")?.parse()?),
            commands: value("tpm_commands=")?.parse()?,
        })
    }

    /// Runs a daemon with two services under a service manager, as its unit would: it joins, is
    /// restarted, renews, and is then left alone for `idle`.
    pub(super) fn daemon(&self, renewals: u64, idle: Duration) -> Result<Daemon> {
        self.configure("")?;
        let first = self.start()?;
        first.terminate(TIMEOUT)?.context("the daemon does not stop")?;
        let running = self.start()?;
        let restart_commands = self.metric("agent_tpm_commands_total")?;
        let renewal_commands = self.renewal_commands(&running, renewals, 3)?;
        thread::sleep(CALM);
        let process = Process::of(running.id());
        let before = process.sleeps()?;
        thread::sleep(idle);
        let wake_ups = process.sleeps()?.saturating_sub(before);
        let memory = process.memory()?;
        running.terminate(TIMEOUT)?.context("the daemon does not stop")?;
        Ok(Daemon { memory, wake_ups, renewal_commands, restart_commands })
    }

    /// The same host with a third service, a Workload API: idle, and with `count` streams of it.
    pub(super) fn workloads(&self, count: usize, idle: Duration) -> Result<Workloads> {
        let socket = self.home.path().join("workload.sock");
        self.configure(&format!(
            "  - type: workload-identity-api\n    name: api\n    listen: unix://{}\n    credential_ttl: {TTL}\n",
            socket.display()
        ))?;
        let running = self.start()?;
        self.until(|| Ok(socket.exists()))?;
        let process = Process::of(running.id());
        thread::sleep(CALM);
        let before = process.sleeps()?;
        thread::sleep(idle);
        let wake_ups = process.sleeps()?.saturating_sub(before);
        let idle = process.memory()?;
        let mut streams = Streams::open(&socket, count)?;
        let rotation = streams.rotation()?;
        let streaming = process.memory()?;
        running.terminate(TIMEOUT)?.context("the daemon does not stop")?;
        Ok(Workloads { idle, wake_ups, streaming, rotation })
    }

    /// The TPM commands of a renewal, on average, with a service whose key is in the TPM.
    pub(super) fn tpm_key_commands(&self, renewals: u64) -> Result<f64> {
        let destination = self.home.path().join("tpm-key");
        self.configure(&format!(
            "  - type: x509\n    name: tpm-key\n    key: tpm\n    destination: {}\n",
            destination.display()
        ))?;
        let running = self.start()?;
        let commands = self.renewal_commands(&running, renewals, 4)?;
        running.terminate(TIMEOUT)?.context("the daemon does not stop")?;
        Ok(commands)
    }

    /// Lets a daemon renew everything, which is so many credentials, and returns how many TPM commands that takes on average.
    fn renewal_commands(&self, running: &Guarded, renewals: u64, credentials: u64) -> Result<f64> {
        let (commands, renewed) = (self.metric("agent_tpm_commands_total")?, self.renewed()?);
        for number in 1..=renewals {
            signal(running, "USR1")?;
            self.until(|| Ok(self.renewed()? >= renewed + credentials * number))?;
        }
        let commands = self.metric("agent_tpm_commands_total")?.saturating_sub(commands);
        Ok(commands as f64 / renewals as f64)
    }

    /// Writes a configuration with two services, and these.
    fn configure(&self, services: &str) -> Result<()> {
        let home = self.home.path().display();
        let config = format!(
            "version: v2\nproxy_server: 127.0.0.1:{}\nonboarding:\n  token: {TOKEN}\n  \
             ca_pins: ['{}']\nstorage: {home}/bot\ndiag_addr: 127.0.0.1:{}\ntpm:\n  address: {}\n\
             services:\n  - type: identity\n    name: login\n    destination: {home}/login\n  \
             - type: x509\n    name: web\n    destination: {home}/web\n{services}",
            self.authority.port(),
            self.authority.pin(),
            self.diag,
            self.tpm.tcti(),
        );
        Ok(fs::write(self.home.path().join("tbot.yaml"), config)?)
    }

    fn start(&self) -> Result<Guarded> {
        let socket = self.home.path().join("notify.sock");
        let _ = fs::remove_file(&socket);
        let manager = UnixDatagram::bind(&socket)?;
        // Reads the notifications, as a service manager would. Ends with the program.
        thread::spawn(move || while manager.recv(&mut [0; 4096]).is_ok() {});
        let log = self.home.path().join("log");
        let mut command = self.agent();
        command.args(["start", "-c", "tbot.yaml"]);
        command.env("NOTIFY_SOCKET", &socket);
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.stdout(Stdio::null()).stderr(File::options().create(true).append(true).open(log)?);
        let daemon = Guarded::spawn(&mut command, Some(self.home.path()))?;
        self.until(|| Ok(self.ask("/readyz").is_ok_and(|said| said.contains(" 200 "))))?;
        Ok(daemon)
    }

    fn agent(&self) -> Command {
        let mut command = Command::new(agent());
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn renewed(&self) -> Result<u64> {
        let said = self.ask("/metrics")?;
        let successes = said.lines().filter(|line| line.contains("outcome=\"success\""));
        let counts = successes.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let said = self.ask("/metrics")?;
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no {name} in {said}"))?;
        Ok(value.parse()?)
    }

    fn ask(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.diag))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: agent\r\n\r\n").as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    }

    fn until(&self, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while !done()? {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
                bail!("the daemon does not come so far:\n{log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn agent() -> PathBuf {
    target_directory().join("static/agent")
}

fn signal(process: &Guarded, name: &str) -> Result<()> {
    let mut kill = Command::new("sh");
    kill.args(["-c", "kill -\"$1\" \"$2\"", "kill", name, &process.id().to_string()]);
    ensure!(kill.status().context("cannot run sh")?.success(), "no signal {name}");
    Ok(())
}
