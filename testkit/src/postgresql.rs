//! PostgreSQL servers for tests: of the distribution's package, as a user without privileges.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::child::{Guarded, Scratch};

/// The user that a server runs as if the tests are root, which PostgreSQL refuses.
const NOBODY: u32 = 65534;

/// For a server to accept connections; not exceeded on a busy machine either.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A server with an empty cluster of databases; its superuser is `postgres`.
pub struct Postgresql {
    programs: PathBuf,
    settings: Vec<String>,
    /// The bytes of the file system that its tables are on, if that is one of its own.
    disk: Option<u64>,
    port: u16,
    server: Option<Guarded>,
    scratch: Scratch,
}

impl Postgresql {
    /// Starts a server with these lines in its `pg_hba.conf`, and with the settings that `settings` returns for its directory. All users
    /// are let in over its Unix socket. `None`, with a message, if PostgreSQL is not installed.
    pub fn start(hba: &str, settings: impl FnOnce(&Path) -> Vec<String>) -> Result<Option<Self>> {
        Self::start_on(None, hba, settings)
    }

    /// The same, with the tables of its databases on a file system of so many bytes, which [`Self::fill_disk`] fills. `None`, with a
    /// message, also if none can be mounted.
    pub fn start_with_small_disk(
        hba: &str,
        settings: impl FnOnce(&Path) -> Vec<String>,
        bytes: u64,
    ) -> Result<Option<Self>> {
        let may_mount = ["--mount", "mount", "-t", "tmpfs", "none", "/mnt"];
        let mounted = Command::new("unshare").args(may_mount).stderr(Stdio::null()).status();
        if !is_root()? || !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: no file system can be mounted here");
            return Ok(None);
        }
        let Some(one) = Self::start_on(Some(bytes), hba, settings)? else { return Ok(None) };
        let location = one.disk_directory();
        one.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", location.display()))?;
        one.sql("template1", "ALTER DATABASE postgres SET TABLESPACE small")?;
        Ok(Some(one))
    }

    fn start_on(
        disk: Option<u64>,
        hba: &str,
        settings: impl FnOnce(&Path) -> Vec<String>,
    ) -> Result<Option<Self>> {
        let Some(programs) = programs() else {
            println!("skipped: PostgreSQL is not installed; `cargo xtask setup` installs it");
            return Ok(None);
        };
        let scratch = Scratch::new("endorse-pg")?;
        let settings = settings(scratch.path());
        let mut one = Self { programs, settings, disk, port: 0, server: None, scratch };
        fs::create_dir(one.disk_directory())?;
        own(one.directory())?;
        let mut initdb = one.command("initdb")?;
        initdb.args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
        let made = initdb.arg("-D").arg(one.data()).output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(one.data().join("pg_hba.conf"), format!("local all all trust\n{hba}"))?;
        for file in fs::read_dir(one.directory())? {
            own(&file?.path())?;
        }
        for _ in 0..20 {
            // Another program may listen there.
            static PORT: AtomicU16 = AtomicU16::new(0);
            let number = PORT.fetch_add(1, Ordering::Relaxed).wrapping_mul(7);
            one.port = 20_000 + (std::process::id() as u16).wrapping_add(number) % 12_000;
            if one.run()? {
                return Ok(Some(one));
            }
        }
        bail!("PostgreSQL does not start: {}", one.log());
    }

    /// Its own directory: files for it, and its Unix socket.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The port that it listens on at 127.0.0.1, and that its Unix socket is named by.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database over the Unix socket.
    pub fn url(&self, user: &str, database: &str) -> String {
        let directory = self.directory().display().to_string().replace('/', "%2F");
        format!("postgresql://{user}@{directory}:{}/{database}", self.port)
    }

    /// What a statement of the superuser prints.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", "-U", "postgres"]);
        command.arg("-h").arg(self.directory()).args(["-p", &self.port.to_string()]);
        let output = command.args(["-d", database, "-c", statement]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{statement}: {said}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Ends all sessions and the server.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        // An immediate shutdown, after which it has to recover, as after a crash.
        let killed = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status()?;
        ensure!(killed.success(), "cannot stop PostgreSQL");
        let deadline = Instant::now() + START_TIMEOUT;
        while server.exited()?.is_none() {
            ensure!(Instant::now() < deadline, "PostgreSQL does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts it after [`Self::stop`], at the same address.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.run()?, "PostgreSQL does not start again: {}", self.log());
        Ok(())
    }

    /// Leaves no room on the small disk.
    pub fn fill_disk(&self) -> Result<()> {
        let mut ballast = fs::File::create(self.ballast()?)?;
        let mut block = 1 << 20;
        while block > 0 {
            let written = ballast.write_all(&vec![0; block]);
            if written.is_err() {
                block /= 2;
            }
        }
        Ok(())
    }

    /// Makes room there again.
    pub fn clear_disk(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast()?)?)
    }

    /// What fills the disk, as the server sees it, which alone has that mounted.
    fn ballast(&self) -> Result<PathBuf> {
        let server = self.server.as_ref().context("it does not run")?;
        let root = PathBuf::from(format!("/proc/{}/root", server.id()));
        let disk = self.disk_directory();
        Ok(root.join(disk.strip_prefix("/").unwrap_or(&disk)).join("ballast"))
    }

    fn disk_directory(&self) -> PathBuf {
        self.directory().join("disk")
    }

    /// The command, for which alone the disk is mounted. The disk is empty then.
    fn with_disk(&self, bytes: u64, command: &Command) -> Command {
        let script = format!(
            "mount -t tmpfs -o size={bytes},uid={NOBODY},gid={NOBODY},mode=700 none \"$1\" && shift && exec \"$@\""
        );
        let mut mounted = Command::new("unshare");
        mounted.args(["--mount", "sh", "-c", &script, "sh"]).arg(self.disk_directory());
        mounted.arg(command.get_program()).args(command.get_args());
        mounted.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
        mounted
    }

    fn data(&self) -> PathBuf {
        self.directory().join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory().join("log")).unwrap_or_default()
    }

    /// Whether it accepts connections; it does not if its port is in use.
    fn run(&mut self) -> Result<bool> {
        let log = fs::File::create(self.directory().join("log"))?;
        let mut command = self.command("postgres")?;
        if let Some(bytes) = self.disk {
            command = self.with_disk(bytes, &command);
        }
        command.arg("-D").arg(self.data()).stdout(Stdio::null()).stderr(log);
        let own = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.directory().display()),
            "shared_buffers=16MB".to_owned(),
        ];
        command.args(own.iter().chain(&self.settings).flat_map(|line| ["-c", line]));
        let mut server = Guarded::spawn(&mut command, Some(self.directory()))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while self.sql("postgres", "SELECT 1").is_err() {
            if server.exited()?.is_some() {
                return Ok(false);
            }
            ensure!(Instant::now() < deadline, "PostgreSQL does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
        Ok(true)
    }

    /// One of its programs, as a user that it accepts.
    fn command(&self, program: &str) -> Result<Command> {
        let program = self.programs.join(program);
        let mut command = match is_root()? {
            true => {
                let mut command = Command::new("setpriv");
                let nobody = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
                command.args(nobody).arg("--clear-groups").arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgresql {
    /// In order, since it would leave shared memory behind.
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Gives a file to the user that the server runs as.
pub fn own(path: &Path) -> Result<()> {
    if is_root()? {
        chown(path, Some(NOBODY), Some(NOBODY)).context("cannot give a file to another user")?;
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// Where Debian has the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let directories = versions.map(|version| version.path().join("bin"));
    directories.filter(|directory| directory.join("postgres").exists()).max()
}
