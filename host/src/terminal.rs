//! Text from elsewhere, made harmless for a terminal and a log.

pub use verifier::text::{escape, escape_json, escape_lines, is_printable, replace};

/// The text on one line: each character that is not printable becomes a space.
#[must_use]
pub fn one_line(text: &str) -> String {
    replace(text, ' ')
}
