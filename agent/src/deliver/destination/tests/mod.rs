//! Which access a directory gives to readers and to others.

mod damaged;
mod fixture;
mod hostile;
mod killed;
mod system;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use fixture::{dir, directory, names, pair, with};
use host::exit::Exit;

use super::*;
use crate::config::{Acls, Symlinks};

#[test]
fn a_set_replaces_the_one_before_under_the_same_paths() {
    let outer = dir();
    let path = outer.path().join("a/b");
    let destination = Destination::new(&config::Destination::Directory {
        directory: config::Directory {
            path: path.clone(),
            symlinks: Symlinks::default(),
            acls: Acls::default(),
        },
        readers: Vec::new(),
    });
    assert_eq!(destination.read().unwrap(), None);
    for round in 1..=3 {
        assert_eq!(destination.write(&pair(round), &mut |_| {}).unwrap(), Notices::new());
        assert_eq!(destination.read().unwrap(), Some(pair(round)));
        for (name, content) in pair(round).iter() {
            assert_eq!(fs::read(path.join(name)).unwrap(), content);
            assert_eq!(fs::metadata(path.join(name)).unwrap().mode() & 0o7777, 0o600);
        }
    }
    for made in ["a", "a/b", "a/b/..v3"] {
        assert_eq!(fs::metadata(outer.path().join(made)).unwrap().mode() & 0o7777, 0o700);
    }
    assert_eq!(names(&path), ["..data", "..v2", "..v3", "lock", "svid.key", "svid.pem"]);
}

#[test]
fn open_files_of_the_previous_set_stay_readable() {
    let outer = dir();
    let directory = directory(outer.path());
    let writer = directory.lock().unwrap();
    writer.write(&pair(1)).unwrap();
    let before = outer.path().join(fs::read_link(outer.path().join("..data")).unwrap());
    writer.write(&pair(2)).unwrap();
    assert_eq!(fs::read(before.join("svid.key")).unwrap(), pair(1).content("svid.key").unwrap());
    writer.write(&pair(3)).unwrap();
    assert!(!before.exists());
}

#[test]
fn directory_within_a_version_stops_no_writer() {
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    let version = outer.path().join(fs::read_link(outer.path().join("..data")).unwrap());
    fs::remove_file(version.join("svid.pem")).unwrap();
    fs::create_dir(version.join("svid.pem")).unwrap();
    for round in 2..=4 {
        writer.write(&pair(round)).unwrap();
    }
    let pem = fs::read(outer.path().join("svid.pem")).unwrap();
    assert_eq!(pem, pair(4).content("svid.pem").unwrap());
    assert_eq!(names(&version), ["svid.pem"], "what is not ours stays");
}

#[test]
fn names_that_left_the_set_go_and_what_is_not_ours_stays() {
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(1).with("ssh_config", "x")).unwrap();
    fs::write(outer.path().join("notes.txt"), "mine").unwrap();
    symlink("notes.txt", outer.path().join("other")).unwrap();
    fs::create_dir(outer.path().join("..v7x")).unwrap();
    writer.write(&pair(2)).unwrap();
    assert!(!names(outer.path()).contains(&"ssh_config".to_owned()));
    assert_eq!(fs::read_to_string(outer.path().join("other")).unwrap(), "mine");
    assert!(outer.path().join("..v7x").exists());
}

#[test]
fn plain_files_of_another_program_are_replaced_as_one() {
    let outer = dir();
    for (name, content) in pair(1).iter() {
        fs::write(outer.path().join(name), content).unwrap();
    }
    fs::write(outer.path().join("tbot.log"), "mine").unwrap();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(2)).unwrap();
    assert_eq!(directory(outer.path()).read().unwrap(), Some(pair(2)));
    // The step before the change: the same bytes under the same names, but as one of our versions.
    for (name, content) in pair(1).iter() {
        assert_eq!(fs::read(outer.path().join("..v1").join(name)).unwrap(), content);
    }
    assert_eq!(fs::read_to_string(outer.path().join("tbot.log")).unwrap(), "mine");

    // As a writer leaves it that is killed while it takes over: a link, and a file still.
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    fs::remove_file(outer.path().join("svid.key")).unwrap();
    fs::write(outer.path().join("svid.key"), pair(1).content("svid.key").unwrap()).unwrap();
    writer.write(&pair(2)).unwrap();
    assert_eq!(directory(outer.path()).read().unwrap(), Some(pair(2)));
    for (name, content) in pair(1).iter() {
        assert_eq!(fs::read(outer.path().join("..v2").join(name)).unwrap(), content);
    }
}

#[test]
fn leftovers_of_killed_writers_are_removed() {
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    for begun in ["..v2", "..v3", "..v18446744073709551615"] {
        fs::create_dir(outer.path().join(begun)).unwrap();
        fs::write(outer.path().join(begun).join("svid.key"), "half a k").unwrap();
    }
    symlink("..v3", outer.path().join("..new")).unwrap();
    writer.write(&pair(2)).unwrap();
    assert_eq!(names(outer.path()), ["..data", "..v1", "..v2", "lock", "svid.key", "svid.pem"]);
    assert_eq!(directory(outer.path()).read().unwrap(), Some(pair(2)));
}

#[test]
fn one_writer_at_a_time_and_a_directory_may_vanish_under_it() {
    let outer = dir();
    let path = outer.path().join("x");
    let writer = directory(&path).lock().unwrap();
    assert_eq!(directory(&path).lock().unwrap_err().exit, Exit::Busy);
    writer.write(&pair(1)).unwrap();
    fs::remove_dir_all(&path).unwrap();
    writer.write(&pair(2)).unwrap();
    assert_eq!(directory(&path).read().unwrap(), Some(pair(2)));
    drop(writer);
    directory(&path).lock().unwrap();
}

#[test]
fn a_file_where_a_directory_belongs_is_said() {
    let outer = dir();
    fs::write(outer.path().join("file"), "").unwrap();
    let failure = directory(&outer.path().join("file/x")).lock().unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    assert!(failure.message.contains("/file is not a directory"), "{failure}");
    fs::create_dir(outer.path().join("svid.key")).unwrap();
    let failure = directory(outer.path()).lock().unwrap().write(&pair(1)).unwrap_err();
    assert!(failure.message.contains("svid.key is not a regular file"), "{failure}");
}

#[test]
fn only_plain_names_are_written_and_only_so_much() {
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    for name in ["", ".", "..", "..data", ".x", "a/b", "lock", "a\0", &"x".repeat(256)] {
        let failure = writer.write(&FileSet::new().with(name, "x")).unwrap_err();
        assert_eq!(failure.exit, Exit::Bug, "{name:?}");
        let memory = Destination::new(&config::Destination::Memory);
        memory.write(&FileSet::new().with(name, ""), &mut |_| {}).unwrap_err();
    }
    writer.write(&FileSet::new().with("x", vec![0; 1024 * 1024 + 1])).unwrap_err();
    writer.write(&FileSet::new().with("x", vec![0; 1024 * 1024])).unwrap();
    assert!(directory(outer.path()).read().unwrap().is_some());
}

#[test]
fn memory_holds_the_newest() {
    let memory = Destination::new(&config::Destination::Memory);
    assert_eq!(memory.read().unwrap(), None);
    for round in 1..=2 {
        memory.write(&pair(round), &mut |_| {}).unwrap();
    }
    assert_eq!(memory.read().unwrap(), Some(pair(2)));
}

#[test]
fn secrets_are_not_shown() {
    let set = FileSet::new().with("svid.key", "hush");
    assert_eq!(format!("{set:?}"), "{\"svid.key\": 4}");
}

#[test]
fn access_to_a_directory_that_was_there_is_left_as_it_is() {
    let outer = dir();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    with(outer.path(), Symlinks::Secure, Acls::Off, &[]).lock().unwrap().write(&pair(1)).unwrap();
    assert_eq!(fs::metadata(outer.path()).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(outer.path().join("..v1")).unwrap().mode() & 0o7777, 0o700);
}
