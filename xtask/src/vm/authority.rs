//! The authority that guests talk to, on the host.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::child::{Guarded, Scratch};
use testkit::swtpm::Swtpm;

use super::program;
use crate::demo::{ca_pin, token};

/// The token that guests join with.
pub const TOKEN: &str = "demo-token";
const BOT: &str = "kind: bot\nversion: v1\nmetadata:\n  name: demo-bot\nspec:\n  roles: [guest]\n";
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A new authority that allows one TPM. It ends with this value.
#[derive(Debug)]
pub struct Authority {
    server: PathBuf,
    process: Option<Guarded>,
    home: Scratch,
    port: u16,
    pin: String,
}

impl Authority {
    /// Starts it and lets this TPM in.
    pub fn start(tpm: &Swtpm) -> Result<Self> {
        Self::start_with(program("authority"), tpm)
    }

    /// As [`Self::start`], of another build: `server` is the program.
    pub fn start_with(server: PathBuf, tpm: &Swtpm) -> Result<Self> {
        let home = Scratch::new("endorse-vm-authority")?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut authority = Self { server, process: None, home, port, pin: String::new() };
        authority.serve()?;
        authority.pin = ca_pin(&authority.admin(&["status"])?)?;
        let tcti = tpm.tcti();
        let rule = ["identify", "--tpm", &tcti, "--format", "rule"];
        let rule = run(authority.home.path(), "agent", &rule)?;
        for (name, text) in [("bot.yaml", BOT.to_owned()), ("token.yaml", token(&rule, &[])?)] {
            fs::write(authority.home.path().join(name), text)?;
            authority.admin(&["create", name])?;
        }
        Ok(authority)
    }

    /// The port on 127.0.0.1; a guest finds it at 10.0.2.2.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The pin of its CA.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// The lines of its audit log.
    pub fn audit(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.home.path().join("data/audit.jsonl"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Runs one of its administrative verbs.
    pub fn admin(&self, arguments: &[&str]) -> Result<String> {
        run(self.home.path(), "authority", &[arguments, &["--data-dir", "data"]].concat())
    }

    fn serve(&mut self) -> Result<()> {
        let listen = format!("127.0.0.1:{}", self.port);
        let log = self.home.path().join("log");
        let mut command = Command::new(&self.server);
        command.args(["start", "--data-dir", "data", "--listen", &listen]);
        command.args(["--cluster-name", "vm.endorse.test"]).current_dir(self.home.path());
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let mut process = Guarded::spawn(&mut command, Some(self.home.path()))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let said = || fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = process.exited()? {
                bail!("the authority ended ({status}):\n{}", said());
            }
            ensure!(Instant::now() < deadline, "the authority does not listen:\n{}", said());
            thread::sleep(Duration::from_millis(10));
        }
        self.process = Some(process);
        Ok(())
    }
}

fn run(directory: &Path, name: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program(name));
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {} failed:\n{said}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}
