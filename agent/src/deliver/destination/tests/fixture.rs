//! Directories and sets to test with.

use std::fs;
use std::path::Path;

use rustix::process::geteuid;
use tempfile::TempDir;

use super::super::{Directory, FileSet};
use crate::config::{self, Acls, Reader, Symlinks};

pub(super) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The fastest file system there is: what is tested is the order of things, not the disk.
pub(super) fn fast_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn directory(path: &Path) -> Directory {
    with(path, Symlinks::default(), Acls::default(), &[])
}

pub(super) fn with(path: &Path, symlinks: Symlinks, acls: Acls, readers: &[Reader]) -> Directory {
    let settings = config::Directory { path: path.to_owned(), symlinks, acls };
    Directory::new(settings, readers.to_vec())
}

pub(super) fn pair(round: u32) -> FileSet {
    FileSet::new()
        .with("svid.pem", format!("certificate {round}"))
        .with("svid.key", format!("key {round}"))
}

/// What is in a directory.
pub(super) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Whether we may do what only root may; says it where not.
pub(super) fn is_root(what: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("skipped: {what} needs root");
    }
    root
}
