//! `agent start`, its services, and `agent wait`, declared.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, ArgMatches, Args, FromArgMatches};
use host::go_duration;

use super::OVERRIDES;
use super::service::{Legacy, Service};
use crate::config::{Address, ConfigFile, Overrides, ServiceName};

/// `agent start`.
#[derive(Args, Debug)]
#[command(
    subcommand_value_name = "SERVICE",
    subcommand_help_heading = "Services, in place of a configuration file"
)]
#[command(after_help = "\
With a service on the command line, a configuration file is read only if --config or TBOT_CONFIG_PATH names it.

TELEPORT_ANONYMOUS_TELEMETRY is accepted and has no effect: the agent sends no telemetry.")]
pub struct Start {
    /// Where the configuration is.
    #[command(flatten)]
    pub file: ConfigFile,
    /// What overrides it.
    #[command(flatten, next_help_heading = OVERRIDES)]
    pub overrides: Overrides,
    /// File to write the process ID to; removed when the agent exits
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// The options of tbot's first version.
    #[command(flatten)]
    pub legacy: Legacy,
    /// The service, in place of a configuration file.
    #[command(subcommand)]
    pub service: Option<Service>,
}

impl Start {
    /// Reads the options where the service is.
    pub(super) fn complete(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = ConfigFile::from_arg_matches(matches)?;
        self.overrides = Overrides::from_arg_matches(matches)?;
        self.pid_file = matches.get_one("pid_file").cloned();
        Ok(())
    }
}

/// `agent wait`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("agent").required(true).multiple(true)))]
pub struct Wait {
    /// Storage directory of the agent, which holds its agent.sock
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE", group = "agent")]
    pub storage: Option<PathBuf>,
    /// Diagnostics address of the agent, its diag_addr
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "AGENT_DIAG_ADDR",
        value_parser = Address::of_listener,
        group = "agent"
    )]
    pub diag_addr: Option<Address>,
    /// Wait for this service only
    #[arg(long, value_name = "NAME")]
    pub service: Option<ServiceName>,
    /// Give up after this time, e.g. 5s or 2m; a number alone is seconds [default: wait forever]
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    pub timeout: Option<Duration>,
}

/// A duration, or seconds. 0 is accepted too: it waits forever, as in version 0.1.
fn timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => go_duration::parse(text).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_is_a_duration_or_a_number_of_seconds() {
        for (text, seconds) in [("5", 5), ("0", 0), ("5s", 5), ("2m", 120), ("1h30m", 5400)] {
            assert_eq!(timeout(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "-1", "5 s", "soon", "1.5"] {
            timeout(wrong).unwrap_err();
        }
    }
}
