use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays.
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
    /// The file was there, with another content, and stays.
    Kept,
}

/// Puts a file in its place, readable by all, whole or not at all.
///
/// # Errors
/// As the operating system says.
pub fn place(path: &Path, content: &str, overwrite: Overwrite) -> io::Result<Placed> {
    match fs::read(path) {
        Ok(found) if found == content.as_bytes() => return Ok(Placed::Unchanged),
        Ok(_) if overwrite == Overwrite::Never => return Ok(Placed::Kept),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content.as_bytes())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    match overwrite {
        Overwrite::Never => file.persist_noclobber(path)?,
        Overwrite::Always => file.persist(path)?,
    };
    fs::File::open(folder)?.sync_all()?;
    Ok(Placed::Written)
}
