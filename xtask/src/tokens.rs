//! Rust source as tokens: as much of the lexer as the gates need to see paths and attributes, and
//! not to see them in comments, strings and doc-tests.

/// A word, or one character of punctuation. Comments, literals and lifetimes are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The word or the character.
    pub text: &'a str,
    /// Where it stands, from 1.
    pub line: usize,
}

impl Token<'_> {
    /// Whether this is a word (an identifier, a keyword or a number).
    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_word)
    }
}

/// The tokens of a file.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { source, at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.token() {
        found.push(token);
    }
    found
}

/// The same without the items marked `#[cfg(test)]`.
pub fn without_tests<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        if MARK.iter().eq(rest.iter().take(MARK.len()).map(|token| &token.text)) {
            rest = after_item(rest.get(MARK.len()..).unwrap_or_default());
        } else {
            kept.push(*first);
            rest = after;
        }
    }
    kept
}

/// What follows an item: after its `;`, or after the brace that ends it.
fn after_item<'a, 'b>(tokens: &'b [Token<'a>]) -> &'b [Token<'a>] {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(token.text, ";" | "}") {
            return tokens.get(index + 1..).unwrap_or_default();
        }
    }
    &[]
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn token(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            let skipped = if first.is_whitespace() {
                first.len_utf8()
            } else if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                block_comment(rest)
            } else if let Some(length) = literal(rest) {
                length
            } else {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(first.len_utf8());
                let line = self.line;
                return Some(Token { text: self.take(length), line });
            };
            self.take(skipped);
        }
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = self.rest().get(..length).unwrap_or(self.rest());
        self.at += taken.len();
        self.line += taken.matches('\n').count();
        taken
    }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string, character or lifetime that begins here.
fn literal(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r')).filter(|length| *length <= 2)?;
    let (letters, rest) = text.split_at(prefix);
    if letters.ends_with('r') {
        let hashes = rest.find(|c| c != '#')?;
        let body = rest.get(hashes..)?.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |found| found + end.len());
        return Some(prefix + hashes + 1 + length);
    }
    if let Some(body) = rest.strip_prefix('"') {
        return Some(prefix + 1 + quoted(body, '"'));
    }
    let body = rest.strip_prefix('\'')?;
    let mut chars = body.chars();
    match (chars.next()?, chars.next()) {
        ('\\', _) => Some(prefix + 1 + quoted(body, '\'')),
        (c, Some('\'')) => Some(prefix + 1 + c.len_utf8() + 1),
        _ => Some(prefix + 1 + body.find(|c| !is_word(c)).unwrap_or(body.len())),
    }
}

/// The length up to and with the quote that ends a literal.
fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn literals_comments_and_lifetimes_are_left_out() {
        let source = r####"
            // use crate::a;
            /* use /* crate:: */ b; */
            fn f<'a>(x: &'a str) { g("use \" crate", '\'', 'c', b'"', r#"a " b"#, b"\\", c"z", r"q") }
        "####;
        let expected = "fn f < > ( x : & str ) { g ( , , , , , , , ) }";
        assert_eq!(words(source), expected.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn words_that_begin_like_literals_stay() {
        assert_eq!(words("b r br rc crate"), ["b", "r", "br", "rc", "crate"]);
        assert_eq!(words("b\u{e9}b 0x1F"), ["b\u{e9}b", "0x1F"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let source = "a /* \n */ \"\n\" b\n// \nc";
        let lines: Vec<_> = tokens(source).iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("c", 5)]);
    }

    #[test]
    fn unfinished_literals_end_with_the_file() {
        for source in ["\"abc", "r#\"abc\"", "/* /* */", "'\\", "'", "b'", "r##"] {
            words(source);
        }
    }

    #[test]
    fn tests_are_cut_out() {
        let source =
            "use a; #[cfg(test)] mod tests { use b; { } } #[cfg(test)] mod c; #[cfg(unix)] mod d;";
        let all = tokens(source);
        let kept: Vec<_> = without_tests(&all).iter().map(|token| token.text).collect();
        assert_eq!(kept.join(" "), "use a ; # [ cfg ( unix ) ] mod d ;");
    }
}
