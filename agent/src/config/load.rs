//! Finds the configuration file and reads it together with the command line and the environment.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use host::config::{self, finding::Findings};
use host::exit::{Exit, Failure};

use super::document::{Loaded, read_with};
use super::overrides::Overrides;
use crate::file_access;
use crate::trusted;

/// The default path of the configuration file.
pub const DEFAULT_PATH: &str = "/etc/tbot.yaml";

/// The configuration file, as an option.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFile {
    /// Configuration file [default: /etc/tbot.yaml]
    #[arg(short = 'c', long, value_name = "FILE", env = "TBOT_CONFIG_PATH")]
    pub config: Option<PathBuf>,
    /// Whether the command line is the whole configuration unless it names a file.
    #[arg(skip)]
    pub only_if_named: bool,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable(Failure),
    /// Its content is invalid.
    Unusable(Findings),
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unreadable(failure) => failure,
            LoadError::Unusable(findings) => {
                findings.failure("run `agent check` for all errors and advice")
            }
        }
    }
}

impl ConfigFile {
    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    /// As [`ConfigFile::load`], for a command: it ends in time even if a file system hangs.
    ///
    /// # Errors
    /// See [`LoadError`]; [`LoadError::Unreadable`] if a file system hangs.
    pub fn load_in_time(&self, overrides: &Overrides) -> Result<Loaded, LoadError> {
        let (file, overrides) = (self.clone(), overrides.clone());
        let name = "the configuration, or a directory that it names,";
        let loaded = file_access::limited(name, move || Ok(file.load(&overrides)));
        loaded.map_err(LoadError::Unreadable)?
    }

    /// Reads it with the overrides of the command line and the environment. The default file may be missing; a requested one
    /// must exist.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, LoadError> {
        let path = self.path();
        if self.config.is_none() && self.only_if_named {
            let path = Path::new("the command line");
            return read_with("", path, overrides).map_err(LoadError::Unusable);
        }
        let bytes = match config::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config.is_none() => {
                return read_with("", path, overrides)
                    .map_err(|_| LoadError::Unreadable(unreadable(path, &error)));
            }
            Err(error) => return Err(LoadError::Unreadable(unreadable(path, &error))),
        };
        // It names programs that the agent runs.
        trusted::check(path).map_err(LoadError::Unreadable)?;
        let text = config::text(&bytes, path).map_err(LoadError::Unusable)?;
        read_with(text, path, overrides).map_err(LoadError::Unusable)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let mut failure = Failure::io(error, format_args!("cannot read {}", path.display()));
    if error.kind() == io::ErrorKind::NotFound {
        failure.exit = Exit::Config;
        failure.advice = format!(
            "write one with `agent configure -o {}`, or give another path with --config",
            path.display()
        );
    }
    failure
}
