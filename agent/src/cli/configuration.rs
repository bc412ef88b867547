//! `agent configure` and `agent check`, declared.

use std::path::PathBuf;

use clap::Args;

use super::Format;
use crate::config::{ConfigFile, Overrides};

/// `agent configure`.
#[derive(Args, Debug)]
pub struct Configure {
    /// The file to write; by default it goes to stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[doc = "What the file is to say."]
    pub settings: Overrides,
}

/// `agent check`.
#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    #[doc = "Which file."]
    pub file: ConfigFile,
    /// text for people, json for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    #[command(flatten)]
    #[doc = "What goes before what it says."]
    pub overrides: Overrides,
}
