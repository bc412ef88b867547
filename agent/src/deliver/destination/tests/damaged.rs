//! Changes to what was written: each is noticed, and the next set puts it right.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use super::fixture::{dir, directory, pair};

/// A way to damage what is in a directory, and a word of what is said about it.
type Damage = (&'static str, fn(&Path), &'static str);

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn replace(path: &Path, with: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    with(path);
}

const DAMAGES: [Damage; 16] = [
    ("key emptied", |at| fs::write(at.join("svid.key"), "").unwrap(), "svid.key is empty"),
    ("another key", |at| fs::write(at.join("svid.key"), "key 9").unwrap(), "content"),
    ("certificate cut", |at| fs::write(at.join("svid.pem"), "cert").unwrap(), "content"),
    (
        "key is a dir",
        |at| replace(&at.join("..data/svid.key"), |to| fs::create_dir(to).unwrap()),
        "not a regular file",
    ),
    ("key removed", |at| fs::remove_file(at.join("..data/svid.key")).unwrap(), "removed"),
    ("link removed", |at| fs::remove_file(at.join("svid.key")).unwrap(), "removed"),
    (
        "link is a file",
        |at| replace(&at.join("svid.key"), |to| fs::write(to, "x").unwrap()),
        "no longer a link",
    ),
    (
        "link leads elsewhere",
        |at| replace(&at.join("svid.key"), |to| symlink("/etc/passwd", to).unwrap()),
        "links elsewhere",
    ),
    ("mode 0666", |at| mode(&at.join("svid.key"), 0o666), "0666, not 0600"),
    ("mode 0000", |at| mode(&at.join("svid.key"), 0), "svid.key"),
    ("dir open", |at| mode(&at.join("..data/."), 0o777), "0777, not 0700"),
    (
        "turned back",
        |at| replace(&at.join("..data"), |to| symlink("..v1", to).unwrap()),
        "links elsewhere",
    ),
    (
        "turned away",
        |at| replace(&at.join("..data"), |to| symlink("/tmp", to).unwrap()),
        "links elsewhere",
    ),
    ("data removed", |at| fs::remove_file(at.join("..data")).unwrap(), "removed"),
    ("version removed", |at| fs::remove_dir_all(at.join("..v2")).unwrap(), "..v2"),
    ("lock removed", |at| fs::remove_file(at.join("lock")).unwrap(), "lock was removed"),
];

#[test]
fn each_damage_is_noticed_and_the_next_set_puts_it_right() {
    for known_from_before in [false, true] {
        for (what, damage, said) in DAMAGES {
            let outer = dir();
            let mut writer = directory(outer.path()).lock().unwrap();
            writer.write(&pair(1)).unwrap();
            writer.write(&pair(2)).unwrap();
            writer.check().unwrap();
            if known_from_before {
                let manifest = writer.manifest().unwrap();
                let json = serde_json::to_string(&manifest).unwrap();
                if what == "lock removed" {
                    continue;
                }
                drop(writer);
                damage(outer.path());
                writer = directory(outer.path()).lock().unwrap();
                writer.expect([serde_json::from_str(&json).unwrap()]);
            } else {
                damage(outer.path());
            }
            let change = writer.check().unwrap_err();
            assert!(change.to_string().contains(said), "{what}: {change}");
            writer.write(&pair(3)).unwrap_or_else(|failure| panic!("{what}: {failure}"));
            writer.check().unwrap();
            assert_eq!(directory(outer.path()).read().unwrap(), Some(pair(3)), "{what}");
        }
    }
    assert!(fs::read_to_string("/etc/passwd").unwrap().contains("root"));
}

#[test]
fn owner_that_changed_is_noticed() {
    if !super::fixture::is_root("giving a file to another user") {
        return;
    }
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    chown(outer.path().join("svid.key"), Some(65534), None).unwrap();
    let change = writer.check().unwrap_err();
    assert!(change.is_exposed && change.what.contains("belongs to user 65534, not 0"), "{change}");
}

#[test]
fn only_what_opens_a_file_to_others_exposes_it() {
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    for (wrong, is_exposed) in [(0o666, true), (0o640, true), (0o400, false), (0o700, false)] {
        writer.write(&pair(1)).unwrap();
        mode(&outer.path().join("svid.key"), wrong);
        let change = writer.check().unwrap_err();
        assert_eq!(change.is_exposed, is_exposed, "{change}");
    }
}

#[test]
fn writer_killed_at_the_switch_leaves_one_of_two_sets_on_record() {
    let outer = dir();
    let writer = directory(outer.path()).lock().unwrap();
    writer.write(&pair(1)).unwrap();
    let before = writer.manifest().unwrap();
    let mut announced = None;
    writer
        .write_announced(&pair(2), &mut |manifest| {
            writer_sees(outer.path(), "..v1");
            announced = Some(manifest.clone());
        })
        .unwrap();
    let after = writer.manifest().unwrap();
    assert_eq!(announced.as_ref(), Some(&after));
    drop(writer);
    let writer = directory(outer.path()).lock().unwrap();
    for data in ["..v1", "..v2"] {
        replace(&outer.path().join("..data"), |to| symlink(data, to).unwrap());
        writer.expect([after.clone(), before.clone()]);
        writer.check().unwrap();
    }
    fs::write(outer.path().join("svid.key"), "").unwrap();
    writer.expect([after, before]);
    writer.check().unwrap_err();
}

fn writer_sees(outer: &Path, data: &str) {
    assert_eq!(fs::read_link(outer.join("..data")).unwrap(), Path::new(data));
}
