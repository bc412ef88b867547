//! What the soak runs: a software TPM, an authority, and a daemon with an identity and three services.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::child::{Guarded, Scratch};
use testkit::swtpm::{Factory, Kind, Maker, Occupied, PoweredOff, Swtpm};

use super::credential::Names;
use super::mounts::Mounts;
use crate::demo::{ca_pin, token};

/// The shortest lifetime for which the default of half of it is more than the interval.
const TTL: &str = "1m";
/// How often everything is renewed, seconds.
pub(super) const INTERVAL: u64 = 20;
/// How long a reload hook may take.
const HOOK_TIMEOUT: &str = "5s";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes glibc keep little of the memory that the agent frees, so that private memory follows the bytes in use and shows a leak.
/// With the default of a cache for each thread and many arenas, private memory grows by 700 KiB in an hour while the bytes in use
/// stay at 96 KB (docs/performance.md). The shipped agent is linked with musl, which has neither.
const TUNABLES: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.malloc.tcache_count=0");

const BOT: &str = "kind: bot\nversion: v1\nmetadata:\n  name: demo-bot\nspec:\n  roles: [guest]\n";
const TOKEN: &str = "demo-token";

const X509: Names = Names { certificate: "svid.pem", key: "svid.key", bundle: "bundle.pem" };
const IDENTITY: Names =
    Names { certificate: "tlscert", key: "key", bundle: "teleport-host-ca.crt" };

/// The services by name, which is also the directory that they are delivered to.
pub(super) const SERVICES: [(&str, Names); 3] =
    [("hooked", X509), (ON_SMALL_DISK, X509), ("login", IDENTITY)];
/// The service whose destination is a file system of its own.
pub(super) const ON_SMALL_DISK: &str = "small";

/// Programs to run, by path.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) agent: PathBuf,
    pub(super) authority: PathBuf,
    /// What gives a program a clock of its own: libfaketime.
    pub(super) clock: Option<PathBuf>,
}

/// Whose clock is stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Agent,
    Authority,
}

impl Whose {
    const fn file(self) -> &'static str {
        match self {
            Self::Agent => "clock-agent",
            Self::Authority => "clock-authority",
        }
    }
}

#[derive(Debug)]
enum Power {
    On(Swtpm),
    Off(PoweredOff),
}

/// All of it. It ends with this value.
pub(super) struct Host {
    programs: Programs,
    agent: Option<Guarded>,
    authority: Option<Guarded>,
    tpm: Option<Power>,
    pub(super) occupied: Option<Occupied>,
    pub(super) mounts: Mounts,
    logs: PathBuf,
    port: u16,
    diag: u16,
    pin: String,
    home: Scratch,
}

impl Host {
    /// Starts everything and waits until the daemon listens. Logs go to the directory `logs`.
    pub(super) fn start(programs: Programs, logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
        let mut host = Self {
            programs,
            agent: None,
            authority: None,
            tpm: Some(Power::On(Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?)),
            occupied: None,
            mounts: Mounts::new(),
            logs: logs.to_owned(),
            port: free_port()?,
            diag: free_port()?,
            pin: String::new(),
            home: Scratch::new("endorse-soak")?,
        };
        for log in ["agent.log", "authority.log"] {
            File::create(logs.join(log))?;
        }
        for whose in [Whose::Agent, Whose::Authority] {
            host.step_clock(whose, 0)?;
        }
        host.start_authority()?;
        host.allow()?;
        host.hook("succeed")?;
        for (name, _) in SERVICES {
            fs::create_dir(host.path(name))?;
        }
        let (small, mounts) = (host.path(ON_SMALL_DISK), &mut host.mounts);
        mounts.small_disk(&small)?;
        host.configure(INTERVAL)?;
        host.start_agent()?;
        Ok(host)
    }

    /// A path in the directory of all this.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The CA certificate that everything delivered has to chain to.
    pub(super) fn ca(&self) -> PathBuf {
        self.path("data/cluster/x509-ca.pem")
    }

    /// The port of the daemon's `diag_addr`.
    pub(super) const fn diag(&self) -> u16 {
        self.diag
    }

    pub(super) const fn has_clocks(&self) -> bool {
        self.programs.clock.is_some()
    }

    pub(super) fn agent(&mut self) -> Result<&mut Guarded> {
        self.agent.as_mut().context("no agent")
    }

    pub(super) fn authority_id(&self) -> Option<u32> {
        self.authority.as_ref().map(Guarded::id)
    }

    pub(super) fn signal_agent(&mut self, signal: Signal) -> Result<()> {
        send(self.agent()?.id(), signal)
    }

    pub(super) fn signal_authority(&self, signal: Signal) -> Result<()> {
        self.authority_id().map_or(Ok(()), |id| send(id, signal))
    }

    pub(super) fn signal_tpm(&self, signal: Signal) -> Result<()> {
        send(self.tpm()?.id(), signal)
    }

    pub(super) fn tpm(&self) -> Result<&Swtpm> {
        match &self.tpm {
            Some(Power::On(tpm)) => Ok(tpm),
            _ => bail!("the TPM is off"),
        }
    }

    pub(super) fn power_off(&mut self) {
        self.tpm = match self.tpm.take() {
            Some(Power::On(tpm)) => Some(Power::Off(tpm.power_off())),
            other => other,
        };
    }

    pub(super) fn power_on(&mut self) -> Result<()> {
        self.tpm = match self.tpm.take() {
            Some(Power::Off(tpm)) => Some(Power::On(tpm.power_on()?)),
            other => other,
        };
        Ok(())
    }

    /// Kills the authority, as a machine that loses power.
    pub(super) fn kill_authority(&mut self) {
        self.authority = None;
    }

    /// Starts the authority, where it was before, and waits until it listens.
    pub(super) fn start_authority(&mut self) -> Result<()> {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command = self.command(&self.programs.authority);
        command.args(["start", "--data-dir", "data", "--listen", &listen]);
        command.args(["--cluster-name", "soak.endorse.test"]);
        self.with_clock(&mut command, Whose::Authority);
        let mut process = self.spawn(command, "authority.log")?;
        let port = self.port;
        self.until(&mut process, "authority.log", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })?;
        self.authority = Some(process);
        Ok(())
    }

    fn start_agent(&mut self) -> Result<()> {
        let mut command = self.command(&self.programs.agent);
        command.args(["start", "-c", "tbot.yaml"]);
        command.env(TUNABLES.0, TUNABLES.1);
        self.with_clock(&mut command, Whose::Agent);
        let mut process = self.spawn(command, "agent.log")?;
        let diag = self.diag;
        self.until(&mut process, "agent.log", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, diag)).is_ok()
        })?;
        self.agent = Some(process);
        Ok(())
    }

    /// Sets the clock of a program wrong by so many seconds; 0 sets it right.
    pub(super) fn step_clock(&self, whose: Whose, seconds: i64) -> Result<()> {
        let (draft, clock) = (self.path("clock-draft"), self.path(whose.file()));
        fs::write(&draft, format!("{seconds:+}\n"))?;
        Ok(fs::rename(draft, clock)?)
    }

    /// What the reload hook does from now on: `succeed`, `fail` or `hang`.
    pub(super) fn hook(&self, mode: &str) -> Result<()> {
        let script = match mode {
            "succeed" => "exit 0\n",
            "fail" => "exit 1\n",
            _ => "sleep 600\n",
        };
        let draft = self.path("hook-draft");
        fs::write(&draft, script)?;
        Ok(fs::rename(draft, self.path("hook.sh"))?)
    }

    /// Writes a configuration that renews every `interval` seconds.
    pub(super) fn configure(&self, interval: u64) -> Result<()> {
        let mut text = format!(
            "version: v2\nauth_server: 127.0.0.1:{}\nonboarding:\n  join_method: tpm\n  token: \
             {TOKEN}\n  ca_pins: ['{}']\nstorage: {}\ndiag_addr: 127.0.0.1:{}\ntpm:\n  address: \
             {}\ncredential_ttl: {TTL}\nrenewal_interval: {interval}s\nservices:\n",
            self.port,
            self.pin,
            self.path("storage").display(),
            self.diag,
            self.tpm_address()?,
        );
        for (name, names) in SERVICES {
            let kind = if names.key == IDENTITY.key { "identity" } else { "x509" };
            let destination = self.path(name);
            let destination = destination.display();
            text.push_str(&format!(
                "  - type: {kind}\n    name: {name}\n    destination: {destination}\n"
            ));
            if name == "hooked" {
                let hook = self.path("hook.sh");
                let hook = hook.display();
                text.push_str(&format!(
                    "    reload:\n      command: [sh, {hook}]\n      timeout: {HOOK_TIMEOUT}\n"
                ));
            }
        }
        self.configure_with(&text)
    }

    /// Writes this configuration, whatever it is.
    pub(super) fn configure_with(&self, text: &str) -> Result<()> {
        let draft = self.path("tbot-draft");
        fs::write(&draft, text)?;
        Ok(fs::rename(draft, self.path("tbot.yaml"))?)
    }

    fn tpm_address(&self) -> Result<String> {
        let known = self.path("tpm-address");
        if let Ok(tpm) = self.tpm() {
            fs::write(&known, tpm.tcti())?;
        }
        Ok(fs::read_to_string(known)?)
    }

    /// Tells the authority to let this TPM in.
    fn allow(&mut self) -> Result<()> {
        let status = self.run(&self.programs.authority, &["status", "--data-dir", "data"])?;
        self.pin = ca_pin(&status)?;
        let tcti = self.tpm()?.tcti();
        let identify = ["identify", "--tpm", &tcti, "--format", "rule"];
        let rule = self.run(&self.programs.agent, &identify)?;
        for (name, text) in [("bot.yaml", BOT.to_owned()), ("token.yaml", token(&rule, &[])?)] {
            fs::write(self.path(name), text)?;
            self.run(&self.programs.authority, &["create", "--data-dir", "data", name])?;
        }
        Ok(())
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run {}", program.display()))?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {arguments:?}: {message}", program.display());
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.home.path());
        command
    }

    fn with_clock(&self, command: &mut Command, whose: Whose) {
        if let Some(library) = &self.programs.clock {
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", self.path(whose.file()));
            for setting in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"] {
                command.env(setting, "1");
            }
        }
    }

    fn spawn(&self, mut command: Command, log: &str) -> Result<Guarded> {
        let log = self.logs.join(log);
        let open = || File::options().create(true).append(true).open(&log);
        command.stdout(open()?).stderr(open()?);
        Guarded::spawn(&mut command, Some(self.home.path()))
    }

    fn until(
        &self,
        process: &mut Guarded,
        log: &str,
        mut done: impl FnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let log = self.logs.join(log);
        while !done() {
            if let Some(status) = process.exited()? {
                bail!("a program ended ({status}): see {}", log.display());
            }
            ensure!(Instant::now() < deadline, "a program does not listen: see {}", log.display());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn send(id: u32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
