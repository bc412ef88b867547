//! TPMs whose hierarchies have passwords, set by tpm2-tools: they are proven and never said.

use std::cell::Cell;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::bus::command_code;
use testkit::swtpm::{Kind, Swtpm};
use testkit::tap::Tap;
use tests::programs;
use tests::tpm::{ek_kind, start_tcp, way};
use tests::world::{Said, TIMEOUT, World, run};
use tpm2::Tpm;
use tpm2::commands::{Command, CreatePrimary, FlushContext, by_code};
use tpm2::endorsement::{self, Passwords};
use tpm2::session::Auth;
use tpm2::transport::{Exchange, Record, Recording};

const PASSWORD: &str = "correct horse battery";
const FILE: &str = "--endorsement-password-file";

/// A TPM whose endorsement hierarchy has a password, a world that lets it in, and the password's file.
struct Guarded {
    swtpm: Swtpm,
    world: World,
    tap: Tap,
    /// How much of what the tap has recorded is of the past.
    past: Cell<usize>,
}

impl Guarded {
    fn new(kind: Kind) -> Result<Self> {
        let swtpm = start_tcp(kind)?;
        let world = World::new(programs!())?;
        world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
        swtpm.tool("tpm2_changeauth", &["-c", "endorsement", PASSWORD])?;
        let tap = Tap::new(&swtpm)?;
        let guarded = Self { swtpm, world, tap, past: Cell::new(0) };
        guarded.file("password", PASSWORD)?;
        Ok(guarded)
    }

    fn file(&self, name: &str, content: &str) -> Result<()> {
        fs::write(self.world.path(name), format!("{content}\n"))?;
        Ok(fs::set_permissions(self.world.path(name), Permissions::from_mode(0o600))?)
    }

    fn join(&self, more: &[&str]) -> Result<Said> {
        let tcti = self.tap.tcti();
        let arguments = self.world.join_arguments(&tcti, "t", "storage");
        self.said(&[&arguments[..], more].concat())
    }

    fn whoami(&self, more: &[&str]) -> Result<Said> {
        let tcti = self.tap.tcti();
        self.said(&[&["whoami", "--storage", "storage", "--tpm", &tcti][..], more].concat())
    }

    /// Whatever an agent says, and whatever goes over the bus, the password is not in it.
    fn said(&self, arguments: &[&str]) -> Result<Said> {
        self.forget();
        let said = self.world.agent(arguments)?;
        ensure!(!said.out.contains(PASSWORD) && !said.err.contains(PASSWORD), "{said:?}");
        ensure!(!is_on(&self.recent()), "the password is on the bus");
        ensure!(!self.world.log()?.contains(PASSWORD), "the password is in the authority's log");
        Ok(said)
    }

    fn forget(&self) {
        self.past.set(self.tap.recording().exchanges().len());
    }

    fn recent(&self) -> Vec<Exchange> {
        self.tap.recording().exchanges().split_off(self.past.get())
    }

    /// The commands of the last agent, without flushes.
    fn commands(&self) -> Vec<&'static str> {
        let exchanges = self.recent();
        let codes = exchanges.iter().map(|exchange| command_code(&exchange.command));
        let codes = codes.filter(|code| *code != FlushContext::INFO.code);
        codes.filter_map(by_code).map(|info| info.name.trim_start_matches("TPM2_")).collect()
    }

    /// How many wrong guesses the TPM has counted.
    fn failures(&self) -> Result<String> {
        let properties = self.swtpm.tool("tpm2_getcap", &["properties-variable"])?;
        let counter = properties.lines().find(|line| line.starts_with("TPM2_PT_LOCKOUT_COUNTER"));
        Ok(counter.context("no counter")?.to_owned())
    }
}

/// Whether the password can be read on the bus, as it is or as it stands in any form of its bytes.
fn is_on(exchanges: &[Exchange]) -> bool {
    let password = PASSWORD.as_bytes();
    let has = |octets: &[u8]| octets.windows(password.len()).any(|window| window == password);
    exchanges.iter().any(|exchange| has(&exchange.command) || has(&exchange.response))
}

const GUARDED: [&str; 2] = [FILE, "password"];

#[test]
fn password_costs_at_most_one_more_command() -> Result<()> {
    let [read, start, create] = ["NV_Read", "StartAuthSession", "CreatePrimary"];
    let [policy, activate, sign] = ["PolicySecret", "ActivateCredential", "Sign"];
    let low = [start, create, start, policy, activate, sign];
    let high = [start, create, activate, sign];
    for (kind, ek, expected) in [
        (Kind::RsaAndP384, "rsa2048", &low[..]),
        (Kind::P256, "p256", &low[..]),
        (Kind::P384Only, "p384", &high[..]),
    ] {
        let guarded = Guarded::new(kind)?;
        let before = guarded.swtpm.handles()?;
        guarded.join(&[&GUARDED[..], &["--ek", ek]].concat())?.success()?;
        assert_eq!(guarded.commands(), [&[read, read][..], expected].concat(), "{kind:?}");
        guarded.join(&GUARDED)?.success()?;
        assert_eq!(guarded.commands(), expected, "{kind:?}, the certificate known");
        guarded.whoami(&GUARDED)?.success()?;
        assert_eq!(guarded.commands(), [start, create, sign], "{kind:?}");
        assert_eq!(guarded.swtpm.handles()?, before, "{kind:?}");
    }
    Ok(())
}

#[test]
fn an_ek_that_has_to_be_made_is_made_in_a_session_that_is_salted_all_the_same() -> Result<()> {
    for kind in [Kind::RsaNotPersistent, Kind::P256NotPersistent, Kind::NoCertificates] {
        let guarded = Guarded::new(kind)?;
        let before = guarded.swtpm.handles()?;
        let tcti = guarded.tap.tcti();
        let identify = ["identify", "--tpm", &tcti, "--format", "json"];
        guarded.said(&[&identify[..], &GUARDED].concat())?.success()?;
        guarded.join(&GUARDED)?.success()?;
        guarded.whoami(&GUARDED)?.success()?;
        let make = ["CreatePrimary", "StartAuthSession", "CreatePrimary", "Sign"];
        let commands = guarded.commands();
        assert!(commands.ends_with(&make), "{kind:?}: {commands:?}");
        assert!(commands.len() <= make.len() + 2, "{kind:?}: {commands:?}");
        assert_eq!(guarded.swtpm.handles()?, before, "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_wrong_password_is_tried_once_and_costs_no_attempt() -> Result<()> {
    for kind in [Kind::RsaAndP384, Kind::P256, Kind::P256NotPersistent, Kind::P384Only] {
        let guarded = Guarded::new(kind)?;
        guarded.join(&GUARDED)?.success()?;
        guarded.file("wrong", "incorrect horse")?;
        let (before, failures) = (guarded.swtpm.handles()?, guarded.failures()?);
        for said in [guarded.join(&[FILE, "wrong"])?, guarded.whoami(&[FILE, "wrong"])?] {
            let [what, advice] = said.failure(77)?;
            assert!(what.contains("wrong password for the TPM's endorsement hierarchy"), "{what}");
            assert!(advice.contains(FILE), "{advice}");
        }
        let in_the_hierarchy = |exchange: &&Exchange| {
            command_code(&exchange.command) == CreatePrimary::INFO.code
                && exchange.command[10..14] == [0x40, 0, 0, 0x0b]
        };
        let exchanges = guarded.recent();
        assert_eq!(exchanges.iter().filter(in_the_hierarchy).count(), 1, "{kind:?}");
        assert_eq!(guarded.failures()?, failures, "{kind:?}");
        assert_eq!(guarded.swtpm.handles()?, before, "{kind:?}");
        guarded.whoami(&GUARDED)?.success()?;
    }
    Ok(())
}

#[test]
fn a_missing_password_is_asked_for() -> Result<()> {
    for kind in [Kind::RsaAndP384, Kind::P256, Kind::P384Only, Kind::NoCertificates] {
        let guarded = Guarded::new(kind)?;
        let said = guarded.join(&[])?;
        let [what, advice] = said.failure(77)?;
        assert!(what.contains("endorsement hierarchy has a password"), "{kind:?}: {what}");
        assert!(advice.contains("--endorsement-password-file"), "{advice}");
        assert!(advice.contains("endorsement_password_file"), "{advice}");
        guarded.join(&GUARDED)?.success()?;
        assert!(guarded.whoami(&[])?.failure(77)?[0].contains("has a password"), "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_password_file_that_others_can_read_is_not_used() -> Result<()> {
    let guarded = Guarded::new(Kind::P256)?;
    fs::set_permissions(guarded.world.path("password"), Permissions::from_mode(0o644))?;
    let said = guarded.join(&GUARDED)?;
    assert!(said.failure(77)?[0].contains("other users can read the file"), "{said:?}");
    assert!(guarded.commands().is_empty(), "the TPM was not needed to see it");
    Ok(())
}

#[test]
fn a_password_that_is_not_needed_does_no_harm() -> Result<()> {
    let guarded = Guarded::new(Kind::P256)?;
    guarded.swtpm.tool("tpm2_changeauth", &["-c", "endorsement", "-p", PASSWORD, ""])?;
    let said = guarded.join(&GUARDED)?;
    assert!(said.failure(77)?[0].contains("wrong password"), "{said:?}");
    guarded.join(&[])?.success()?;
    Ok(())
}

/// A check that can fail: said as a password, it is there.
#[test]
fn a_plain_client_says_the_password() -> Result<()> {
    let guarded = Guarded::new(Kind::P256)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&guarded.swtpm)?, recording.clone()));
    tpm.run(&tests::tpm::create_join_key(&[7; 32]), [Auth::password(PASSWORD.as_bytes())])?;
    assert!(is_on(&recording.exchanges()));
    Ok(())
}

#[test]
fn a_certificate_that_only_the_owner_may_read() -> Result<()> {
    let swtpm = start_tcp(Kind::P256)?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let index = "0x01c0000a";
    swtpm.tool("tpm2_nvread", &[index, "-C", index, "-o", &path("ek.der")])?;
    let der = fs::read(path("ek.der"))?;
    let size = der.len().to_string();
    swtpm.tool("tpm2_nvundefine", &[index, "-C", "p"])?;
    let attributes = "ppwrite|ownerread|no_da|platformcreate";
    swtpm.tool("tpm2_nvdefine", &[index, "-C", "p", "-s", &size, "-a", attributes])?;
    swtpm.tool("tpm2_nvwrite", &[index, "-C", "p", "-i", &path("ek.der")])?;
    let read = |passwords| {
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
        let read = endorsement::certificate(&mut tpm, ek_kind("p256"), passwords);
        drop(tpm);
        ensure!(!is_on(&recording.exchanges()), "the password is on the bus");
        Ok(read)
    };
    assert_eq!(read(Passwords::NONE)??, Some(der.clone()), "the owner has no password");
    let before = swtpm.handles()?;
    swtpm.tool("tpm2_changeauth", &["-c", "owner", PASSWORD])?;
    let owner = Passwords { owner: PASSWORD.as_bytes(), ..Passwords::NONE };
    assert_eq!(read(owner)??, Some(der));
    assert_eq!(swtpm.handles()?, before);

    let world = World::new(programs!())?;
    fs::write(world.path("owner"), PASSWORD)?;
    fs::set_permissions(world.path("owner"), Permissions::from_mode(0o600))?;
    let tcti = swtpm.tcti();
    let identify = ["identify", "--ek", "p256", "--tpm", &tcti];
    let file = ["--owner-password-file", "owner"];
    let said = world.agent(&[&identify[..], &file].concat())?.success()?;
    assert!(said.contains("EKCert Detected: true"), "{said}");
    let said = world.agent(&identify)?;
    assert!(said.failure(77)?[0].contains("owner hierarchy has a password"), "{said:?}");
    fs::write(world.path("owner"), "another")?;
    let said = world.agent(&[&identify[..], &file].concat())?;
    assert!(
        said.failure(77)?[0].contains("wrong password for the TPM's owner hierarchy"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn a_daemon_joins_waits_for_the_right_password_and_renews() -> Result<()> {
    let guarded = Guarded::new(Kind::RsaAndP384)?;
    guarded.file("password", "not yet")?;
    let place = |name: &str| guarded.world.path(name).display().to_string();
    let config = format!(
        "version: v2\nproxy_server: {}\nonboarding:\n  token: t\n  ca_pins: [{}]\nstorage: {}\n\
         tpm:\n  address: {}\n  endorsement_password_file: {}\n\
         services:\n  - type: x509\n    name: web\n    destination: {}\n",
        guarded.world.address(),
        guarded.world.pin(),
        place("bot"),
        guarded.tap.tcti(),
        place("password"),
        place("web"),
    );
    fs::write(guarded.world.path("tbot.yaml"), config)?;
    let log = fs::File::create(guarded.world.path("agent.log"))?;
    let mut daemon = guarded.world.agent_command(&["start", "-c", "tbot.yaml", "-d"]);
    let mut daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
    let logged = |words: &str, times: usize| -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let log = fs::read_to_string(guarded.world.path("agent.log"))?;
            if log.matches(words).count() >= times {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not {times} times {words:?}: {log}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let signal =
        |signal: &str| run("sh", &["-c", "kill -$1 $2", "kill", signal, &daemon.id().to_string()]);
    let lived = (|| {
        logged("wrong password for the TPM's endorsement hierarchy", 1)?;
        guarded.file("password", PASSWORD)?;
        signal("HUP")?;
        logged("joined", 1)?;
        logged("issued", 1)?;
        guarded.forget();
        signal("USR1")?;
        logged("renewed", 1)?;
        assert_eq!(guarded.commands(), ["StartAuthSession", "CreatePrimary", "Sign"]);
        signal("TERM").map(drop)
    })();
    if lived.is_err() {
        daemon.kill()?;
    }
    let ended = daemon.wait()?;
    lived?;
    ensure!(ended.success(), "{ended}");
    assert!(!is_on(&guarded.tap.recording().exchanges()));
    let log = fs::read_to_string(guarded.world.path("agent.log"))?;
    assert!(!log.contains(PASSWORD) && !log.contains("not yet"), "{log}");
    Ok(())
}
