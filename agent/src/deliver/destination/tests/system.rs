//! What only a whole system shows: full and read-only disks, other users. Without root they say that they are skipped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use host::exit::Exit;
use tempfile::TempDir;

use super::super::FileSet;
use super::fixture::{dir, directory, is_root, names, pair, with};
use crate::config::{Account, Acls, Reader, Symlinks};

const NOBODY: u32 = 65534;
const STRANGER: u32 = 65533;
const GROUP: u32 = 64321;

/// A file system of its own, gone at the end.
struct Mounted(TempDir);

impl Mounted {
    fn new(kind: &str, options: &str) -> Option<Self> {
        let dir = dir();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let options = format!("mode=0755,{options}");
        if !run("mount", &["-t", kind, "-o", &options, "none", dir.path().to_str().unwrap()]) {
            println!("skipped: mount -t {kind} is not permitted here");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("x")
    }

    fn remount(&self, how: &str) {
        let how = format!("remount,{how}");
        assert!(run("mount", &["-o", &how, self.0.path().to_str().unwrap()]));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
}

/// Whether a user with this group can read a file by its plain path.
fn can_read(user: u32, group: u32, file: &Path) -> bool {
    let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
    let cat = Command::new("setpriv")
        .args([&user, &group, "--clear-groups", "cat"])
        .arg(file)
        .output()
        .unwrap();
    cat.status.success() && cat.stdout == fs::read(file).unwrap()
}

#[test]
fn a_full_disk_leaves_the_old_set_whole_and_is_said() {
    if !is_root("mounting a small disk") {
        return;
    }
    let Some(disk) = Mounted::new("tmpfs", "size=256k") else { return };
    let writer = directory(&disk.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    let large = pair(2).with("large", vec![b'x'; 512 * 1024]);
    for _ in 0..3 {
        let failure = writer.write(&large).unwrap_err();
        assert_eq!(failure.exit, Exit::Io);
        assert!(failure.message.contains("/x: large: No space left on device"), "{failure}");
        assert_eq!(failure.advice, "free space on the disk");
        assert_eq!(directory(&disk.path()).read().unwrap(), Some(pair(1)));
        assert_eq!(
            names(&disk.path()),
            ["..data", "..v1", "lock", "svid.key", "svid.pem"],
            "nothing of it is left to take up room"
        );
    }
    // Not a single block is free.
    let fill = fs::write(disk.0.path().join("fill"), vec![0; 512 * 1024]).unwrap_err();
    assert_eq!(fill.kind(), std::io::ErrorKind::StorageFull);
    writer.write(&pair(3)).unwrap_err();
    assert_eq!(directory(&disk.path()).read().unwrap(), Some(pair(1)));
    fs::remove_file(disk.0.path().join("fill")).unwrap();
    writer.write(&pair(4)).unwrap();
    assert_eq!(directory(&disk.path()).read().unwrap(), Some(pair(4)));
}

#[test]
fn a_read_only_disk_is_said_and_heals() {
    if !is_root("remounting a disk") {
        return;
    }
    let Some(disk) = Mounted::new("tmpfs", "size=1m") else { return };
    let writer = directory(&disk.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    drop(writer);
    disk.remount("ro");
    let failure = directory(&disk.path()).lock().unwrap_err();
    assert!(failure.message.contains("Read-only file system"), "{failure}");
    assert_eq!(failure.advice, "mount the file system for writing");
    assert_eq!(directory(&disk.path()).read().unwrap(), Some(pair(1)));
    disk.remount("rw");
    directory(&disk.path()).lock().unwrap().write(&pair(2)).unwrap();
    assert_eq!(directory(&disk.path()).read().unwrap(), Some(pair(2)));
}

#[test]
fn only_readers_can_read() {
    if !is_root("reading as other users") {
        return;
    }
    let outer = dir();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let readers = [Reader::User(Account::Name("nobody".into())), Reader::Group(Account::Id(GROUP))];
    let path = outer.path().join("made/x");
    let key = path.join("svid.key");
    let directory = with(&path, Symlinks::Secure, Acls::Required, &readers);
    for round in 1..=3 {
        assert!(directory.lock().unwrap().write(&pair(round)).unwrap().is_empty());
        assert!(can_read(NOBODY, NOBODY, &key));
        assert!(can_read(STRANGER, GROUP, &key));
        assert!(!can_read(STRANGER, STRANGER, &key));
        assert!(!can_read(NOBODY, NOBODY, &path.join("lock")));
    }
    // A reader who is one no longer.
    with(&path, Symlinks::Secure, Acls::Try, &readers[1..])
        .lock()
        .unwrap()
        .write(&pair(4))
        .unwrap();
    assert!(!can_read(NOBODY, NOBODY, &key));
    assert!(can_read(STRANGER, GROUP, &key));
}

#[test]
fn a_group_reads_without_access_control_lists() {
    if !is_root("reading as other users") {
        return;
    }
    let Some(disk) = Mounted::new("ramfs", "size=1m") else { return };
    let group = [Reader::Group(Account::Id(GROUP))];
    let reader = [Reader::User(Account::Id(NOBODY))];
    let failure = with(&disk.path(), Symlinks::Secure, Acls::Required, &group).lock().unwrap_err();
    assert!(failure.message.contains("no access control lists"), "{failure}");
    let failure = with(&disk.path(), Symlinks::Secure, Acls::Off, &reader).lock().unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    let path = disk.path().join("y");
    for acls in [Acls::Try, Acls::Off] {
        let directory = with(&path, Symlinks::Secure, acls, &group);
        assert!(directory.lock().unwrap().write(&pair(1)).unwrap().is_empty());
        assert!(!can_read(STRANGER, GROUP, &path.join("svid.key")), "the dir above is private");
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert!(can_read(STRANGER, GROUP, &path.join("svid.key")));
        assert!(!can_read(NOBODY, NOBODY, &path.join("svid.key")));
        assert_eq!(fs::metadata(path.join("svid.key")).unwrap().mode() & 0o7777, 0o640);
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let path = disk.path().join("z");
    let notices =
        with(&path, Symlinks::Secure, Acls::Try, &reader).lock().unwrap().write(&pair(1)).unwrap();
    assert!(notices[0].contains("the readers cannot read"), "{notices:?}");
    assert_eq!(fs::metadata(path.join("svid.key")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        directory(&path).lock().unwrap().write(&FileSet::new()).unwrap(),
        Vec::<String>::new()
    );
}
