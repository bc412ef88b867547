//! Configuration files, for both programs: all faults of a file at once, each with its line, column and advice.
//!
//! [`tree::parse`] makes of the text a tree that knows where each value stands; a [`section::Section`] knows its keys, and
//! each of them as what it should be. Whatever is wrong is added to the [`finding::Source`].

pub mod finding;
pub mod section;
pub mod tree;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use self::finding::{Findings, Source};
use self::tree::MAX_SIZE;

/// Reads a configuration file; of one that is too large, enough for [`tree::parse`] to find that.
///
/// # Errors
/// The operating system's.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a configuration file.
///
/// # Errors
/// It is not UTF-8, with the position of the first byte that is not.
pub fn text<'b>(bytes: &'b [u8], path: &Path) -> Result<&'b str, Findings> {
    std::str::from_utf8(bytes).map_err(|error| {
        let (good, _) = bytes.split_at(error.valid_up_to());
        let good = std::str::from_utf8(good).unwrap_or_default();
        let source = Source::new(good, path);
        let range = good.len()..good.len();
        let advice = "check that it is a text file";
        source.error(Some(&range), "the file is not valid UTF-8", advice);
        source.findings()
    })
}
