//! Directories and their writers: no two writers may use the same directory, or one inside the other's versions of its files.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Directories with their writers.
#[derive(Debug, Default)]
pub(super) struct Directories(BTreeMap<PathBuf, Claim>);

/// A writer of a directory.
#[derive(Clone, Debug)]
struct Claim {
    /// The path as it was written.
    path: PathBuf,
    whose: String,
}

impl Directories {
    /// Reserves a directory for `whose`, a clause that follows "where". Returns a message if another writer uses it.
    pub(super) fn claim(&mut self, path: &Path, whose: &str) -> Option<String> {
        // By its name, and by what the name leads to.
        let mut forms = vec![by_name(path), by_links(path)];
        forms.dedup();
        let taken = forms.iter().find_map(|form| self.overlap(path, form));
        let claim = Claim { path: path.to_owned(), whose: whose.to_owned() };
        for form in forms {
            self.0.entry(form).or_insert_with(|| claim.clone());
        }
        taken
    }

    fn overlap(&self, path: &Path, form: &Path) -> Option<String> {
        let say = |how: &str, other: &Claim| {
            let Claim { path: there, whose } = other;
            format!("the destination {} {how} {}, where {whose}", path.display(), there.display())
        };
        if let Some(other) = self.0.get(form) {
            return Some(say("is the same directory as", other));
        }
        let around = |(above, _): &(&PathBuf, &Claim)| is_behind(form, above);
        if let Some((_, other)) = self.0.iter().find(around) {
            return Some(say("is inside", other));
        }
        let inside = |(below, _): &(&PathBuf, &Claim)| is_behind(below, form);
        self.0.iter().find(inside).map(|(_, other)| say("is around", other))
    }
}

/// Whether a path is where the versions of the files of `directory` are, or its link to the newest: such names begin with two
/// dots. Any other directory inside of `directory` is no matter of its files.
fn is_behind(path: &Path, directory: &Path) -> bool {
    let rest = path.strip_prefix(directory).ok();
    let first = rest.and_then(|rest| rest.components().next());
    first.is_some_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b".."))
}

/// From the root, without what makes no difference; `..` takes a name away.
fn by_name(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::CurDir => {}
            // Above the root is the root.
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// What the path leads to, as far as it is there.
fn by_links(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find_map(|above| {
        let rest = absolute.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    });
    by_name(&found.unwrap_or(absolute))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_is_one_writers_whatever_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("there/sub")).unwrap();
        symlink("there", at("link")).unwrap();
        for (one, other, how) in [
            ("p/oo", "p/oo", "is the same directory as"),
            ("p/oo", "p/x/../oo/./", "is the same directory as"),
            ("p/oo", "p/oo/..v1", "is inside"),
            ("p/oo/..v1", "p/oo", "is around"),
            ("there", "link", "is the same directory as"),
            ("link", "there", "is the same directory as"),
            ("there", "link/..data/new", "is inside"),
            ("link/..v2/new", "there", "is around"),
            ("there/sub", "link/sub/../sub", "is the same directory as"),
        ] {
            let mut directories = Directories::default();
            assert_eq!(directories.claim(&at("p/o"), "another service is"), None);
            assert_eq!(directories.claim(&at(one), "another service is"), None, "{one}");
            let (one, other) = (at(one), at(other));
            let said = directories.claim(&other, "we are").unwrap();
            let (one, other) = (one.display(), other.display());
            let expected = format!("the destination {other} {how} {one}, where another service is");
            assert_eq!(said, expected);
        }
        let mut directories = Directories::default();
        for apart in ["a", "ab", "a/b", "b/a", "b", "..v1", "link/x", "there/y", "there"] {
            assert_eq!(directories.claim(&at(apart), "one is"), None, "{apart}");
        }
    }
}
