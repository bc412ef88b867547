//! An sshd that lets in who has a certificate of the cluster, and its clients.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result, ensure};
use tests::host::{Host, until};
use tests::world::{BOT, run};

use super::is_root;

/// Where it is installed, by Debian and others.
const PROGRAM: &str = "/usr/sbin/sshd";

/// An address that nobody else uses: each process has its own part of the loopback network.
pub(super) fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed));
    (address, 2222).into()
}

/// The certificate in a line, in Base64.
pub(super) fn blob(path: &Path) -> Result<String> {
    let line = fs::read_to_string(path)?;
    Ok(line.split_ascii_whitespace().nth(1).context("no key")?.to_owned())
}

/// An sshd and what it is told.
pub(super) struct Sshd {
    program: &'static str,
    /// Its configuration, without what it listens on.
    config: String,
    directory: PathBuf,
    known_hosts: PathBuf,
}

impl Sshd {
    /// Where it is; `None`, with a message, if it cannot be run here.
    pub(super) fn program() -> Result<Option<&'static str>> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: sshd is not installed; `cargo xtask setup` installs it");
            return Ok(None);
        }
        Ok(is_root("an sshd")?.then_some(PROGRAM))
    }

    /// With the host's files. `more` is added to its configuration.
    pub(super) fn new(host: &Host, program: &'static str, more: &str) -> Result<Self> {
        fs::create_dir_all("/run/sshd")?;
        let directory = host.path("");
        let files = host.path("host");
        let key = if files.join("ssh_host").exists() { "ssh_host" } else { "ssh_host.pub" };
        let principals = host.path("principals");
        fs::write(&principals, format!("bot-{BOT}\n"))?;
        let config = format!(
            "HostKey {files}/{key}\nHostCertificate {files}/ssh_host-cert.pub\n\
             TrustedUserCAKeys {files}/ssh_host-user-ca.pub\nAuthorizedPrincipalsFile {}\n\
             AuthorizedKeysFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             AuthenticationMethods publickey\n{more}",
            principals.display(),
            files = files.display(),
        );
        let ca = fs::read_to_string(host.world.path("data/cluster/ssh-host-ca.pub"))?;
        let known_hosts = host.path("known");
        fs::write(&known_hosts, format!("@cert-authority * {}\n", ca.trim()))?;
        Ok(Self { program, config, directory, known_hosts })
    }

    /// `ssh` with the keys of an agent, and nothing else than the CA.
    fn client(&self, agent: &Path, name: &str) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let agent = format!("IdentityAgent={}", agent.display());
        let alias = format!("HostKeyAlias={name}");
        let options = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=none",
            "IdentityFile=none",
            // sshd does not listen while it executes itself again.
            "ConnectionAttempts=30",
            &known,
            &agent,
            &alias,
        ];
        let mut words = vec!["-F".to_owned(), "none".to_owned()];
        words.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option.to_owned()]));
        words
    }

    /// The option to speak with an sshd of its own, which needs no port.
    fn proxy(&self) -> Result<String> {
        let config = self.directory.join("sshd_config");
        fs::write(&config, &self.config)?;
        Ok(format!("ProxyCommand={} -i -e -f {}", self.program, config.display()))
    }

    /// A command on the server, which the client knows by this name.
    pub(super) fn ssh(&self, agent: &Path, name: &str, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("ssh");
        command.args(self.client(agent, name)).args(["-o", &self.proxy()?]);
        Ok(command.arg("root@host").args(words).output()?)
    }

    /// Clones a repository from the server.
    pub(super) fn clone_repository(&self, agent: &Path) -> Result<Output> {
        let repository = self.directory.join("repository");
        let at = repository.display().to_string();
        run("git", &["init", "-q", &at])?;
        fs::write(repository.join("file"), "content\n")?;
        let git = |words: &[&str]| {
            let identity = ["-c", "user.name=x", "-c", "user.email=x@x", "-C", &at];
            run("git", &[&identity, words].concat())
        };
        git(&["add", "file"])?;
        git(&["commit", "-qm", "x"])?;
        let mut ssh = vec!["ssh".to_owned()];
        ssh.extend(self.client(agent, BOT));
        ssh.extend(["-o".to_owned(), self.proxy()?]);
        let ssh: Vec<String> = ssh.iter().map(|word| format!("'{word}'")).collect();
        let clone = self.directory.join("clone");
        let mut command = Command::new("git");
        command.args(["clone", "-q", &format!("root@host:{at}")]).arg(clone);
        // The repository may belong to another user than root.
        command.env("GIT_SSH_COMMAND", ssh.join(" ")).env("GIT_CONFIG_COUNT", "0");
        Ok(command.output()?)
    }

    /// Starts one that listens.
    pub(super) fn listen(&self, config: &Path, address: SocketAddr) -> Result<Running<'_>> {
        let listen = format!("ListenAddress {}\nPort {}\n", address.ip(), address.port());
        fs::write(config, format!("{listen}{}", self.config))?;
        let mut command = Command::new(self.program);
        let log = config.with_extension("log");
        let child = command.args(["-D", "-f"]).arg(config).arg("-E").arg(&log).spawn()?;
        let running = Running { sshd: self, address, child, log };
        until(|| Ok(TcpStream::connect(address)?))?;
        Ok(running)
    }
}

/// An sshd that listens, until it is dropped.
pub(super) struct Running<'s> {
    sshd: &'s Sshd,
    address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Running<'_> {
    /// Waits until it has begun to listen again after a SIGHUP. Another one before that would be lost.
    pub(super) fn is_back(&self) -> Result<()> {
        until(|| {
            let log = fs::read_to_string(&self.log)?;
            ensure!(log.matches("Server listening on").count() > 1, "{log}");
            Ok(())
        })
    }

    /// The host certificate that it serves, in Base64.
    pub(super) fn certificate(&self) -> Result<String> {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        until(|| {
            let scan = ["-c", "-T", "30", "-t", "ecdsa", "-p", &port, &host];
            let served = run("ssh-keyscan", &scan)?;
            let mut words = served.split_ascii_whitespace();
            let kind = "ecdsa-sha2-nistp256-cert-v01@openssh.com";
            words.find(|word| *word == kind).context("no certificate")?;
            Ok(words.next().context("no key")?.to_owned())
        })
    }

    fn client(&self, agent: &Path) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.sshd.client(agent, BOT));
        command.args(["-p", &self.address.port().to_string()]);
        command.arg(format!("root@{}", self.address.ip()));
        command
    }

    pub(super) fn log_in(&self, agent: &Path) -> Result<Output> {
        Ok(self.client(agent).arg("true").output()?)
    }

    /// A session that stays open.
    pub(super) fn session(&self, agent: &Path) -> Result<Session> {
        let mut command = self.client(agent);
        command.arg("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let output = BufReader::new(output.context("no output")?);
        Ok(Session { child, input: input.context("no input")?, output })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session in which `cat` runs.
pub(super) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// Says something and hears it.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.input.write_all(b"word\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line == "word\n", "{line:?}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
