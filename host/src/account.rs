//! Names of users, groups and systemd units, and whether this host has them.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The name of a user or group, as useradd accepts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountName(String);

/// The name of a systemd unit, without `.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitName(String);

/// Why a text is not such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName(&'static str);

impl AccountName {
    /// How to create this group, if this host has none of the name.
    #[must_use]
    pub fn missing_group(&self) -> Option<String> {
        let missing = format!("the group {self} does not exist yet: groupadd --system {self}");
        (self.is_in(Path::new("/etc/group")) == Some(false)).then_some(missing)
    }

    /// How to create this user with this group, if this host has none of the name.
    #[must_use]
    pub fn missing_user(&self, group: &Self) -> Option<String> {
        let home = "--home-dir /nonexistent --shell /usr/sbin/nologin";
        let create = format!("useradd --system --gid {group} {home} {self}");
        let missing = format!("the user {self} does not exist yet: {create}");
        (self.is_in(Path::new("/etc/passwd")) == Some(false)).then_some(missing)
    }

    /// Whether a file of the form of `/etc/passwd` or `/etc/group` has it. `None` if the file cannot be read.
    fn is_in(&self, file: &Path) -> Option<bool> {
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
        write!(f, "a name must consist of {}", self.0)
    }
}

impl std::error::Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_would_mean_something_else_is_refused() {
        for name in ["", "a b", "-a", "a\nb", "a:b", "root;", "1a", "a/b"] {
            assert!(name.parse::<AccountName>().is_err(), "{name:?}");
        }
        for name in ["", ".service", "a/b", "..", "a b", "a@b"] {
            assert!(name.parse::<UnitName>().is_err(), "{name:?}");
        }
        assert_eq!("tbot.service".parse::<UnitName>().unwrap().to_string(), "tbot");
    }
}
