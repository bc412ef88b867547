//! `agent start`.

use std::sync::Arc;

use host::exit::Failure;
use host::log::Level;

use super::block_on;
use crate::attest::{Reader, privilege};
use crate::cli::daemon::Start;
use crate::config::{Finding, Findings, LoadError, Loaded, Settings, Severity, WorkloadApi};
use crate::daemon;
use crate::file_access::{self, FileAccess};
use crate::log::Log;
use crate::parts;

pub(crate) fn run(arguments: Start) -> Result<(), Failure> {
    // As the command line says, until the file has been read.
    let log = Log::new(arguments.overrides.log_format.unwrap_or_default(), Level::Info);
    let settings = load(&arguments, |settings| settings.map_or(log, Settings::log))?;
    let log = settings.log();
    let pid_file = arguments.pid_file.clone();
    let reread = Arc::new(move || load(&arguments, |settings| settings.map_or(log, Settings::log)));
    let reader = reader(&settings)?;
    block_on(daemon::run(settings, reread, pid_file.as_deref(), reader, log))?
}

/// Starts the process that reads executables of workloads, if rules are about them; before the runtime has threads.
fn reader(settings: &Settings) -> Result<Option<Reader>, Failure> {
    let failed = |cause| Failure::io(&cause, "the process that reads executables of workloads");
    let agents = settings.services.iter().filter_map(|service| service.kind.agent());
    let mut agents = agents.map(|agent| agent.rules.need_executable());
    let has_callers = parts::WORKLOAD_API.is_built || parts::SSH_AGENT.is_built;
    let needs_executable =
        settings.workload_apis.iter().any(WorkloadApi::needs_executable) || agents.any(|need| need);
    if has_callers && needs_executable {
        return Reader::begin().map(Some).map_err(failed);
    }
    privilege::give_up().map_err(|errno| failed(errno.into()))?;
    Ok(None)
}

/// Reads the configuration and logs its findings.
fn load(
    arguments: &Start,
    log: impl FnOnce(Option<&Settings>) -> Log,
) -> Result<Settings, Failure> {
    let (file, overrides) = (arguments.file.clone(), arguments.overrides.clone());
    let access = FileAccess::new("the configuration", file_access::TIMEOUT);
    let loaded = access.run_blocking(file_access::TIMEOUT, move || Ok(file.load(&overrides)))?;
    match loaded {
        Ok(Loaded { settings, warnings, .. }) => {
            say(log(Some(&settings)), &warnings);
            Ok(settings)
        }
        Err(error) => {
            if let LoadError::Unusable(findings) = &error {
                say(log(None), findings);
            }
            Err(error.into())
        }
    }
}

fn say(log: Log, findings: &Findings) {
    for finding in findings.iter() {
        let Finding { severity, message, advice, .. } = finding;
        let place = findings.position(finding);
        let advice = advice.as_deref().unwrap_or_default();
        let fields: [(&str, &dyn std::fmt::Display); 2] = [("at", &place), ("advice", &advice)];
        match severity {
            Severity::Error => log.error(message, &fields),
            Severity::Warning => log.warn(message, &fields),
        }
    }
}
