//! Which folders are whose: no two writers may have one folder, or one inside of another's.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Folders, and who has them.
#[derive(Debug, Default)]
pub(super) struct Folders(BTreeMap<PathBuf, Claim>);

/// One who has a folder.
#[derive(Clone, Debug)]
struct Claim {
    /// The path as it was written.
    path: PathBuf,
    whose: String,
}

impl Folders {
    /// Takes a folder for `whose`, words that go after "where"; says who else has it, or one around or below it.
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
            return Some(say("is the same folder as", other));
        }
        if let Some(other) = form.ancestors().find_map(|above| self.0.get(above)) {
            return Some(say("is inside of", other));
        }
        // What is below a path comes right after it.
        let (next, other) = self.0.range(form.to_owned()..).next()?;
        next.starts_with(form).then(|| say("is around", other))
    }
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
    fn a_folder_is_one_writers_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("there/sub")).unwrap();
        symlink("there", at("link")).unwrap();
        for (one, other, how) in [
            ("p/oo", "p/oo", "is the same folder as"),
            ("p/oo", "p/x/../oo/./", "is the same folder as"),
            ("p/oo", "p/oo/..v1", "is inside of"),
            ("p/oo/..v1", "p/oo", "is around"),
            ("there", "link", "is the same folder as"),
            ("link", "there", "is the same folder as"),
            ("there", "link/sub/new", "is inside of"),
            ("link/sub/new", "there", "is around"),
            ("link", "there/sub", "is inside of"),
            ("there/sub", "link/sub/../sub", "is the same folder as"),
        ] {
            let mut folders = Folders::default();
            assert_eq!(folders.claim(&at("p/o"), "somebody is"), None);
            assert_eq!(folders.claim(&at(one), "somebody else is"), None, "{one}");
            let (one, other) = (at(one), at(other));
            let said = folders.claim(&other, "we are").unwrap();
            let (one, other) = (one.display(), other.display());
            let expected = format!("the destination {other} {how} {one}, where somebody else is");
            assert_eq!(said, expected);
        }
        let mut folders = Folders::default();
        for apart in ["a", "ab", "a-b", "a.b", "b/a", "..v1", "link/x", "there/y"] {
            assert_eq!(folders.claim(&at(apart), "one is"), None, "{apart}");
        }
        assert!(folders.claim(Path::new("/.."), "all are").unwrap().contains("is around"));
    }
}
