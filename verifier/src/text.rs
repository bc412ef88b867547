//! Escapes text from untrusted sources for terminals and logs.
//!
//! A control character moves the cursor or begins a line; a format character, such as those that turn
//! the direction of writing or have no width, shows a reader something else than what is there.

use std::fmt::Write as _;

/// Whether a character shows as itself and changes nothing around it.
///
/// These do not: control characters (Cc), format characters (Cf: bidirectional controls, joiners, tags),
/// the separators of lines and paragraphs (Zl, Zp), private use (Co), noncharacters, and whatever else
/// Unicode lets a font leave out (Default_Ignorable_Code_Point).
#[must_use]
pub fn is_printable(c: char) -> bool {
    !(c.is_control() || is_format(c) || is_ignorable(c) || is_unassigned(c))
}

/// Cf, without what [`is_ignorable`] has.
const fn is_format(c: char) -> bool {
    matches!(c,
        '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}')
}

/// Default_Ignorable_Code_Point, and the two separators.
const fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Private use and noncharacters.
const fn is_unassigned(c: char) -> bool {
    matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
        || c as u32 & 0xfffe == 0xfffe
}

/// The text with each character that is not printable as an escape of Rust's: `\n`, `\u{202e}`.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        match is_printable(c) {
            true => harmless.push(c),
            false => harmless.extend(c.escape_default()),
        }
    }
    harmless
}

/// The text with its line breaks, and each line [`escape`]d.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// A JSON text that means the same and is printable, except for the line breaks between its tokens.
#[must_use]
pub fn escape_json(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) || c == '\n' {
            harmless.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // A String takes everything.
            let _ = write!(harmless, "\\u{unit:04x}");
        }
    }
    harmless
}

/// The text with another character in place of each that is not printable.
#[must_use]
pub fn replace(text: &str, with: char) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { with }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// General category Cf, Unicode 16.0.
    const FORMAT: [(u32, u32); 21] = [
        (0xad, 0xad),
        (0x600, 0x605),
        (0x61c, 0x61c),
        (0x6dd, 0x6dd),
        (0x70f, 0x70f),
        (0x890, 0x891),
        (0x8e2, 0x8e2),
        (0x180e, 0x180e),
        (0x200b, 0x200f),
        (0x202a, 0x202e),
        (0x2060, 0x2064),
        (0x2066, 0x206f),
        (0xfeff, 0xfeff),
        (0xfff9, 0xfffb),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0001, 0xe0001),
        (0xe0020, 0xe007f),
    ];

    /// Zl, Zp and Co.
    const OTHERS: [(u32, u32); 4] =
        [(0x2028, 0x2029), (0xe000, 0xf8ff), (0xf0000, 0xffffd), (0x10_0000, 0x10_fffd)];

    #[test]
    fn format_characters_separators_and_private_use_are_not_printable() {
        for (first, last) in FORMAT.into_iter().chain(OTHERS) {
            for c in (first..=last).map(|code| char::from_u32(code).unwrap()) {
                assert!(!is_printable(c), "U+{:04X}", u32::from(c));
            }
        }
        assert!(('\0'..='\u{9f}').all(|c| is_printable(c) != c.is_control()));
        assert!("aü漢é e\u{301}ع日🔑~ \u{a0}".chars().all(is_printable));
    }

    #[test]
    fn printable_characters_follow_the_standard_library_except_invisible_ones() {
        let shown = |c: char| !c.escape_debug().to_string().starts_with("\\u");
        let wrong = ('\0'..=char::MAX)
            .filter(|c| shown(*c) && !is_printable(*c) && !is_ignorable(*c) && !c.is_control());
        assert_eq!(wrong.collect::<String>().escape_unicode().to_string(), "");
    }

    #[test]
    fn text_made_harmless_is_printable_and_json_means_the_same() {
        let all: String = ('\0'..=char::MAX).collect();
        assert!(escape(&all).chars().all(is_printable));
        assert!(replace(&all, '?').chars().all(is_printable));
        assert!(escape_json(&all).chars().all(|c| is_printable(c) || c == '\n'));
        assert_eq!(escape("a\n\u{202e}\u{e0041}ü"), "a\\n\\u{202e}\\u{e0041}ü");
        assert_eq!(escape_json("\u{202e}\u{e0041}ü"), "\\u202e\\udb40\\udc41ü");
        assert_eq!(replace("a\u{200b}b\n", ' '), "a b ");
    }

    #[test]
    fn lines_stay_and_are_printable() {
        assert_eq!(escape_lines("a\u{202e}\n\r\n\tb\n"), "a\\u{202e}\n\\r\n\\tb\n");
        assert_eq!(escape_lines(""), "");
    }
}
