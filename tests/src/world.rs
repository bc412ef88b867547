//! An authority, its operators and hosts, each a program of its own, in a directory of their own.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::child::{Guarded, Scratch};

/// The cluster of every world.
pub const CLUSTER: &str = "tests.endorse.test";

/// The bot of every world.
pub const BOT: &str = "my-bot";

/// More than anything takes.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Where our programs are.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// The agent.
    pub agent: &'static str,
    /// The authority.
    pub authority: &'static str,
}

/// The programs as cargo has built them for the test that asks.
#[macro_export]
macro_rules! programs {
    () => {
        $crate::world::Programs {
            agent: env!("CARGO_BIN_EXE_tests-agent"),
            authority: env!("CARGO_BIN_EXE_tests-authority"),
        }
    };
}

/// How a program ended and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// On stdout.
    pub out: String,
    /// On stderr.
    pub err: String,
}

impl Said {
    /// Runs a command to its end.
    pub fn by(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = command.stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } =
            output.with_context(|| format!("cannot run {name}"))?;
        let (out, err) = (String::from_utf8(stdout)?, String::from_utf8(stderr)?);
        Ok(Self { code: status.code(), out, err })
    }

    /// The output of a command that succeeded.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == Some(0), "ended with {:?}: {}{}", self.code, self.out, self.err);
        Ok(self.out)
    }

    /// A failure as every failure is to be: this exit code, nothing on stdout, a line that says what and a line of
    /// advice on stderr. Returns both lines.
    pub fn failure(&self, code: i32) -> Result<[&str; 2]> {
        ensure!(self.code == Some(code) && self.out.is_empty(), "instead of {code}: {self:?}");
        let lines: Vec<&str> = self.err.lines().collect();
        let [what, advice] = lines[..] else { bail!("not two lines: {}", self.err) };
        let what = what.strip_prefix("error: ").context("no error: in front")?;
        ensure!(!what.is_empty() && !advice.is_empty(), "an empty line: {}", self.err);
        Ok([what, advice])
    }
}

/// Runs an external program and returns its stdout.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let said = Said::by(Command::new(program).args(arguments))?;
    said.success().with_context(|| program.to_owned())
}

/// All of it.
#[derive(Debug)]
pub struct World {
    authority: Option<Guarded>,
    programs: Programs,
    address: String,
    pin: String,
    shown: Cell<usize>,
    clocks: Option<Clocks>,
    scratch: Scratch,
}

/// What our programs take for the time: that of the machine and so many seconds.
#[derive(Clone, Debug)]
struct Clocks {
    library: ClockLibrary,
    ahead: Cell<i64>,
}

/// What gives a program another time than the machine's: faketime.
#[derive(Clone, Debug)]
pub struct ClockLibrary(PathBuf);

impl ClockLibrary {
    /// That of the distribution.
    pub fn installed() -> Result<Self> {
        let directories = fs::read_dir("/usr/lib")?.flatten().map(|directory| directory.path());
        let libraries = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
        let library = libraries.into_iter().find(|library| library.exists());
        Ok(Self(library.context("no faketime; `cargo xtask setup` installs it")?))
    }

    /// Gives a program the wall clock in this file: how many seconds it is ahead.
    pub fn give(&self, command: &mut Command, clock: &Path) {
        command.env("LD_PRELOAD", &self.0).env("FAKETIME_TIMESTAMP_FILE", clock);
        let once = ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT"];
        command.envs(once.map(|name| (name, "1")));
    }

    /// Sets such a clock, also of a program that runs.
    pub fn set(clock: &Path, ahead: i64) -> Result<()> {
        let draft = clock.with_extension("draft");
        fs::write(&draft, format!("{ahead:+}\n"))?;
        Ok(fs::rename(draft, clock)?)
    }
}

impl World {
    /// An authority that has started for the first time and knows one bot.
    pub fn new(programs: Programs) -> Result<Self> {
        Self::with(programs, &[])
    }

    /// The same, with more arguments to `authority start`.
    pub fn with(programs: Programs, arguments: &[&str]) -> Result<Self> {
        let mut world = Self::absent(programs)?;
        world.begin(arguments)?;
        Ok(world)
    }

    fn begin(&mut self, arguments: &[&str]) -> Result<()> {
        self.start(arguments)?;
        self.create_bot()
    }

    /// Creates the bot, or replaces it.
    pub fn create_bot(&self) -> Result<()> {
        self.create(&format!(
            "kind: bot\nversion: v1\nmetadata:\n  name: {BOT}\nspec:\n  roles: []\n"
        ))
    }

    /// The same, with its own time: see [`Self::pass`].
    pub fn with_clocks(programs: Programs) -> Result<Self> {
        let mut world = Self::absent(programs)?;
        let library = ClockLibrary::installed()?;
        world.clocks = Some(Clocks { library, ahead: Cell::new(0) });
        world.pass(Duration::ZERO)?;
        world.begin(&[])?;
        Ok(world)
    }

    /// Lets time pass for all our programs, without waiting for it. Only the wall's: nothing that is being waited for
    /// comes sooner.
    pub fn pass(&self, time: Duration) -> Result<()> {
        let clocks = self.clocks.as_ref().context("a world with the machine's time")?;
        clocks.ahead.set(clocks.ahead.get() + i64::try_from(time.as_secs())?);
        self.set_clock("authority", clocks.ahead.get())?;
        self.set_clock("agent", clocks.ahead.get())
    }

    /// Sets the host's clock wrong, by so many seconds; 0 sets it right.
    pub fn set_wrong(&self, seconds: i64) -> Result<()> {
        let clocks = self.clocks.as_ref().context("a world with the machine's time")?;
        self.set_clock("agent", clocks.ahead.get() + seconds)
    }

    /// The same with the authority's clock.
    pub fn set_authority_wrong(&self, seconds: i64) -> Result<()> {
        let clocks = self.clocks.as_ref().context("a world with the machine's time")?;
        self.set_clock("authority", clocks.ahead.get() + seconds)
    }

    fn set_clock(&self, whose: &str, ahead: i64) -> Result<()> {
        ClockLibrary::set(&self.path(&format!("clock-{whose}")), ahead)
    }

    /// No authority as yet.
    pub fn absent(programs: Programs) -> Result<Self> {
        Ok(Self {
            authority: None,
            programs,
            address: "127.0.0.1:0".into(),
            pin: String::new(),
            shown: Cell::new(0),
            clocks: None,
            scratch: Scratch::new("endorse-world")?,
        })
    }

    /// Starts the authority and waits until it listens; where it did before, if it did.
    pub fn start(&mut self, arguments: &[&str]) -> Result<()> {
        let log = self.path("authority.log");
        let said = self.path("authority.out");
        let address = self.address.clone();
        let mut command = self.command(self.programs.authority);
        command.args(["start", "--listen", &address, "--cluster-name", CLUSTER]).args(arguments);
        command.env("AUTHORITY_LOG", "trace,h2=info,redb=info");
        command.stdout(File::create(&said)?);
        command.stderr(File::options().create(true).append(true).open(&log)?);
        let mut authority = Guarded::spawn(&mut command, Some(self.scratch.path()))?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let text = fs::read_to_string(&said)?;
            let word = |label| text.lines().find_map(|line| line.strip_prefix(label));
            if let (Some(address), Some(pin), true) =
                (word("Listen   "), word("CA pin   "), text.ends_with('\n'))
            {
                (self.address, self.pin) = (address.to_owned(), pin.to_owned());
                self.authority = Some(authority);
                return Ok(());
            }
            let ended = authority.exited()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("no authority ({ended:?}): {}", fs::read_to_string(&log)?);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> Result<()> {
        let authority = self.authority.take().context("it does not run")?;
        let ended = authority.terminate(TIMEOUT)?.context("it does not stop")?;
        ensure!(ended.success(), "{ended}");
        Ok(())
    }

    /// SIGTERM, without waiting.
    pub fn begin_to_stop(&self) -> Result<()> {
        let authority = self.authority.as_ref().context("it does not run")?;
        run("sh", &["-c", "kill -TERM \"$1\"", "kill", &authority.id().to_string()]).map(drop)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.authority = None;
    }

    /// Where the authority listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The pin of its CA.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// A place in the world's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// All that the authority has logged so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("authority.log"))?)
    }

    /// An operator's command.
    pub fn authority(&self, arguments: &[&str]) -> Result<Said> {
        Said::by(self.command(self.programs.authority).args(arguments))
    }

    /// A host's command.
    pub fn agent(&self, arguments: &[&str]) -> Result<Said> {
        Said::by(&mut self.agent_command(arguments))
    }

    /// A host's command, to be started otherwise.
    pub fn agent_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.programs.agent);
        command.args(arguments);
        command
    }

    /// `agent join` of this TPM into this storage.
    pub fn join(&self, tpm: &str, token: &str, storage: &str) -> Result<Said> {
        self.agent(&self.join_arguments(tpm, token, storage))
    }

    /// The same, to be started otherwise.
    pub fn join_arguments<'a>(
        &'a self,
        tpm: &'a str,
        token: &'a str,
        storage: &'a str,
    ) -> Vec<&'a str> {
        let authority = ["join", "--authority", &self.address, "--ca-pin", &self.pin];
        let host = ["--tpm", tpm, "--token", token, "--storage", storage];
        [&authority[..], &host[..]].concat()
    }

    /// What a world without our variables sees.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(self.scratch.path());
        command.env("AUTHORITY_DATA_DIR", self.path("data"));
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        if let Some(clocks) = &self.clocks {
            let whose = if program == self.programs.agent { "agent" } else { "authority" };
            clocks.library.give(&mut command, &self.path(&format!("clock-{whose}")));
        }
        command
    }

    /// Creates resources, or replaces them.
    pub fn create(&self, yaml: &str) -> Result<()> {
        fs::write(self.path("resource.yaml"), yaml)?;
        self.authority(&["create", "-f", "resource.yaml"])?.success().map(drop)
    }

    /// Creates a token that lets in what these rules allow, with certificates of these CAs if there are any.
    pub fn allow(&self, name: &str, rules: &str, cas: &[&str]) -> Result<()> {
        self.create(&token(name, rules, cas))
    }

    /// The rule that `agent identify` prints for this TPM.
    pub fn rule(&self, tpm: &str) -> Result<String> {
        self.agent(&["identify", "--tpm", tpm, "--format", "rule"])?.success()
    }

    /// What the audit log tells of hosts that was not asked for before. Waits for the first line.
    pub fn events(&self) -> Result<Vec<Value>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let text = fs::read_to_string(self.path("data/audit.jsonl"))?;
            let is_of_a_host = |line: &&str| {
                !line.contains("\"outcome\":\"done\"") && !line.contains("\"event\":\"calls.")
            };
            let hosts = text.lines().filter(is_of_a_host);
            let fresh: Vec<&str> = hosts.skip(self.shown.get()).collect();
            if !fresh.is_empty() && text.ends_with('\n') {
                self.shown.set(self.shown.get() + fresh.len());
                return fresh.into_iter().map(|line| Ok(serde_json::from_str(line)?)).collect();
            }
            ensure!(Instant::now() < deadline, "nothing comes into the audit log");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The one new line of the audit log: this refusal, of a join that was given nothing.
    pub fn refused(&self, code: &str) -> Result<Value> {
        let event = self.one_event()?;
        ensure!(event["refusal"] == code, "not {code}: {event:#}");
        ensure!(event["outcome"] == "refused" && event["code"] == "TJ001E", "{event:#}");
        for given in ["bot_instance_id", "certificate_serial", "certificate_expires"] {
            ensure!(event[given].is_null(), "{event:#}");
        }
        Ok(event)
    }

    /// The one new line of the audit log: a join that was granted.
    pub fn granted(&self) -> Result<Value> {
        let event = self.one_event()?;
        ensure!(event["outcome"] == "granted" && event["code"] == "TJ001I", "{event:#}");
        ensure!(event["refusal"].is_null(), "{event:#}");
        Ok(event)
    }

    fn one_event(&self) -> Result<Value> {
        let mut events = self.events()?;
        ensure!(events.len() == 1, "not one line: {events:#?}");
        events.pop().context("a line")
    }

    /// How many hosts have joined.
    pub fn instances(&self) -> Result<usize> {
        let list = self.authority(&["get", "bot_instances", "--format", "json"])?.success()?;
        let list: Vec<Value> = serde_json::from_str(&list)?;
        Ok(list.len())
    }
}

/// A token as the guide writes it.
pub fn token(name: &str, rules: &str, cas: &[&str]) -> String {
    let mut yaml = format!(
        "kind: token\nversion: v2\nmetadata:\n  name: {name}\nspec:\n  roles: [Bot]\n  join_method: tpm\n  \
         bot_name: {BOT}\n  tpm:\n"
    );
    let mut list = |key: &str, items: &mut dyn Iterator<Item = String>| {
        yaml.push_str(&format!("    {key}:\n"));
        items.for_each(|line| yaml.push_str(&format!("      {line}\n")));
    };
    if !cas.is_empty() {
        let certificate = |pem: &&str| {
            let begin = pem.find("-----BEGIN").unwrap_or_default();
            let lines = pem[begin..].lines().map(|line| format!("  {line}"));
            ["- |".to_owned()].into_iter().chain(lines).collect::<Vec<_>>()
        };
        list("ekcert_allowed_cas", &mut cas.iter().flat_map(certificate));
    }
    list("allow", &mut rules.lines().map(str::to_owned));
    yaml
}

/// The names in a directory, sorted; none if it is not there.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
