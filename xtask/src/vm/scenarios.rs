//! What is played in guests: a script there, and what has to be true of it here. One more scenario
//! is one more entry, and a script.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use testkit::child::Scratch;
use testkit::swtpm::Kind;

use super::Played;
use super::play::Part;
use crate::cargo;

/// One boot of a guest.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The TPM that the guest has.
    pub tpm: Kind,
    /// What the guest runs, with `steps.sh` at hand.
    pub script: &'static [u8],
    /// Variables for it, besides AUTHORITY, TOKEN, PIN and DESK.
    pub settings: &'static str,
    /// Examples of the crate `tpm2` that it runs.
    pub examples: &'static [&'static str],
    /// What has to be true afterwards. That the TPM holds nothing of ours is seen to for all.
    pub check: fn(&Played) -> Result<()>,
}

impl Part for Scenario {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// All of them.
pub const SCENARIOS: [Scenario; 12] = [
    Scenario {
        name: "boot",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/boot.sh"),
        settings: "",
        examples: &[],
        check: boot,
    },
    Scenario {
        name: "join",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/join.sh"),
        settings: "",
        examples: &[],
        check: joined,
    },
    Scenario {
        name: "together",
        tpm: Kind::P256NotPersistent,
        script: include_bytes!("scripts/together.sh"),
        settings: "SECONDS_LONG=60",
        examples: &[],
        check: together,
    },
    Scenario {
        name: "killed",
        tpm: Kind::P256NotPersistent,
        script: include_bytes!("scripts/killed.sh"),
        settings: "KILLS=40",
        examples: &[],
        check: killed,
    },
    Scenario {
        name: "struck",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/struck.sh"),
        settings: STRUCK,
        examples: &[],
        check: struck,
    },
    Scenario {
        name: "daemon",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/daemon.sh"),
        settings: "",
        examples: &[],
        check: daemon,
    },
    Scenario {
        name: "signals",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/signals.sh"),
        settings: "",
        examples: &[],
        check: signals,
    },
    Scenario {
        name: "device",
        tpm: Kind::P256,
        script: include_bytes!("scripts/device.sh"),
        settings: "",
        examples: &[],
        check: device,
    },
    Scenario {
        name: "vanish",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/vanish.sh"),
        settings: "",
        examples: &[],
        check: vanish,
    },
    Scenario {
        name: "full",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/full.sh"),
        settings: "",
        examples: &["slots"],
        check: full,
    },
    Scenario {
        name: "quote",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/quote.sh"),
        settings: NONCE,
        examples: &["quote"],
        check: quote,
    },
    Scenario {
        name: "doctor",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/doctor.sh"),
        settings: "",
        examples: &[],
        check: doctor,
    },
];

/// The commands of a join, in their order: code, and for the how manieth time. NV_Read twice,
/// StartAuthSession, CreatePrimary, PolicySecret, ActivateCredential, Sign.
const JOIN: [&str; 7] = ["14e:1", "14e:2", "176:1", "131:1", "151:1", "147:1", "15d:1"];
/// Those of a renewal: CreatePrimary, Sign.
const RENEWAL: [&str; 2] = ["131:1", "15d:1"];
/// The same for the script.
const STRUCK: &str = "JOIN='14e:1 14e:2 176:1 131:1 151:1 147:1 15d:1'\nRENEWAL='131:1 15d:1'";
/// What the resource manager says to the TPM on its own: ContextLoad, ContextSave, FlushContext; and
/// GetRandom, with which the kernel fills its pool.
const KERNELS: [&str; 4] = ["161", "162", "165", "17b"];

/// What a verifier asks, for the script.
const NONCE: &str = "NONCE=5468697274792d74776f206f6374657473206f6620667265736820617269722e";
/// SHA-256 of four bytes of FFh: what this firmware measures when it hands over.
const SEPARATOR: [u8; 32] = [
    0xad, 0x95, 0x13, 0x1b, 0xc0, 0xb7, 0x99, 0xc0, 0xb1, 0xaf, 0x47, 0x7f, 0xb1, 0x4f, 0xcf, 0x26,
    0xa6, 0xa9, 0xf7, 0x60, 0x79, 0xe4, 0x8b, 0xf0, 0x90, 0xac, 0xb7, 0xe8, 0x36, 0x7b, 0xfd, 0x0e,
];

/// The log of the firmware leads to the PCRs, as computed by other software.
fn boot(played: &Played) -> Result<()> {
    let report = &played.report;
    let scratch = Scratch::new("endorse-vm-log")?;
    let log = scratch.path().join("log");
    fs::write(&log, decoded(report.success("events")?)?)?;
    let said = Command::new("tpm2_eventlog").arg(&log).output().context("tpm2_eventlog")?;
    let said = String::from_utf8_lossy(&said.stdout).to_lowercase();
    let (_, computed) = said.rsplit_once("  sha256:\n").context("no PCRs of the log")?;
    let pcrs: Vec<_> = report.success("pcrs")?.lines().filter_map(|l| l.split_once(' ')).collect();
    ensure!(pcrs.len() == 24, "{} PCRs", pcrs.len());
    let mut compared = 0;
    for line in computed.lines().map_while(|line| line.strip_prefix("    ")) {
        let (number, value) = line.split_once(':').context("a PCR")?;
        let found = pcrs.iter().find(|(found, _)| *found == number.trim());
        let (_, found) = found.with_context(|| format!("no PCR {number}"))?;
        let value = value.trim().trim_start_matches("0x");
        ensure!(value == found.to_lowercase(), "PCR {number}: {found}, by the log {value}");
        compared += 1;
    }
    ensure!(compared >= 8, "the log has {compared} PCRs only:\n{said}");
    Ok(())
}

/// Decodes base64 with an external program.
fn decoded(base64: &str) -> Result<Vec<u8>> {
    let mut command = Command::new("base64");
    command.arg("--decode").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut decode = command.spawn().context("cannot run base64")?;
    let mut pipe = decode.stdin.take().context("no pipe")?;
    let text = base64.to_owned();
    let writer = thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = decode.wait_with_output()?;
    writer.join().expect("writing does not panic")?;
    ensure!(output.status.success(), "this is no base64:\n{base64}");
    Ok(output.stdout)
}

/// The kernel's device shows the same TPM, and a join through its resource manager is good.
fn joined(played: &Played) -> Result<()> {
    let report = &played.report;
    let inside: Value = serde_json::from_str(report.success("identify")?)?;
    let outside: Value = serde_json::from_str(&played.agent(&["identify", "--format", "json"])?)?;
    ensure!(inside == outside, "identify says {inside} in the guest and {outside} outside");
    for name in ["join", "status", "whoami"] {
        let said = report.success(name)?;
        ensure!(said.contains("demo-bot"), "{name} does not name the bot:\n{said}");
    }
    let audit = played.authority.audit()?;
    let granted = audit.iter().filter(|line| line.contains("demo-bot"));
    ensure!(granted.count() >= 1, "the audit log knows of no join: {audit:?}");
    Ok(())
}

fn together(played: &Played) -> Result<()> {
    let report = &played.report;
    let said = report.success("join")?;
    ensure!(said.matches("Joined cluster").count() == 2, "not two joins:\n{said}");
    let said = report.success("whoami")?;
    let counts = said.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<u32>().ok());
    let counts: Vec<_> = counts.collect();
    ensure!(counts.len() == 2 && counts.iter().all(|times| *times >= 5), "not two:\n{said}");
    Ok(())
}

fn killed(played: &Played) -> Result<()> {
    let report = &played.report;
    let ends: Vec<i32> = report
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("killed ")?.split_once(": ")?.1.parse().ok())
        .collect();
    ensure!(ends.len() == 40, "{} joins, not 40", ends.len());
    ensure!(ends.iter().all(|end| [0, 137].contains(end)), "a join failed by itself: {ends:?}");
    let hit = ends.iter().filter(|end| **end == 137).count();
    ensure!(hit >= 20, "only {hit} of 40 were hit while they ran");
    report.success("clean").context("the join after the kills")?;
    report.success("whoami").map(drop)
}

fn device(played: &Played) -> Result<()> {
    let report = &played.report;
    report.refused("held", 75, &["/dev/tpm0"])?;
    report.refused("stranger", 77, &["/dev/tpmrm0", "tss"])?;
    report.refused("absent", 74, &["/dev/tpmrm7"])?;
    let outside = played.agent(&["identify"])?;
    for name in ["beside", "free", "member"] {
        let said = report.success(name)?;
        ensure!(said == outside, "{name} shows another TPM:\n{said}");
    }
    Ok(())
}

fn struck(played: &Played) -> Result<()> {
    let report = &played.report;
    let joins = JOIN.map(str::to_owned);
    for command in joins.into_iter().chain(RENEWAL.map(|code| format!("{code} renewal"))) {
        let code = command.split(':').next().unwrap_or_default();
        report.success(&format!("{command} armed"))?;
        let said = report.success(&format!("{command} struck"))?;
        ensure!(said.starts_with(&format!("held {code}\n")), "{command}: {said}");
        nothing_loaded(report.success(&format!("{command} left"))?)?;
        report.success(&format!("{command} clean"))?;
    }
    for command in RENEWAL {
        report.success(&format!("{command} renewal ready"))?;
    }
    report.success("ended").map(drop)
}

/// The commands that an agent sent to the TPM.
fn sent(codes: &str) -> Vec<&str> {
    codes.split_whitespace().filter(|code| !KERNELS.contains(code)).collect()
}

fn daemon(played: &Played) -> Result<()> {
    let report = &played.report;
    let codes = |list: &[&'static str]| -> Vec<&str> {
        list.iter().filter_map(|one| one.split(':').next()).collect()
    };
    for name in ["ready", "renewed", "issued", "again", "read", "status", "asked", "both"] {
        report.success(name)?;
    }
    let joining = sent(report.success("joining")?);
    // The service's certificates come over a connection on which the host signs.
    let expected = [codes(&JOIN), codes(&RENEWAL)].concat();
    ensure!(joining == expected, "a join sent the TPM {joining:?}");
    let renewing = sent(report.success("renewing")?);
    ensure!(renewing == codes(&RENEWAL), "a renewal sent the TPM {renewing:?}");
    for name in ["beside", "whoami"] {
        ensure!(report.success(name)?.contains("demo-bot"), "{name} does not name the bot");
    }
    for name in ["same", "into"] {
        report.refused(name, 75, &["another agent"])?;
    }
    for name in ["ended", "socket", "restarted", "ended-too"] {
        report.success(name)?;
    }
    let restarting = sent(report.success("restarting")?);
    ensure!(restarting.is_empty(), "a restart sent the TPM {restarting:?}");
    let log = report.success("log")?;
    ensure!(log.matches(" ended").count() == 2 && !log.contains("WARN"), "the log:\n{log}");
    Ok(())
}

fn signals(played: &Played) -> Result<()> {
    let report = &played.report;
    for name in ["armed", "held", "storm", "storm-too", "release", "renewed", "again", "ended"] {
        report.success(name)?;
    }
    let log = report.success("log")?;
    ensure!(!log.contains("not renewed"), "a signal broke something:\n{log}");
    Ok(())
}

fn vanish(played: &Played) -> Result<()> {
    let report = &played.report;
    for name in ["ready", "unbind", "gone", "noticed", "bind", "healed", "served", "armed"] {
        report.success(name)?;
    }
    report.success("unhealthy").map(drop)?;
    report.refused("alone", 74, &["/dev/tpmrm0"])?;
    for name in ["held", "unbound", "noticed-too", "bind-again", "healed-too", "healthy", "ended"] {
        report.success(name)?;
    }
    Ok(())
}

fn full(played: &Played) -> Result<()> {
    let report = &played.report;
    for name in ["fourth", "said"] {
        let said = report.success(name)?;
        ensure!(said.contains("full with 3 objects"), "{name}:\n{said}");
        ensure!(said.contains("TPM_RC_OBJECT_MEMORY"), "{name}:\n{said}");
    }
    report.refused("join", 75, &["object"])?;
    report.success("room").map(drop)
}

/// A verifier believes the boot, and neither another log nor an answer to another question.
fn quote(played: &Played) -> Result<()> {
    let report = &played.report;
    let scratch = Scratch::new("endorse-vm-quote")?;
    let directory = scratch.path();
    report.success("quote")?;
    for name in ["public", "attest", "signature", "log"] {
        fs::write(directory.join(name), decoded(report.success(name)?)?)?;
    }
    let (_, nonce) = NONCE.split_once('=').context("no nonce")?;
    let said = verdict(nonce, directory)?.map_err(|said| anyhow!("not believed: {said}"))?;
    for pcr in report.success("pcrs")?.lines() {
        let found = said.lines().find_map(|line| line.strip_prefix(&pcr.to_lowercase()));
        let events = found.with_context(|| format!("PCR {pcr} is not among:\n{said}"))?;
        ensure!(events != " 0 events", "nothing was measured into PCR {pcr}:\n{said}");
    }
    ensure!(said.lines().count() == 8, "not eight PCRs:\n{said}");

    let refused = |nonce: &str, words: &str| match verdict(nonce, directory)? {
        Err(said) if said.contains(words) => Ok(()),
        other => bail!("{other:?} does not say {words:?}"),
    };
    refused(&nonce.replace('0', "1"), "another nonce")?;
    let log = fs::read(directory.join("log"))?;
    let separator = log.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR);
    let separator = separator.context("the log has no separator")?;
    let mut changed = log.clone();
    changed[separator] ^= 1;
    for (other, words) in [(&changed[..], "PCRs"), (&log[..log.len() - 1], "cut short")] {
        fs::write(directory.join("log"), other)?;
        refused(nonce, words)?;
    }
    Ok(())
}

/// What a verifier says of a boot: the example `boot` of the crate `verifier`.
fn verdict(nonce: &str, directory: &Path) -> Result<Result<String, String>> {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--package",
        "tpm2-verifier",
        "--example",
        "boot",
        "--",
        nonce,
    ]);
    let output =
        command.arg(directory).stdin(Stdio::null()).output().context("cannot run cargo")?;
    let said = if output.status.success() { Ok(output.stdout) } else { Err(output.stderr) };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(said.map(text).map_err(text))
}

fn doctor(played: &Played) -> Result<()> {
    let report = &played.report;
    for name in ["healthy", "before", "ready", "after", "ended", "beside", "free", "member"] {
        let said = report.success(name)?;
        ensure!(!said.contains("FAIL"), "{name}:\n{said}");
    }
    let says = |name: &str, line: &[&str]| {
        let said = &report.step(name)?.output;
        let found = said.lines().any(|said| line.iter().all(|words| said.contains(words)));
        ensure!(found, "{name} has no line with {line:?}:\n{said}");
        Ok(())
    };
    says("healthy", &["ok    device", "driver tpm_tis", "resource manager"])?;
    says("healthy", &["ok    endorsement-key", "matches the key"])?;
    says("before", &["ok    storage", "does not exist yet"])?;
    says("after", &["ok    storage", "demo-bot"])?;
    for name in ["before", "after"] {
        says(name, &["ok    authority"])?;
    }
    says("free", &["warn  device", "only one program"])?;
    says("member", &["ok    access", "member"])?;
    report.refused("held", 75, &["FAIL  access", "/dev/tpm0 is in use by process", "(sh)"])?;
    report.refused("stranger", 77, &["FAIL  access", "root:tss", "mode 0660", "stranger"])?;
    report.refused("absent", 74, &["FAIL  device", "the kernel has tpm0 (driver tpm_tis)"])?;
    report.refused("none", 74, &["FAIL  device", "no driver is bound to it", "modprobe"])
}

/// The TPM has no objects and no sessions, as the script's `handles` says it.
pub(super) fn nothing_loaded(said: &str) -> Result<()> {
    for kind in ["02", "03", "80"] {
        // moreData, capability; count
        let none = format!("{kind}: 00000000 00000000\n");
        ensure!(said.contains(&none), "the TPM still holds handles of type {kind}:\n{said}");
    }
    Ok(())
}
