//! A file with our process id, as long as we live.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use host::exit::{Exit, Failure};
use rustix::fs::OFlags;

use crate::file_access::{self, FileAccess, SHORT_TIMEOUT};

/// No process id is longer.
const MAX_PID_FILE: u64 = 32;

/// The file; removed at the end, if it is still ours.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Device and inode of what was written.
    written: (u64, u64),
}

impl PidFile {
    /// Writes it, whole from the first instant.
    ///
    /// # Errors
    /// The operating system's; or there is something else than the file of an agent that has ended.
    pub(super) async fn write(path: &Path) -> Result<Self, Failure> {
        let access = FileAccess::new(format!("the pid file {}", path.display()), SHORT_TIMEOUT);
        let path = path.to_owned();
        access.run(move || Self::write_now(&path)).await
    }

    fn write_now(path: &Path) -> Result<Self, Failure> {
        let failed =
            |cause: io::Error| Failure::io(&cause, format!("the pid file {}", path.display()));
        let is_there = left_behind(path)?.is_some();
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(directory)
            .map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
        // An empty file after a loss of power would be refused.
        file.as_file().sync_all().map_err(failed)?;
        let placed = if is_there { file.persist(path) } else { file.persist_noclobber(path) };
        let metadata = placed.map_err(|error| failed(error.error))?.metadata().map_err(failed)?;
        Ok(Self { path: path.to_owned(), written: identity(&metadata) })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let (path, written) = (std::mem::take(&mut self.path), self.written);
        file_access::at_the_end(move || remove(&path, written));
    }
}

/// An inode is used again; a process id in another namespace too.
fn remove(path: &Path, written: (u64, u64)) {
    let is_ours = |metadata: Metadata| identity(&metadata) == written;
    if fs::symlink_metadata(path).is_ok_and(is_ours)
        && matches!(left_behind(path), Ok(Some(id)) if id == std::process::id())
    {
        let _ = fs::remove_file(path);
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The process id in a pid file that is there already; an error if it is anything else.
fn left_behind(path: &Path) -> Result<Option<u32>, Failure> {
    let shown = path.display();
    let failed = |cause: io::Error| Failure::io(&cause, format!("the pid file {shown}"));
    let other = |what: &str| {
        let advice = "choose another path for --pid-file, or remove the file";
        Failure::new(Exit::Usage, format!("the pid file {shown}: {what}"), advice)
    };
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
        Ok(metadata) if !metadata.is_file() => {
            return Err(other("it exists and is not a regular file"));
        }
        Ok(_) => {}
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_PID_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    let number = std::str::from_utf8(&bytes).ok().map(str::trim).unwrap_or_default();
    match number.parse::<u32>() {
        Ok(id) if bytes.len() as u64 <= MAX_PID_FILE => Ok(Some(id)),
        _ => Err(other("it exists and does not contain a process ID")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pid_file_is_replaced_and_only_ours_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        for (content, is_one) in [
            (&b"4711\n"[..], true),
            (b"4711", true),
            (b"", false),
            (b"precious", false),
            (b"4711 4712", false),
            (b"-1", false),
            (b"\xff\xfe", false),
            (&[b' '; 64], false),
        ] {
            fs::write(&path, content).unwrap();
            match PidFile::write_now(&path) {
                Ok(_file) => {
                    let id = format!("{}\n", std::process::id());
                    assert!(is_one, "{content:?}");
                    assert_eq!(fs::read_to_string(&path).unwrap(), id);
                }
                Err(failure) => {
                    assert!(!is_one && failure.exit == Exit::Usage, "{content:?} {failure}");
                    assert!(failure.message.contains("pid") && !failure.advice.is_empty());
                    assert_eq!(fs::read(&path).unwrap(), content);
                }
            }
            assert_eq!(path.exists(), !is_one, "{content:?}");
        }
        fs::remove_file(&path).unwrap();

        let file = PidFile::write_now(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n", "another's was removed");
    }

    #[test]
    fn pid_file_that_is_not_a_regular_file_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [target, link] = ["target", "link"].map(|name| directory.path().join(name));
        fs::write(&target, "1\n").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for path in [directory.path(), &link, Path::new("/dev/null")] {
            assert_eq!(PidFile::write_now(path).unwrap_err().exit, Exit::Usage);
            assert!(fs::symlink_metadata(path).is_ok());
        }
    }
}
