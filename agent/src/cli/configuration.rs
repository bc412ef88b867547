//! `agent configure` and `agent check`, declared.

use std::path::PathBuf;

use clap::Args;

use super::{Format, OVERRIDES};
use crate::config::{ConfigFile, Overrides};

/// `agent configure`.
#[derive(Args, Debug)]
pub struct Configure {
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Settings to write to the file")]
    #[doc = "The settings to write."]
    pub settings: Overrides,
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
