//! A host whose agent runs as a daemon with a service, and what a person sees of it: its log, `/readyz`, `agent status`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::world::{TIMEOUT, World, run};

/// The component of the identity.
pub const IDENTITY: &str = "identity";

/// The service.
pub const WEB: &str = "web";

/// What goes wrong, as a person sees it.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<'a> {
    /// Which component.
    pub of: &'a str,
    /// What the log calls it.
    pub event: &'a str,
    /// Words of the line that says what.
    pub what: &'a str,
    /// Words of the line of advice.
    pub advice: &'a str,
}

/// The host. Its agent ends with it.
pub struct Host {
    /// Where it lives, with an authority that lets it in.
    pub world: World,
    tpm: String,
    /// Where its files are, within the world's directory.
    directory: String,
    diag: u16,
    daemon: Option<Child>,
    /// What the daemon has sent to its service manager.
    notifications: Arc<Mutex<Vec<String>>>,
}

impl Host {
    /// A host with the TPM at this address, which a token of this world allows.
    pub fn new(world: World, tpm: &str) -> Result<Self> {
        world.allow("t", &world.rule(tpm)?, &[])?;
        Self::stranger(world, tpm, "")
    }

    /// A host that no token allows, with its files in `directory`.
    pub fn stranger(world: World, tpm: &str, directory: &str) -> Result<Self> {
        let diag = free_port()?;
        let notifications = listen(&world.path(directory).join(NOTIFY_SOCKET))?;
        let (tpm, directory) = (tpm.to_owned(), directory.to_owned());
        let host = Self { world, tpm, directory, diag, daemon: None, notifications };
        host.configure("")?;
        Ok(host)
    }

    /// Writes the configuration, with `more` at its end.
    pub fn configure(&self, more: &str) -> Result<()> {
        let config = format!(
            "version: v2\nproxy_server: {}\nonboarding:\n  token: t\n  ca_pins: [{}]\n\
             storage: {}\ntpm:\n  address: {}\ndiag_addr: 127.0.0.1:{}\nservices:\n  - type: x509\n    \
             name: {WEB}\n    destination: {}\n    reload:\n      command: [touch, {}]\n{more}",
            self.world.address(),
            self.world.pin(),
            self.path("bot").display(),
            self.tpm,
            self.diag,
            self.path(WEB).display(),
            self.world.path("reloaded").display(),
        );
        Ok(fs::write(self.world.path("tbot.yaml"), config)?)
    }

    /// A place among the host's files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.world.path(&self.directory).join(name)
    }

    /// A place as the daemon sees it, which may have mounted something over it.
    pub fn inside(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        match self.id() {
            Ok(id) => {
                let root = PathBuf::from(format!("/proc/{id}/root"));
                root.join(path.strip_prefix("/").unwrap_or(&path))
            }
            Err(_) => path,
        }
    }

    /// Starts the daemon.
    pub fn start(&mut self) -> Result<()> {
        let command = self.start_command();
        self.spawn(command)
    }

    /// Starts the daemon after `script`, with what that mounts for itself alone.
    pub fn start_after(&mut self, script: &str) -> Result<()> {
        let agent = self.start_command();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]);
        command.arg(agent.get_program()).args(agent.get_args());
        command.current_dir(self.world.path("")).env_clear();
        let given = agent.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(given);
        self.spawn(command)
    }

    fn start_command(&self) -> Command {
        let arguments = ["start", "-c", "tbot.yaml", "--pid-file", "pid"];
        let mut command = self.world.agent_command(&arguments);
        // A service manager with a watchdog: the daemon looks at the clock at least this often.
        command.env("WATCHDOG_USEC", "400000");
        command.env("NOTIFY_SOCKET", self.path(NOTIFY_SOCKET));
        command
    }

    fn spawn(&mut self, mut command: Command) -> Result<()> {
        let log =
            fs::File::options().create(true).append(true).open(self.world.path("agent.log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(command.spawn()?);
        Ok(())
    }

    /// The daemon's process.
    pub fn id(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon")?.id())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let id = self.id()?.to_string();
        run("sh", &["-c", "kill -$1 $2", "kill", signal, &id]).map(drop)
    }

    /// SIGKILL, as a host that loses power.
    pub fn kill(&mut self) -> Result<()> {
        self.signal("KILL")?;
        ensure!(self.ended()?.signal().is_some(), "it had ended: {}", self.log());
        Ok(())
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let mut daemon = self.daemon.take().context("no daemon")?;
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = daemon.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        daemon.kill()?;
        bail!("the daemon does not end: {}", self.log())
    }

    /// What it has sent to its service manager so far, but for the watchdog.
    pub fn notifications(&self) -> Vec<String> {
        self.notifications.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.world.path("agent.log")).unwrap_or_default()
    }

    /// How often the log has these words.
    pub fn count(&self, words: &str) -> usize {
        self.log().matches(words).count()
    }

    /// Waits until the log has these words so often.
    pub fn until_logged(&self, words: &str, times: usize) -> Result<()> {
        wait(|| self.count(words) >= times)
            .with_context(|| format!("not {times} times {words:?}: {}", self.log()))
    }

    /// What `/readyz` answers: the code of HTTP, and the report.
    pub fn readyz(&self) -> Result<(u16, Value)> {
        let (code, body) = get(self.diag, "/readyz")?;
        Ok((code, serde_json::from_str(&body)?))
    }

    /// A metric without labels, of `/metrics`.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let (_, body) = get(self.diag, "/metrics")?;
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in {body}"))?.parse()?)
    }

    /// Writes another `diag_addr` into the configuration, and asks there from now on. Returns the port from before.
    pub fn change_diag(&mut self) -> Result<u16> {
        let port = free_port()?;
        let path = self.world.path("tbot.yaml");
        let text = fs::read_to_string(&path)?;
        let diag = |port: u16| format!("diag_addr: 127.0.0.1:{port}");
        fs::write(path, text.replace(&diag(self.diag), &diag(port)))?;
        Ok(std::mem::replace(&mut self.diag, port))
    }

    /// What `agent status` shows a person.
    pub fn status(&self) -> Result<String> {
        let directory = self.inside("bot").display().to_string();
        self.world.agent(&["status", "--storage", &directory])?.success()
    }

    /// What `agent status` says of the daemon to a program.
    pub fn health(&self) -> Result<Value> {
        let directory = self.inside("bot").display().to_string();
        let said = self.world.agent(&["status", "--storage", &directory, "--format", "json"])?;
        Ok(serde_json::from_str::<Value>(&said.success()?)?["daemon"].clone())
    }

    /// Waits until all credentials are valid and written: so say `/readyz` and `agent status`, and so it is.
    pub fn wait_healthy(&self) -> Result<()> {
        let healthy = || {
            let (code, report) = self.readyz()?;
            ensure!(code == 200 && report["status"] == "healthy", "{code} {report:#}");
            Ok(())
        };
        until(healthy).with_context(|| format!("it does not become healthy: {}", self.log()))?;
        let status = self.status()?;
        let identity = status.contains(" more minutes)");
        ensure!(identity && status.contains("running, healthy"), "{status}");
        self.web_is_whole()
    }

    /// Waits until this is seen: in the log, in `/readyz` and in `agent status`, in the same words.
    pub fn sees(&self, trouble: Trouble<'_>) -> Result<()> {
        let Trouble { of, event, what, advice } = trouble;
        let seen = || {
            let (code, report) = self.readyz()?;
            let component = &report["services"][of];
            let (reason, suggestion) = (word(&component["reason"]), word(&component["advice"]));
            ensure!(code == 503 && component["status"] == "unhealthy", "{code} {report:#}");
            ensure!(reason.contains(what) && suggestion.contains(advice), "{report:#}");
            let line = format!("WARN  {event} name={of} reason={reason:?} advice={suggestion:?}");
            ensure!(self.log().contains(&line), "not {line}");
            Ok(())
        };
        until(seen).with_context(|| format!("{what:?} is not seen: {}", self.log()))
    }

    /// The same in `agent status`, which reads the storage.
    pub fn status_says(&self, trouble: Trouble<'_>) -> Result<()> {
        let status = self.status()?;
        let begin = format!("  {}: unhealthy since ", trouble.of);
        let mut lines = status.lines().skip_while(|line| !line.starts_with(&begin));
        let (what, advice) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        ensure!(what.contains(trouble.what) && advice.contains(trouble.advice), "{status}");
        Ok(())
    }

    /// The files of the service belong together and verify. Others may come while they are read: these stay.
    pub fn web_is_whole(&self) -> Result<()> {
        let directory = self.inside(WEB);
        let directory = directory.join(fs::read_link(directory.join("..data"))?);
        is_whole(&directory)
    }

    /// The identity as it is stored.
    pub fn stored(&self) -> Result<Value> {
        let text = fs::read_to_string(self.inside("bot/identity.json"))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// The socket of the service manager, among the host's files.
const NOTIFY_SOCKET: &str = "notify.sock";

/// A service manager that takes note of what it is sent.
fn listen(path: &Path) -> Result<Arc<Mutex<Vec<String>>>> {
    let _ = path.parent().map(fs::create_dir_all).transpose()?;
    let socket = UnixDatagram::bind(path)?;
    let notifications = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&notifications);
    thread::spawn(move || {
        let mut message = [0; 4096];
        while let Ok(length) = socket.recv(&mut message) {
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text != "WATCHDOG=1" {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
    });
    Ok(notifications)
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Certificate, key and bundle of an `x509` service belong together and verify.
pub fn is_whole(directory: &Path) -> Result<()> {
    let web = |name: &str| directory.join(name).display().to_string();
    let valid = ["verify", "-no_check_time", "-CAfile", &web("bundle.pem"), &web("svid.pem")];
    run("openssl", &valid)?;
    let certified = run("openssl", &["x509", "-in", &web("svid.pem"), "-noout", "-pubkey"])?;
    let key = run("openssl", &["pkey", "-in", &web("svid.key"), "-pubout"])?;
    ensure!(certified == key, "a certificate for another key");
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The code of HTTP and the body that the daemon answers.
fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let code = head.split(' ').nth(1).context("no code")?.parse()?;
    Ok((code, body.to_owned()))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Waits until something can be had, and says at the end why it could not.
pub fn until<T>(wanted: impl Fn() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match wanted() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(30)),
            result => return result,
        }
    }
}

fn wait(is_so: impl Fn() -> bool) -> Result<()> {
    until(|| {
        ensure!(is_so(), "it does not come to that");
        Ok(())
    })
}

/// Whether this process may mount a file system where only a child sees it; says so if not.
pub fn may_mount(directory: &Path) -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "mount", "-t", "tmpfs", "none"]).arg(directory);
    let may = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !may {
        println!("skipped: no file system can be mounted here");
    }
    may
}
