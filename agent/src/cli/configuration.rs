//! `agent configure` and `agent check`, declared.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};

use super::service::{Legacy, Service};
use super::{Format, OVERRIDES};
use crate::config::{ConfigFile, Overrides};

/// `agent configure`.
#[derive(Args, Debug)]
#[command(subcommand_value_name = "SERVICE", subcommand_help_heading = "Services")]
pub struct Configure {
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Settings to write to the file")]
    #[doc = "The settings to write."]
    pub settings: Overrides,
    #[command(flatten)]
    #[doc = "The options of tbot's first version."]
    pub legacy: Legacy,
    #[command(subcommand)]
    #[doc = "The service to write."]
    pub service: Option<Service>,
}

impl Configure {
    /// Reads the options where the service is.
    pub(super) fn complete(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.output = matches.get_one("output").cloned();
        self.settings = Overrides::from_arg_matches(matches)?;
        Ok(())
    }
}

/// `agent check`.
#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    #[doc = "Which file."]
    pub file: ConfigFile,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    #[command(flatten, next_help_heading = OVERRIDES)]
    #[doc = "What overrides the file."]
    pub overrides: Overrides,
}
