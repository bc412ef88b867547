//! Checks everything that a join depends on, in this order: the device, the TPM, its keys, the host and the authority. It
//! changes nothing and leaves nothing behind.

mod advisory;
mod chip;
mod device;
mod endorsement;
mod services;
mod system;
mod trust_bundle;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use host::exit::{Exit, Failure};
use serde::Serialize;
use tpm2::transport::Tcti;

use self::chip::{Properties, Through};
use crate::config::TpmSettings;
use crate::tpm::thread::{Audience, End, Meter, Tpm, TpmThread};

pub use self::system::Configured;

/// Time limit of a simple command; a TPM that takes longer is in use or broken.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No problem.
    Ok,
    /// Not checked because of an earlier failure.
    Skip,
    /// A join works, but an operator should know.
    Warn,
    /// A join does not work.
    Fail,
}

/// The subject of a check. The names in JSON are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// Whether the kernel has a TPM 2.0, under which driver.
    Device,
    /// Whether we may open it, and whether another process holds it.
    Access,
    /// Whether it answers, and as what.
    Answer,
    /// Who made it.
    Maker,
    /// Its version, and what is known against it.
    Firmware,
    /// Whether it is locked out, and for how long.
    Lockout,
    /// Whether its hierarchies are there, and have passwords.
    Hierarchies,
    /// What others left in it.
    Handles,
    /// Its clock.
    TpmClock,
    /// The host's clock.
    Clock,
    /// An endorsement key and its certificate.
    EndorsementKey,
    /// The agent's configuration.
    Configuration,
    /// Where the identity is, and whose it is.
    Storage,
    /// The CAs that are trusted since the join.
    TrustBundle,
    /// Whether it can be reached and is the one that is trusted.
    Authority,
    /// Which services keep their keys in the TPM.
    ServiceKeys,
    /// How workloads are attested.
    Attestation,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The subject.
    pub name: Topic,
    /// The result.
    pub verdict: Verdict,
    /// What was found.
    pub finding: String,
    /// What to do about it; absent if there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The exit code that a join would have.
    #[serde(skip)]
    exit: Option<Exit>,
}

impl Check {
    fn ok(name: Topic, finding: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, finding: finding.into(), advice: None, exit: None }
    }

    fn skip(name: Topic, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, ..Self::ok(name, why) }
    }

    fn warn(name: Topic, finding: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, advice: Some(advice.into()), ..Self::ok(name, finding) }
    }

    fn fail(name: Topic, failure: Failure) -> Self {
        let advice = Some(failure.advice).filter(|advice| !advice.is_empty());
        let exit = Some(failure.exit);
        Self { verdict: Verdict::Fail, advice, exit, ..Self::ok(name, failure.message) }
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst result.
    pub verdict: Verdict,
    /// How many commands the TPM was given.
    pub tpm_commands: u64,
    /// Line by line.
    pub checks: Vec<Check>,
}

impl Report {
    /// The first failure, which is also what a join would fail with.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.checks.iter().find_map(|check| {
            let advice = check.advice.clone().unwrap_or_default();
            Some(Failure::new(check.exit?, check.finding.clone(), advice))
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { name, verdict, finding, advice, .. } in &self.checks {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Skip => "skip",
                Verdict::Warn => "warn",
                Verdict::Fail => "FAIL",
            };
            writeln!(f, "{verdict:<5} {:<15} {}", name.word(), host::terminal::one_line(finding))?;
            if let Some(advice) = advice {
                writeln!(f, "{:21} > {}", "", host::terminal::one_line(advice))?;
            }
        }
        Ok(())
    }
}

impl Topic {
    const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Access => "access",
            Self::Answer => "answer",
            Self::Maker => "maker",
            Self::Firmware => "firmware",
            Self::Lockout => "lockout",
            Self::Hierarchies => "hierarchies",
            Self::Handles => "handles",
            Self::TpmClock => "tpm-clock",
            Self::Clock => "clock",
            Self::EndorsementKey => "endorsement-key",
            Self::Configuration => "configuration",
            Self::Storage => "storage",
            Self::TrustBundle => "trust-bundle",
            Self::Authority => "authority",
            Self::ServiceKeys => "service-keys",
            Self::Attestation => "attestation",
        }
    }
}

/// Checks a TPM and, if there is a configuration, the host and the authority.
pub async fn examine(tpm: &TpmSettings, configured: &Configured, wall: i64) -> Report {
    let root = Path::new("/");
    let meter = Meter::default();
    let address = &tpm.address;
    let settings = configured.settings();
    let mut checks = Vec::new();
    if let Tcti::Device(path) = address {
        checks.push(device::examine(root, path));
    }
    let mut keys = Vec::new();
    if checks.iter().any(|check| check.verdict == Verdict::Fail) {
        checks.push(Check::skip(Topic::Access, "no TPM is available"));
    } else {
        match TpmThread::open_async(address, meter.clone(), Audience::Person).await {
            Err(failure) => checks.push(device::refused(root, address, failure)),
            Ok(opened) => {
                checks.push(device::opened(root, address));
                let patient = Patient { root, settings: tpm, wall };
                keys = patient.examine(opened, &mut checks).await;
            }
        }
    }
    checks.push(system::clock(wall));
    checks.push(configured.check());
    if let Some(settings) = settings {
        let (check, identity) = system::storage(settings, &keys, wall);
        checks.push(check);
        if let Some(identity) = &identity {
            checks.extend(trust_bundle::examine(identity, &settings.trust, wall));
        }
        checks.extend(services::examine(settings));
        system::authority(settings, identity.as_ref(), &mut checks).await;
    }
    let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    Report { verdict, tpm_commands: meter.read().0, checks }
}

/// A TPM that is open.
struct Patient<'a> {
    root: &'a Path,
    settings: &'a TpmSettings,
    wall: i64,
}

impl Patient<'_> {
    /// Asks the TPM, and returns the hashes of its good endorsement keys.
    async fn examine(&self, (tpm, end): (TpmThread, End), checks: &mut Vec<Check>) -> Vec<String> {
        let asked = tpm.call(Properties::read);
        let properties = match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
            Ok(Ok(properties)) => properties,
            Ok(Err(failure)) => {
                checks.push(Check::fail(Topic::Answer, failure));
                return Vec::new();
            }
            Err(_) => {
                // Waiting for the thread's end would hang too.
                std::mem::forget(end);
                checks.push(Check::fail(Topic::Answer, silent()));
                return Vec::new();
            }
        };
        checks.push(chip::answer(&properties));
        checks.push(chip::maker(&properties));
        checks.push(chip::firmware(self.root, &properties));
        checks.push(chip::lockout(&properties));
        checks.push(chip::hierarchies(&properties, &self.settings.passwords));

        let through = Through::of(&self.settings.address);
        let handles = move |tpm: &mut Tpm| chip::handles(tpm, &properties, through);
        match tpm.call(handles).await {
            Ok(check) => checks.push(check),
            Err(failure) => checks.push(Check::fail(Topic::Handles, failure)),
        }
        match tpm.call(chip::clock).await {
            Ok(check) => checks.push(check),
            Err(failure) => checks.push(Check::fail(Topic::TpmClock, failure)),
        }
        let keys = match self.settings.passwords.read() {
            Ok(passwords) => {
                let wall = self.wall;
                let job = move |tpm: &mut Tpm| endorsement::examine(tpm, &passwords, wall);
                tpm.call(job).await
            }
            Err(failure) => Err(failure),
        };
        match keys {
            Ok((found, keys)) => {
                checks.extend(found);
                keys
            }
            Err(failure) => {
                checks.push(Check::fail(Topic::EndorsementKey, failure));
                Vec::new()
            }
        }
    }
}

fn silent() -> Failure {
    Failure::new(
        Exit::Busy,
        format!("the TPM has not responded within {} seconds", CONNECT_TIMEOUT.as_secs()),
        "check whether another program uses it; if none does, see `dmesg | grep -i tpm`, and \
         power-cycle the machine",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_from_top_to_bottom_and_ends_as_its_first_failure() {
        let failure = |exit, what: &str| Failure::new(exit, what, "do this");
        let report = Report {
            verdict: Verdict::Fail,
            tpm_commands: 0,
            checks: vec![
                Check::ok(Topic::Device, "there"),
                Check::fail(Topic::Access, failure(Exit::Permission, "not\nlet in")),
                Check::warn(Topic::EndorsementKey, "so so", "look"),
                Check::fail(Topic::Authority, failure(Exit::Unavailable, "away")),
                Check::skip(Topic::Storage, "none"),
            ],
        };
        let text = "\
ok    device          there
FAIL  access          not let in
                      > do this
warn  endorsement-key so so
                      > look
FAIL  authority       away
                      > do this
skip  storage         none
";
        assert_eq!(report.to_string(), text);
        assert_eq!(report.failure().map(|failure| failure.exit), Some(Exit::Permission));
        let json = serde_json::to_value(&report.checks[1]).unwrap();
        assert_eq!(json["name"], "access");
        assert_eq!(json["verdict"], "fail");
        assert!(json.get("exit").is_none());
    }

    #[test]
    fn names_in_text_are_those_in_json() {
        for topic in [
            Topic::Device,
            Topic::Access,
            Topic::Answer,
            Topic::Maker,
            Topic::Firmware,
            Topic::Lockout,
            Topic::Hierarchies,
            Topic::Handles,
            Topic::TpmClock,
            Topic::Clock,
            Topic::EndorsementKey,
            Topic::Configuration,
            Topic::Storage,
            Topic::TrustBundle,
            Topic::Authority,
            Topic::ServiceKeys,
            Topic::Attestation,
        ] {
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.word());
        }
    }
}
