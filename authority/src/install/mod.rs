//! The systemd unit that runs the authority, with no more rights than it needs.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

#[cfg(test)]
mod tests;

/// The name of a unit (without `.service`), of a user or of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixName(String);

/// A name that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

/// What the unit is made from.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its name.
    pub name: UnixName,
    /// The user that the authority runs as.
    pub user: UnixName,
    /// That user's group.
    pub group: UnixName,
    /// The program.
    pub program: PathBuf,
    /// The authority's data folder.
    pub data: PathBuf,
    /// The same, if the command line is to name it: it goes before the configuration.
    pub data_dir: Option<PathBuf>,
    /// Where it listens, if not where the configuration says.
    pub listen: Option<SocketAddr>,
    /// All addresses on which it listens, whoever says so.
    pub addresses: Vec<SocketAddr>,
    /// Its configuration file, if it has one.
    pub config: Option<PathBuf>,
}

/// A path that a unit cannot name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPath(PathBuf);

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays.
    Never,
    /// It is replaced.
    Always,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The file is new, or was replaced.
    Written,
    /// The file was there, with this content.
    Unchanged,
    /// The file was there, with another content, and stays.
    Kept,
}

impl Unit {
    /// The unit's file.
    ///
    /// # Errors
    /// A path that is relative, or no clean text.
    pub fn render(&self) -> Result<String, InvalidPath> {
        let state = self.data.strip_prefix("/var/lib").ok();
        let state = state.filter(|rest| !rest.as_os_str().is_empty());
        // Port 0 is any free one.
        let privileged = self.addresses.iter().any(|address| (1..1024).contains(&address.port()));
        let only = |condition: bool, value: &str| condition.then(|| value.to_owned());
        let data = value(&self.data)?;
        let values = [
            ("NAME", Some(self.name.to_string())),
            ("PROGRAM", Some(value(&self.program)?.replace('$', "$$"))),
            ("OPTIONS", Some(self.options()?)),
            ("USER", Some(self.user.to_string())),
            ("GROUP", Some(self.group.to_string())),
            ("CAPABILITY", only(privileged, "CAP_NET_BIND_SERVICE")),
            ("CAPABILITIES", only(privileged, "CAP_NET_BIND_SERVICE").or(Some(String::new()))),
            // In a user namespace of its own that capability would be worth nothing.
            ("PRIVATE_USERS", only(!privileged, "yes")),
            ("STATE_MODE", only(state.is_some(), "0700")),
            ("READ_WRITE", only(state.is_none(), &data)),
            ("STATE", state.map(|path| text(path).map(quoted)).transpose()?),
        ];
        Ok(fill(include_str!("authority.service"), &values))
    }

    fn options(&self) -> Result<String, InvalidPath> {
        let mut options = Vec::new();
        if let Some(data) = &self.data_dir {
            options.push(format!("--data-dir {}", value(data)?));
        }
        if let Some(listen) = self.listen {
            options.push(format!("--listen {listen}"));
        }
        if let Some(config) = &self.config {
            options.push(format!("--config {}", value(config)?));
        }
        Ok(options.join(" ").replace('$', "$$"))
    }
}

/// The template with each placeholder's value in place; a line whose placeholder has none is left out.
fn fill(template: &str, values: &[(&str, Option<String>)]) -> String {
    let mut lines: Vec<String> = template.lines().map(str::to_owned).collect();
    for (name, value) in values {
        let mark = format!("@{name}@");
        lines = lines
            .into_iter()
            .filter_map(|line| match (line.contains(&mark), value) {
                (false, _) => Some(line),
                (true, value) => value.as_ref().map(|value| line.replace(&mark, value)),
            })
            .collect();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A path as the value of a setting.
fn value(path: &Path) -> Result<String, InvalidPath> {
    if !path.is_absolute() {
        return Err(InvalidPath(path.to_owned()));
    }
    text(path).map(quoted)
}

fn text(path: &Path) -> Result<&str, InvalidPath> {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let text = path.to_str().filter(|text| !climbs && !text.chars().any(char::is_control));
    text.ok_or_else(|| InvalidPath(path.to_owned()))
}

/// Quoted if need be, with the specifiers of systemd.syntax(7) escaped.
fn quoted(text: &str) -> String {
    let text = text.replace('%', "%%");
    if text.chars().all(|c| c.is_alphanumeric() || "/-_.+,:@%=$".contains(c)) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Puts a file in its place, readable by all, whole or not at all.
///
/// # Errors
/// As the operating system says.
pub fn place(path: &Path, content: &str, overwrite: Overwrite) -> io::Result<Placed> {
    match fs::read(path) {
        Ok(found) if found == content.as_bytes() => return Ok(Placed::Unchanged),
        Ok(_) if overwrite == Overwrite::Never => return Ok(Placed::Kept),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    match overwrite {
        Overwrite::Never => file.persist_noclobber(path)?,
        Overwrite::Always => file.persist(path)?,
    };
    fs::File::open(folder)?.sync_all()?;
    Ok(Placed::Written)
}

impl UnixName {
    /// Whether a file of the form of `/etc/passwd` or `/etc/group` has it. `None` if the file cannot be read.
    pub fn is_in(&self, file: &Path) -> Option<bool> {
        let text = fs::read_to_string(file).ok()?;
        Some(text.lines().any(|line| line.split(':').next() == Some(&self.0)))
    }
}

impl FromStr for UnixName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let rest = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.len() > 31 || !text.starts_with(first) || !text.chars().all(rest) {
            return Err(InvalidName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name consists of letters, digits, - _ . (a letter first), at most 31")
    }
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a unit needs absolute paths without .. in plain text, not {:?}", self.0)
    }
}

impl std::error::Error for InvalidName {}
impl std::error::Error for InvalidPath {}
