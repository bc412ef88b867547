//! The guest's file system: cpio archives in the format newc, which the kernel unpacks one after
//! another (Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context, Result};

/// An archive in the making; everything in it belongs to root.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory and its parents, readable for all users.
    pub fn directory(&mut self, path: &str) -> Result<()> {
        for (end, _) in path.match_indices('/') {
            self.entry(path.get(..end).context("a path")?, 0o040_755, &[])?;
        }
        self.entry(path, 0o040_755, &[])
    }

    /// A file readable for all users.
    pub fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, 0o100_644, content)
    }

    /// A file executable for all users.
    pub fn program(&mut self, path: &str, content: &[u8]) -> Result<()> {
        self.entry(path, 0o100_755, content)
    }

    /// The archive, whole.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len())?;
        let name_size = u32::try_from(name.len() + 1)?;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_aligned_and_counted() {
        let mut archive = Archive::default();
        archive.directory("a/b").unwrap();
        archive.program("a/b/c", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let headers: Vec<_> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(headers.len(), 4, "a, a/b, a/b/c and the trailer");
        assert!(headers.iter().all(|at| at % 4 == 0));
        let file = &text[headers[2]..];
        assert_eq!(&file[6..22], "00000003000081ed");
        assert_eq!((&file[54..62], &file[94..102]), ("00000005", "00000006"));
        assert_eq!(&file[110..121], "a/b/c\0hello");
    }
}
