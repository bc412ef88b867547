//! Others who put links where we are going to write.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use host::exit::Exit;

use super::fixture::{dir, directory, is_root, pair, with};
use crate::config::{Acls, Symlinks};

const NOBODY: u32 = 65534;

#[test]
fn links_on_the_way_are_followed_only_as_far_as_they_are_trusted() {
    let outer = dir();
    fs::create_dir(outer.path().join("real")).unwrap();
    symlink("real", outer.path().join("link")).unwrap();
    let below = outer.path().join("link/x");
    let failure = with(&below, Symlinks::Secure, Acls::Off, &[]).lock().unwrap_err();
    assert_eq!(failure.exit, Exit::Permission);
    assert!(failure.message.ends_with("/link is a symbolic link"), "{failure}");
    assert!(!outer.path().join("real/x").exists());
    for trusting in [Symlinks::TrySecure, Symlinks::Insecure] {
        let directory = with(&below, trusting, Acls::Off, &[]);
        directory.lock().unwrap().write(&pair(1)).unwrap();
        assert_eq!(directory.read().unwrap(), Some(pair(1)));
    }
    // Absolute, with `..`, and without end.
    symlink(outer.path().join("real/../real"), outer.path().join("absolute")).unwrap();
    directory(&outer.path().join("absolute/y")).lock().unwrap();
    assert!(outer.path().join("real/y").is_dir());
    symlink("round", outer.path().join("round")).unwrap();
    directory(&outer.path().join("round/x")).lock().unwrap_err();
}

#[test]
fn links_and_directories_of_others_are_refused() {
    if !is_root("giving a link to another user") {
        return;
    }
    let outer = dir();
    let shared = outer.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let victim = outer.path().join("victim");
    fs::create_dir(&victim).unwrap();
    symlink(&victim, shared.join("link")).unwrap();
    lchown(shared.join("link"), Some(NOBODY), None).unwrap();
    let failure = directory(&shared.join("link/x")).lock().unwrap_err();
    assert!(failure.message.ends_with("is a symbolic link that other users control"), "{failure}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    with(&shared.join("link/x"), Symlinks::Insecure, Acls::Off, &[]).lock().unwrap();

    let theirs = shared.join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(NOBODY), None).unwrap();
    let failure = directory(&theirs).lock().unwrap_err();
    assert!(failure.message.ends_with("belongs to another user (uid 65534)"), "{failure}");
    with(&theirs, Symlinks::Insecure, Acls::Off, &[]).lock().unwrap();
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let outer = dir();
    for mode in [0o770, 0o702, 0o1777] {
        fs::set_permissions(outer.path(), fs::Permissions::from_mode(mode)).unwrap();
        for symlinks in [Symlinks::Secure, Symlinks::TrySecure, Symlinks::Insecure] {
            let failure = with(outer.path(), symlinks, Acls::Off, &[]).lock().unwrap_err();
            assert_eq!(failure.exit, Exit::Permission, "{failure}");
        }
    }
}

#[test]
fn nothing_is_written_through_a_link_that_is_not_ours() {
    for planted in ["lock", "svid.key", "..data", "..v1"] {
        let outer = dir();
        let victim = outer.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("svid.key"), "victim").unwrap();
        let path = outer.path().join("x");
        fs::create_dir(&path).unwrap();
        let target =
            if planted.starts_with("..") { victim.clone() } else { victim.join("svid.key") };
        symlink(&target, path.join(planted)).unwrap();
        let written = directory(&path).lock().and_then(|writer| writer.write(&pair(1)));
        let failure = written.unwrap_err();
        assert!(failure.message.contains(path.to_str().unwrap()), "{planted}: {failure}");
        assert_eq!(fs::read_link(path.join(planted)).unwrap(), target, "{planted}");
        assert_eq!(fs::read_to_string(victim.join("svid.key")).unwrap(), "victim", "{planted}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1, "{planted}");
    }
}

#[test]
fn plain_files_with_names_of_versions_are_passed_over() {
    let dir = dir();
    let writer = directory(dir.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    let files = ["..v2", "..v3", "..v100"].map(|name| dir.path().join(name));
    files.iter().for_each(|file| fs::write(file, "not ours").unwrap());
    for n in 2..5 {
        writer.write(&pair(n)).unwrap();
        assert_eq!(directory(dir.path()).read().unwrap(), Some(pair(n)));
    }
    for file in files {
        assert_eq!(fs::read_to_string(file).unwrap(), "not ours");
    }
}
