//! A file that whole lines are appended to, and synchronized to the disk.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::data_directory;

/// A file that lines are appended to.
pub(super) struct Lines {
    /// Open with O_APPEND, so that writes go to the end even if others truncate or extend the file.
    pub(super) file: Arc<File>,
    /// Whether the file ends with a complete line. If not, the next write ends the line first.
    pub(super) whole: bool,
}

impl Lines {
    /// Opens or creates the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            data_directory::open_own(path, data_directory::private().create(true).append(true))?;
        // After a power loss the file must still have its name.
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        {
            sync_directory(&File::open(directory)?)?;
        }
        Self::over(file)
    }

    /// Takes an open file, and ends a line that a crash has left incomplete.
    pub(super) fn over(file: File) -> io::Result<Self> {
        let mut last = [0];
        let whole = match file.metadata()?.len().checked_sub(1) {
            None => true,
            Some(end) => file.read_at(&mut last, end)? == 0 || last == *b"\n",
        };
        let mut lines = Self { file: Arc::new(file), whole };
        if !lines.whole {
            lines.append(b"")?;
        }
        Ok(lines)
    }

    pub(super) fn append_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.append(&[line, b"\n"].concat())
    }

    /// Appends whole lines. After an error the file contains nothing of them, or the next call ends the incomplete line.
    pub(super) fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let text = if self.whole { text.to_vec() } else { [b"\n", text].concat() };
        let (whole, began) = (self.whole, self.file.metadata()?.len());
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let failure = match (&*self.file).write(rest) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    self.whole = rest.get(..written).is_some_and(|part| part.ends_with(b"\n"));
                    rest = rest.get(written..).unwrap_or_default();
                    continue;
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                Err(cause) => cause,
            };
            if self.take_back(began, text.len().saturating_sub(rest.len())) {
                self.whole = whole;
            }
            return Err(failure);
        }
        Ok(())
    }

    /// Truncates the file to `began` after an incomplete write, if no other process has changed its length.
    fn take_back(&self, began: u64, appended: usize) -> bool {
        let end = began.saturating_add(appended as u64);
        let ours = self.file.metadata().is_ok_and(|now| now.len() == end);
        appended > 0 && ours && self.file.set_len(began).is_ok()
    }
}

/// Synchronizes a file to the disk. Fails also if the file was removed.
pub(super) fn sync(file: &File) -> io::Result<()> {
    file.sync_data()?;
    match file.metadata()?.nlink() {
        0 => Err(io::Error::new(ErrorKind::NotFound, "the audit log was removed")),
        _ => Ok(()),
    }
}

/// Synchronizes the names in a directory to the disk, if its file system supports it.
fn sync_directory(directory: &File) -> io::Result<()> {
    match directory.sync_data() {
        Err(cause) if cause.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_line_is_removed_unless_others_changed_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\npart").unwrap();
        let length = |lines: &Lines| lines.file.metadata().unwrap().len();
        let lines = Lines { file: Arc::new(file), whole: false };
        assert!(!lines.take_back(4, 3) && !lines.take_back(4, 5) && !lines.take_back(8, 0));
        assert_eq!(length(&lines), 8);
        assert!(lines.take_back(4, 4));
        assert_eq!(length(&lines), 4);
    }
}
