//! Output of commands: results on stdout, everything else on stderr.

use std::io::{self, Write};

use serde::Serialize;

use crate::exit::Failure;
use crate::terminal::{escape, escape_json};

/// Writes a result to stdout. A closed pipe is not an error.
///
/// # Errors
/// The operating system's.
pub fn write(result: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(result.as_ref()).and_then(|()| stdout.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(&cause, "cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// Writes a result as indented JSON with a final newline.
///
/// # Errors
/// The operating system's.
pub fn write_json(result: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(result).map_err(Failure::bug)?;
    write(escape_json(&json) + "\n")
}

/// Writes a note to stderr, unless stderr is closed.
pub fn note(text: &str) {
    line("note", text);
}

/// Writes a warning to stderr, unless stderr is closed.
pub fn warn(text: &str) {
    line("warning", text);
}

fn line(kind: &str, text: &str) {
    let _ = writeln!(io::stderr(), "{kind}: {}", escape(text));
}
