//! Whether others than root and the agent's own user can change a file: the file itself, or any directory or link on the way
//! to it. A user who can write the configuration decides which programs the agent runs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use host::exit::{Exit, Failure};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// What Linux itself follows before it says ELOOP.
const MAX_LINKS: u32 = 40;

/// The file systems in which links lead to what a process has open: the process that started us has opened it.
const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Refuses a file that another user could have written. What is not a regular file was given by the process that started us.
///
/// # Errors
/// [`Exit::Permission`], with who can change what; the operating system's.
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error, at: &Path| Failure::io(&cause, at.display());
    let absolute = std::path::absolute(path).map_err(|cause| failed(cause, path))?;
    let mut way: VecDeque<OsString> = names(&absolute).collect();
    let (mut directory, mut at) =
        (open_root().map_err(|cause| failed(cause, path))?, PathBuf::from("/"));
    let mut links = 0;
    while let Some(name) = way.pop_front() {
        let here = at.join(&name);
        let entry = rustix::fs::openat(&directory, &name, LOOK, Mode::empty())
            .map_err(|error| failed(error.into(), &here))?;
        let stat =
            |file: &OwnedFd| rustix::fs::fstat(file).map_err(|error| failed(error.into(), &here));
        let (around, found) = (stat(&directory)?, stat(&entry)?);
        check_directory(&directory, &around, &found, &at)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => (directory, at) = (entry, here),
            FileType::Symlink if is_proc(&directory) => return Ok(()),
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(failed(Errno::LOOP.into(), path));
                }
                let target = rustix::fs::readlinkat(&directory, &name, Vec::new())
                    .map_err(|error| failed(error.into(), &here))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    directory = open_root().map_err(|cause| failed(cause, path))?;
                    at = PathBuf::from("/");
                }
                names(&target).rev().for_each(|name| way.push_front(name));
            }
            FileType::RegularFile => return check_file(&entry, &found, &here),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// A user who can write to a directory can replace its entries; in a sticky one only their owner can.
fn check_directory(
    opened: &OwnedFd,
    directory: &Stat,
    entry: &Stat,
    at: &Path,
) -> Result<(), Failure> {
    check_owner(directory, at)?;
    let is_sticky = directory.st_mode & 0o1000 != 0;
    if is_open(opened, directory) && !(is_sticky && is_trusted(entry.st_uid)) {
        return Err(open(at));
    }
    Ok(())
}

fn check_file(opened: &OwnedFd, file: &Stat, at: &Path) -> Result<(), Failure> {
    check_owner(file, at)?;
    if is_open(opened, file) { Err(open(at)) } else { Ok(()) }
}

fn check_owner(stat: &Stat, at: &Path) -> Result<(), Failure> {
    if is_trusted(stat.st_uid) {
        return Ok(());
    }
    let shown = at.display();
    Err(Failure::new(
        Exit::Permission,
        format!("{shown} belongs to another user (uid {})", stat.st_uid),
        format!("chown it to root or to uid {}, or use another path", geteuid().as_raw()),
    ))
}

fn open(at: &Path) -> Failure {
    let shown = at.display();
    Failure::new(
        Exit::Permission,
        format!("other users can write to {shown}"),
        format!("chmod go-w {shown}, or use another path"),
    )
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Whether others can write. The group of root are no others, unless an access control list may name some: then the bits of
/// the group are the most that the list allows, acl(5).
fn is_open(opened: &OwnedFd, stat: &Stat) -> bool {
    let is_writable = |bits: u32| stat.st_mode & bits != 0;
    is_writable(0o002) || is_writable(0o020) && (stat.st_gid != 0 || has_acl(opened))
}

/// Whether there is an access control list, or it is unknown whether there is.
fn has_acl(opened: &OwnedFd) -> bool {
    // What is opened by its path alone has no attributes of its own.
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let found = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0]);
    !matches!(found, Err(Errno::NODATA | Errno::NOTSUP))
}

fn is_proc(directory: &OwnedFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

fn open_root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, "/", LOOK, Mode::empty())?)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use rustix::fs::XattrFlags;

    use super::*;

    const NOBODY: u32 = 65534;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn refused(path: &Path) -> String {
        let failure = check(path).unwrap_err();
        assert_eq!(failure.exit, Exit::Permission, "{failure}");
        failure.message
    }

    #[test]
    fn file_that_others_can_write_is_refused_wherever_that_is() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("a/b");
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        check(&file).unwrap();
        for (place, open) in
            [(file.clone(), 0o666), (directory.clone(), 0o777), (outer.path().join("a"), 0o757)]
        {
            let before = fs::metadata(&place).unwrap().permissions();
            mode(&place, open);
            assert_eq!(refused(&file), format!("other users can write to {}", place.display()));
            fs::set_permissions(&place, before).unwrap();
        }
        // In a sticky directory no other user can replace it.
        mode(&directory, 0o1777);
        check(&file).unwrap();
        mode(&directory, 0o755);
        symlink("b/../b/file", outer.path().join("a/link")).unwrap();
        check(&outer.path().join("a/link")).unwrap();
        symlink("loop", outer.path().join("loop")).unwrap();
        assert!(check(&outer.path().join("loop")).is_err());
        assert_eq!(check(&directory.join("absent")).unwrap_err().exit, Exit::Io);
        check(Path::new("/dev/null")).unwrap();
        check(Path::new("/proc/self/exe")).unwrap();
    }

    /// The bits of the group are then the most that the list allows to anyone.
    #[test]
    fn file_and_directory_whose_acl_may_let_others_write_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let file = outer.path().join("file");
        fs::write(&file, "").unwrap();
        let entry = |tag: u16, bits: u16, id: u32| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let all = u32::MAX;
        // acl(5): owner, a user, group, mask, others.
        let acl = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 7, all),
            entry(2, 7, NOBODY),
            entry(4, 0, all),
            entry(0x10, 7, all),
            entry(0x20, 0, all),
        ]
        .concat();
        for place in [file.as_path(), outer.path()] {
            check(&file).unwrap();
            let name = "system.posix_acl_access";
            match rustix::fs::setxattr(place, name, &acl, XattrFlags::empty()) {
                Err(Errno::NOTSUP) => return println!("skipped: no access control lists here"),
                done => done.unwrap(),
            }
            assert_eq!(refused(&file), format!("other users can write to {}", place.display()));
            rustix::fs::removexattr(place, name).unwrap();
            mode(place, 0o700);
        }
    }

    #[test]
    fn file_directory_and_link_of_another_user_are_refused() {
        if !geteuid().is_root() {
            println!("skipped: giving a file to another user needs root");
            return;
        }
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("a");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("file");
        fs::write(&file, "").unwrap();
        for place in [&file, &directory] {
            chown(place, Some(NOBODY), None).unwrap();
            assert!(refused(&file).contains("belongs to another user (uid 65534)"));
            chown(place, Some(0), None).unwrap();
        }
        mode(&directory, 0o1777);
        let link = directory.join("link");
        symlink("file", &link).unwrap();
        check(&link).unwrap();
        lchown(&link, Some(NOBODY), None).unwrap();
        assert!(refused(&link).contains("other users can write to"));
        // Root's group may write: it is root's own affair who is in it.
        mode(&directory, 0o755);
        mode(&file, 0o664);
        check(&file).unwrap();
        chown(&file, None, Some(NOBODY)).unwrap();
        assert!(refused(&file).contains("other users can write to"));
    }
}
