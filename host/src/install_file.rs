//! Files that `install` writes for the system: whole, readable by all, and never over another one unless asked.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::output;

/// Whether to write.
#[derive(Args, Clone, Copy, Debug)]
pub struct Writing {
    /// Write the file instead of printing it
    #[arg(long)]
    pub write: bool,
    /// Replace an existing file whose content differs
    #[arg(long, requires = "write")]
    pub force: bool,
}

/// What happens to another file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It is kept.
    Never,
    /// It is replaced.
    Always,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// The file is new, or was replaced.
    Written,
    /// The file was there, with this content.
    Unchanged,
    /// The file was there with another content, and was kept.
    Kept,
}

/// Writes the file and says so, or prints it.
///
/// # Errors
/// Another file is there; the operating system's.
pub fn install(path: &Path, content: &str, writing: Writing) -> Result<(), Failure> {
    let shown = path.display();
    if !writing.write {
        output::write(content)?;
        output::note(&format!("nothing was written; --write writes it to {shown}"));
        return Ok(());
    }
    let overwrite = if writing.force { Overwrite::Always } else { Overwrite::Never };
    let placed = place(path, content, overwrite)
        .map_err(|cause| Failure::io(&cause, format!("cannot write {shown}")))?;
    match placed {
        Placed::Written => output::write(format!("{shown} written\n")),
        Placed::Unchanged => output::write(format!("{shown} is up to date\n")),
        Placed::Kept => Err(Failure::new(
            Exit::Config,
            format!("{shown} exists with other content"),
            "add --force to replace it, or use `systemctl edit`, which adds to a systemd unit without changing its file",
        )),
    }
}

/// Puts a file in its place, whole or not at all, with mode 0644.
///
/// # Errors
/// The operating system's.
pub fn place(path: &Path, content: &str, overwrite: Overwrite) -> io::Result<Placed> {
    match fs::read(path) {
        Ok(found) if found == content.as_bytes() => return Ok(Placed::Unchanged),
        Ok(_) if overwrite == Overwrite::Never => return Ok(Placed::Kept),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    match overwrite {
        Overwrite::Never => file.persist_noclobber(path)?,
        Overwrite::Always => file.persist(path)?,
    };
    fs::File::open(directory)?.sync_all()?;
    Ok(Placed::Written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_placed_whole_and_another_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("unit");
        assert_eq!(place(&path, "a", Overwrite::Never).unwrap(), Placed::Written);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(place(&path, "a", Overwrite::Never).unwrap(), Placed::Unchanged);
        assert_eq!(place(&path, "b", Overwrite::Never).unwrap(), Placed::Kept);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
        assert_eq!(place(&path, "b", Overwrite::Always).unwrap(), Placed::Written);
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
        place(&directory.path().join("no/such"), "a", Overwrite::Never).unwrap_err();
    }
}
