//! `agent check`.

use std::fmt::{self, Display};
use std::path::Path;

use host::exit::Failure;
use host::go_duration;
use host::output::{write, write_json};
use serde::Serialize;

use crate::cli::Format;
use crate::cli::configuration::Check;
use crate::config::{
    Destination, Finding, Findings, Lifetime, LoadError, Loaded, NamedAccount, NamedFile, Renewal,
    Settings, Severity, Storage, SystemRoots, Token, Trust, hooks,
};
use crate::deliver::destination::check_account;
use crate::file_access;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    path: String,
    usable: bool,
    findings: Vec<&'a Finding>,
}

pub(crate) fn run(arguments: &Check) -> Result<(), Failure> {
    let path = arguments.file.path();
    let result = match arguments.file.load_in_time(&arguments.overrides) {
        Err(LoadError::Unreadable(failure)) => return Err(failure),
        Err(LoadError::Unusable(findings)) => Err(findings),
        Ok(loaded) => see_files(loaded),
    };
    let findings = match &result {
        Ok((loaded, _)) => &loaded.warnings,
        Err(findings) => findings,
    };
    match arguments.format {
        Format::Json => report(path, findings, result.is_ok())?,
        Format::Text => {
            let meaning = result.as_ref().ok();
            let meaning = meaning.map(|(loaded, trust)| Meaning(path, &loaded.settings, trust));
            let meaning = meaning.map(|meaning| meaning.to_string()).unwrap_or_default();
            write(format!("{findings}{meaning}"))?;
        }
    }
    match result {
        Ok(_) => Ok(()),
        // Other commands advise to run `agent check`; this one shows the advice of each finding.
        Err(findings) => Err(findings.failure("")),
    }
}

/// The same, including checks of the files, programs and directories that it names; and what the server is verified with.
fn see_files(loaded: Loaded) -> Result<(Loaded, String), Findings> {
    let files = loaded.files.iter().filter_map(NamedFile::look);
    let accounts = loaded.accounts.iter().filter_map(missing);
    let mut found: Vec<Finding> =
        files.chain(accounts).chain(hooks::findings(&loaded.settings)).collect();
    let trust = trusted_by(&loaded.settings.trust, &mut found).unwrap_or_else(|failure| {
        found.push(Finding {
            severity: Severity::Error,
            location: None,
            message: failure.message,
            advice: Some(failure.advice),
        });
        String::new()
    });
    let usable = found.iter().all(|finding| finding.severity == Severity::Warning);
    let warnings = loaded.warnings.and(found);
    if usable { Ok((Loaded { warnings, ..loaded }, trust)) } else { Err(warnings) }
}

/// A user or group that this host does not have. The file may be for another one.
fn missing(named: &NamedAccount) -> Option<Finding> {
    let failure = check_account(&named.account).err()?;
    Some(Finding {
        severity: Severity::Warning,
        location: Some(named.location.clone()),
        message: failure.message,
        advice: Some(failure.advice).filter(|advice| !advice.is_empty()),
    })
}

/// What the server is verified with. Adds places without a CA certificate to `findings`.
fn trusted_by(trust: &Trust, findings: &mut Vec<Finding>) -> Result<String, Failure> {
    match trust {
        Trust::Pins(_) | Trust::CaPath(_) => Ok(trust.to_string()),
        Trust::SystemRoots => {
            let found = file_access::limited("the system's CA certificates", SystemRoots::read)?;
            findings.extend(found.without.iter().map(|what| Finding {
                severity: Severity::Warning,
                location: None,
                message: format!("SSL_CERT_FILE or SSL_CERT_DIR names no CA certificate: {what}"),
                advice: Some("correct the variable".to_owned()),
            }));
            Ok(format!("{found}, until the host has joined"))
        }
    }
}

fn report(path: &Path, findings: &Findings, usable: bool) -> Result<(), Failure> {
    let path = path.display().to_string();
    write_json(&Report { path, usable, findings: findings.iter().collect() })
}

/// A summary of the settings.
struct Meaning<'a>(&'a Path, &'a Settings, &'a str);

impl Display for Meaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, settings, trust) = self;
        writeln!(f, "{} is valid", path.display())?;
        writeln!(f, "Authority:    {}", joined(&settings.authorities))?;
        writeln!(f, "Trusted by:   {trust}")?;
        match &settings.token {
            Token::Value(name) => writeln!(f, "Token:        {name}")?,
            Token::File(path) => writeln!(f, "Token:        read from {}", path.display())?,
        }
        match &settings.storage {
            Storage::Directory(directory) => {
                writeln!(f, "Storage:      {}", directory.path.display())?;
            }
            Storage::Memory => writeln!(f, "Storage:      memory; the agent joins at each start")?,
        }
        writeln!(f, "TPM:          {}, EK {}", settings.tpm.address, settings.tpm.ek)?;
        let renewed = if settings.oneshot { ", once" } else { "" };
        writeln!(f, "Certificates: {}{renewed}", life(settings.lifetime))?;
        if let Some(address) = settings.diag_addr {
            writeln!(f, "Health:       http://{address}/readyz")?;
        }
        if settings.services.is_empty() && settings.workload_apis.is_empty() {
            return writeln!(f, "Services:     none");
        }
        writeln!(f, "Services:")?;
        for service in &settings.services {
            let kind = service.kind.name();
            let place = match &service.destination {
                Destination::Directory { directory, .. } => directory.path.display().to_string(),
                Destination::Memory => "memory".to_owned(),
            };
            match (service.kind.agent(), &service.destination) {
                (Some(agent), Destination::Memory) => {
                    write!(f, "  {}: {kind} at {}", service.name, agent.socket.path.display())?;
                }
                (Some(agent), _) => {
                    let socket = agent.socket.path.display();
                    write!(f, "  {}: {kind} in {place} and at {socket}", service.name)?;
                }
                (None, _) => write!(f, "  {}: {kind} in {place}", service.name)?,
            }
            match service.lifetime == settings.lifetime {
                true => writeln!(f)?,
                false => writeln!(f, ", {}", life(service.lifetime))?,
            }
        }
        for api in &settings.workload_apis {
            writeln!(f, "  {}: workload-identity-api at {}", api.name, api.listen)?;
        }
        Ok(())
    }
}

fn joined<T: Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn life(lifetime: Lifetime) -> String {
    let ttl = go_duration::text(lifetime.ttl);
    match lifetime.renewal {
        Renewal::HalfLife => format!("lifetime {ttl}, renewed at half of the lifetime"),
        Renewal::Every(interval) => {
            format!("lifetime {ttl}, renewed every {}", go_duration::text(interval))
        }
    }
}
