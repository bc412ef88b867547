//! An independent client and server of Teleport's protocols, written in Go without a look at ours: `tests/teleport-peer`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::child::Guarded;
use testkit::swtpm::Swtpm;
use testkit::{target_directory, workspace};

use crate::world::{Said, TIMEOUT};

/// The program, with both.
#[derive(Clone, Debug)]
pub struct TeleportPeer {
    program: PathBuf,
}

impl TeleportPeer {
    /// Builds it, once for all tests of a process. `None`, with a message, if this machine has no Go or cannot get the modules.
    pub fn built() -> Result<Option<Self>> {
        static BUILT: OnceLock<Result<Option<TeleportPeer>, String>> = OnceLock::new();
        BUILT
            .get_or_init(|| build().map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(anyhow::Error::msg)
    }

    /// What a token's rules look at, of the TPM at this address.
    pub fn identify(&self, tpm: &str) -> Result<Value> {
        self.run(&["identify", "--tpm", tpm])
    }

    /// What a command that succeeds prints.
    pub fn run(&self, arguments: &[&str]) -> Result<Value> {
        let said = Said::by(Command::new(&self.program).args(arguments))?;
        Ok(serde_json::from_str(&said.success()?)?)
    }

    /// Runs the client to its end. What it reports, whether it succeeded or not.
    pub fn client(&self, arguments: &[&str]) -> Result<Value> {
        Self::report(Command::new(&self.program).arg("client").args(arguments))
    }

    /// The same, with these certificates in the place of the system's roots.
    pub fn client_trusting(&self, roots: &Path, arguments: &[&str]) -> Result<Value> {
        let mut client = Command::new(&self.program);
        Self::report(client.arg("client").args(arguments).env("SSL_CERT_FILE", roots))
    }

    fn report(client: &mut Command) -> Result<Value> {
        let said = Said::by(client)?;
        let report = serde_json::from_str(&said.out);
        report.with_context(|| format!("ended with {:?}: {}{}", said.code, said.out, said.err))
    }

    /// Starts the server, which writes into a new directory below `scratch`.
    pub fn server(&self, scratch: &Path, arguments: &[&str]) -> Result<Server> {
        let directory = scratch.join("teleport");
        fs::create_dir_all(&directory)?;
        let log = directory.join("events.jsonl");
        let mut command = Command::new(&self.program);
        command.arg("server").arg("--dir").arg(&directory).args(arguments);
        command.stdout(File::create(&log)?).stderr(File::create(directory.join("stderr"))?);
        let mut server =
            Server { process: Guarded::spawn(&mut command, None)?, log, start: Value::Null };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(start) = server.events()?.into_iter().find(|line| line["event"] == "start")
            {
                server.start = start;
                return Ok(server);
            }
            let ended = server.process.exited()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("no server ({ended:?}): {}", fs::read_to_string(directory.join("stderr"))?);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The address of a software TPM, as the program takes it.
pub fn tpm_address(swtpm: &Swtpm) -> String {
    swtpm.tcti().replace("swtpm:path=", "unix:")
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Guarded,
    log: PathBuf,
    start: Value,
}

impl Server {
    /// What it said at its start: addresses, the CA pin, files of its CAs.
    pub fn start(&self, key: &str) -> &str {
        self.start[key].as_str().unwrap_or_default()
    }

    /// Everything that it has seen so far, oldest first.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

fn build() -> Result<Option<TeleportPeer>> {
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments)
            .current_dir(workspace().join("tests/teleport-peer"))
            .stdin(Stdio::null());
        go
    };
    if go(&["version"]).output().is_err() {
        println!("skipped: Go is not installed");
        return Ok(None);
    }
    if !go(&["mod", "download"]).output()?.status.success() {
        println!("skipped: the Go modules of tests/teleport-peer cannot be downloaded");
        return Ok(None);
    }
    let program = target_directory().join("teleport-peer");
    let draft = program.with_extension(std::process::id().to_string());
    let built = Said::by(go(&["build", "-o"]).arg(&draft).arg("."))?;
    ensure!(built.code == Some(0), "go build: {}", built.err);
    fs::rename(draft, &program)?;
    Ok(Some(TeleportPeer { program }))
}
