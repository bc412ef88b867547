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
    Destination, Finding, Findings, Lifetime, LoadError, Loaded, NamedFile, Renewal, Settings,
    Severity, Storage, Token, Trust, hooks,
};

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
        Ok(loaded) => &loaded.warnings,
        Err(findings) => findings,
    };
    match arguments.format {
        Format::Json => report(path, findings, result.is_ok())?,
        Format::Text => {
            let meaning = result.as_ref().ok().map(|loaded| Meaning(path, &loaded.settings));
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

/// The same, including checks of the files, programs and directories that it names.
fn see_files(loaded: Loaded) -> Result<Loaded, Findings> {
    let files = loaded.files.iter().filter_map(NamedFile::look);
    let found: Vec<Finding> = files.chain(hooks::findings(&loaded.settings)).collect();
    let usable = found.iter().all(|finding| finding.severity == Severity::Warning);
    let warnings = loaded.warnings.and(found);
    if usable { Ok(Loaded { warnings, ..loaded }) } else { Err(warnings) }
}

fn report(path: &Path, findings: &Findings, usable: bool) -> Result<(), Failure> {
    let path = path.display().to_string();
    write_json(&Report { path, usable, findings: findings.iter().collect() })
}

/// A summary of the settings.
struct Meaning<'a>(&'a Path, &'a Settings);

impl Display for Meaning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(path, settings) = self;
        writeln!(f, "{} is valid", path.display())?;
        writeln!(f, "Authority:    {}", joined(&settings.authorities))?;
        match &settings.trust {
            Trust::Pins(pins) => writeln!(f, "Trusted by:   CA pin {}", joined(pins))?,
            Trust::CaPath(path) => writeln!(f, "Trusted by:   CA in {}", path.display())?,
        }
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
        if settings.services.is_empty() {
            return writeln!(f, "Services:     none");
        }
        writeln!(f, "Services:")?;
        for service in &settings.services {
            let kind = service.kind.name();
            let place = match &service.destination {
                Destination::Directory { directory, .. } => directory.path.display().to_string(),
                Destination::Memory => "memory".to_owned(),
            };
            write!(f, "  {}: {kind} in {place}", service.name)?;
            match service.lifetime == settings.lifetime {
                true => writeln!(f)?,
                false => writeln!(f, ", {}", life(service.lifetime))?,
            }
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
