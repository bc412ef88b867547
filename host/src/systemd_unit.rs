//! Text of systemd units: templates filled with values, quoted as systemd.syntax(7) says.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// A path that a systemd unit cannot name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPath(PathBuf);

/// Fills a template, whose placeholders are words in capitals between two `@`. A line with a placeholder appears once for
/// each of its values: not at all without values.
#[must_use]
pub fn fill(template: &str, values: &[(&str, Vec<String>)]) -> String {
    let mut lines: Vec<String> = template.lines().map(str::to_owned).collect();
    for (name, values) in values {
        let mark = format!("@{name}@");
        lines = lines
            .into_iter()
            .flat_map(|line| match line.contains(&mark) {
                true => values.iter().map(|value| line.replace(&mark, value)).collect(),
                false => vec![line],
            })
            .collect();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A path as the value of a setting.
///
/// # Errors
/// The path is relative, has a component `..`, or is not printable text.
pub fn path_value(path: &Path) -> Result<String, InvalidPath> {
    if !path.is_absolute() {
        return Err(InvalidPath(path.to_owned()));
    }
    relative_value(path)
}

/// A path as the value of a setting that takes relative ones, such as StateDirectory=.
///
/// # Errors
/// The path has a component `..`, or is not printable text.
pub fn relative_value(path: &Path) -> Result<String, InvalidPath> {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let text = path.to_str().filter(|text| !climbs && !text.chars().any(char::is_control));
    text.map(quote).ok_or_else(|| InvalidPath(path.to_owned()))
}

/// A path as a word of a command line.
///
/// # Errors
/// As of [`path_value`].
pub fn path_word(path: &Path) -> Result<String, InvalidPath> {
    path_value(path).map(|value| escape_variables(&value))
}

/// A text as a word of a command line.
#[must_use]
pub fn word(text: &str) -> String {
    escape_variables(&quote(text))
}

/// `$` begins a variable in a command line.
fn escape_variables(text: &str) -> String {
    text.replace('$', "$$")
}

/// Quoted if need be, with specifiers escaped.
fn quote(text: &str) -> String {
    let text = text.replace('%', "%%");
    if text.chars().all(|c| c.is_alphanumeric() || "/-_.+,:@%=$".contains(c)) {
        return text;
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Display for InvalidPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a systemd unit needs absolute paths without .. in plain text, not {:?}", self.0)
    }
}

impl std::error::Error for InvalidPath {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_appears_once_for_each_value() {
        let values = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let filled = fill(
            "a=@A@\nb=@B@ rw\n\nc=@C@\n~@system\n",
            &[("A", values(&["1", "2"])), ("B", values(&[])), ("C", values(&["@A@"]))],
        );
        assert_eq!(filled, "a=1\na=2\n\nc=@A@\n~@system\n");
    }

    #[test]
    fn path_is_quoted_for_its_place_and_one_that_means_another_is_refused() {
        let path = Path::new("/a b/50%\"$");
        assert_eq!(path_value(path).unwrap(), "\"/a b/50%%\\\"$\"");
        assert_eq!(path_word(path).unwrap(), "\"/a b/50%%\\\"$$\"");
        assert_eq!(relative_value(Path::new("a/b")).unwrap(), "a/b");
        for path in ["relative", "/a\nExecStart=/bin/sh", "/var/lib/../../etc", ""] {
            assert!(path_value(Path::new(path)).is_err(), "{path:?}");
        }
    }
}
