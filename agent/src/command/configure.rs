//! `agent configure`.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use host::exit::{Exit, Failure};
use host::output::write;

use crate::cli::configuration::Configure;
use crate::config::{self, Overrides, Server};

pub(crate) fn run(arguments: &Configure) -> Result<(), Failure> {
    let nowhere = Path::new("the command line");
    let settings = match config::read_with("", nowhere, &arguments.settings) {
        Ok(loaded) => loaded.settings,
        Err(findings) => {
            let missing = missing(&arguments.settings);
            if missing.is_empty() {
                // The failure does not contain the findings.
                let _ = write!(std::io::stderr(), "{findings}");
                return Err(Failure::new(
                    Exit::Usage,
                    "the options are not a valid configuration",
                    "correct them as the findings say",
                ));
            }
            return Err(Failure::new(
                Exit::Usage,
                format!("required options are missing: {}", missing.join(", ")),
                "run `agent configure --authority HOST:PORT --token NAME --ca-pin PIN --output FILE`, \
                 with a PIN from `authority status`",
            ));
        }
    };
    let text = config::text(&settings);
    let path = arguments.output.as_deref().unwrap_or(Path::new("stdout"));
    if config::read(&text, path).ok().is_none_or(|loaded| loaded.settings != settings) {
        return Err(Failure::new(
            Exit::Usage,
            "a path on the command line is not valid UTF-8",
            "choose a path that is valid UTF-8",
        ));
    }
    match &arguments.output {
        None => write(text),
        Some(path) => {
            create(path, &text)?;
            write(format!("Wrote {}\n", path.display()))
        }
    }
}

/// The options without which no configuration is valid, as far as they are not given.
fn missing(settings: &Overrides) -> Vec<&'static str> {
    let has_uri = settings.join_uri.is_some();
    let is_auth = match &settings.join_uri {
        Some(uri) => uri.server == Server::Auth,
        None => !settings.auth_server.is_empty(),
    };
    let has_authority = has_uri || is_auth || !settings.proxy_server.is_empty();
    let options = [
        ("--authority", has_authority),
        ("--token", has_uri || settings.token.is_some()),
        ("--ca-pin", !is_auth || settings.server.trust().is_some()),
    ];
    options.iter().filter(|(_, is_given)| !is_given).map(|(option, _)| *option).collect()
}

/// Creates the file atomically, without replacing an existing one. It contains no secret, and the agent's user must read it.
fn create(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |cause: &std::io::Error| {
        Failure::io(cause, format_args!("cannot write {}", path.display()))
    };
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .prefix(".agent-configure-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory.unwrap_or(Path::new(".")))
        .map_err(|cause| failed(&cause))?;
    file.write_all(text.as_bytes()).map_err(|cause| failed(&cause))?;
    file.as_file().sync_all().map_err(|cause| failed(&cause))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} already exists", path.display());
            Err(Failure::new(Exit::Io, message, "move it away, or choose another --output"))
        }
        Err(error) => Err(failed(&error.error)),
    }
}
