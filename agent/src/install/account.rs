//! Names of units, users and groups, and whether this host knows them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The name of a user or group, as useradd accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountName(String);

/// The name of a unit, without `.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(String);

/// A name that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName(&'static str);

impl AccountName {
    /// Whether a file of the form of `/etc/passwd` or `/etc/group` has it. `None` if the file cannot be read.
    pub fn is_in(&self, file: &Path) -> Option<bool> {
        let text = std::fs::read_to_string(file).ok()?;
        Some(text.lines().any(|line| line.split(':').next() == Some(&self.0)))
    }
}

impl FromStr for AccountName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let rest = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if text.len() > 31 || !text.starts_with(first) || !text.chars().all(rest) {
            return Err(InvalidName("letters, digits, - _ . (a letter first), at most 31"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for UnitName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix(".service").unwrap_or(text);
        let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.".contains(c);
        if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(fine) {
            return Err(InvalidName("letters, digits, : - _ ., at most 200"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name consists of {}", self.0)
    }
}

impl std::error::Error for InvalidName {}
