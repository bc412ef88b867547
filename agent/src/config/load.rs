//! Where the file is, and what it says together with the command line and the environment.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use host::config::finding::{Findings, Source};
use host::config::tree::MAX_SIZE;
use host::exit::{Exit, Failure};

use super::document::{Loaded, read_with};
use super::overrides::Overrides;
use crate::trusted;

/// The default path.
pub const DEFAULT_PATH: &str = "/etc/tbot.yaml";

/// Where the configuration is.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFile {
    /// Configuration file [default: /etc/tbot.yaml]
    #[arg(short = 'c', long, value_name = "FILE", env = "TBOT_CONFIG_PATH")]
    pub config: Option<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable(Failure),
    /// It can be read, but not used.
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
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH))
    }

    /// Reads it, under what the command line and the environment say. Without a file at the usual place these alone
    /// have to do; a file that was asked for has to be there.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, overrides: &Overrides) -> Result<Loaded, LoadError> {
        let path = self.path();
        let octets = match read_file(path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.config.is_none() => {
                return read_with("", path, overrides)
                    .map_err(|_| LoadError::Unreadable(unreadable(path, &error)));
            }
            Err(error) => return Err(LoadError::Unreadable(unreadable(path, &error))),
        };
        // It names programs that the agent runs.
        trusted::check(path).map_err(LoadError::Unreadable)?;
        let text = match std::str::from_utf8(&octets) {
            Ok(text) => text,
            Err(error) => {
                let (good, _) = octets.split_at(error.valid_up_to());
                let good = std::str::from_utf8(good).unwrap_or_default();
                let source = Source::new(good, path);
                let place = good.len()..good.len();
                source.error(
                    Some(&place),
                    "the file is not valid UTF-8",
                    "check that it is a text file",
                );
                return Err(LoadError::Unusable(source.findings()));
            }
        };
        read_with(text, path, overrides).map_err(LoadError::Unusable)
    }
}

/// One octet more than is allowed shows that there are too many.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let mut failure = Failure::io(error, format_args!("cannot read {}", path.display()));
    if error.kind() == io::ErrorKind::NotFound {
        failure.exit = Exit::Config;
        failure.advice = format!("`agent configure -o {}` writes one", path.display());
    }
    failure
}
