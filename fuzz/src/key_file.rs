//! A key as a file, from anyone.

use tpm2::key_file::{KeyFile, MAX_FILE};

use crate::{Verdict, assert_harmless};

/// The input is the text.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else { return Verdict::Refused };
    match KeyFile::from_pem(text) {
        Ok(file) => {
            assert!(data.len() <= MAX_FILE);
            let again = file.to_pem().expect("what was read can be written");
            assert_eq!(KeyFile::from_pem(&again).as_ref(), Ok(&file));
            let _ = (file.public(), file.private(), file.parent(), file.kind());
            Verdict::Accepted
        }
        Err(error) => {
            assert_harmless(&error.to_string());
            Verdict::Refused
        }
    }
}
