//! The udev rule that gives a group access to the TPM, if the distribution has none.

use std::fs;
use std::path::{Path, PathBuf};

use host::account::AccountName;
use host::systemd_unit::fill;

/// The name of our file, which follows `60-tpm-udev.rules` and so overrides it.
pub const FILE: &str = "61-endorse-tpm.rules";
/// Where rules are, those of the operator first.
pub const DIRECTORIES: [&str; 3] =
    ["/etc/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];

/// The rule.
pub fn rule(group: &AccountName) -> String {
    fill(include_str!("data/tpm.rules"), &[("GROUP", vec![group.to_string()])])
}

/// An existing file that already gives a group access to the TPM behind the resource manager.
pub fn found(directories: &[&Path]) -> Option<PathBuf> {
    let gives =
        |line: &str| !line.starts_with('#') && line.contains("tpmrm") && line.contains("GROUP");
    let mut files = directories
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rules"))
        .filter(|path| path.file_name().is_some_and(|name| name != FILE));
    files.find(|path| fs::read_to_string(path).is_ok_and(|text| text.lines().any(gives)))
}
