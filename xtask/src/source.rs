//! Rust source as the gates read it: the token trees of `proc-macro2`.
//!
//! Tokens, not syntax: the gates must also see paths in the arguments and bodies of macros, which are tokens to any parser.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A name that a path takes from the crate's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootName {
    /// The name; `*` where all are imported.
    pub name: String,
    /// Where it stands, from 1.
    pub line: usize,
}

/// The token trees of a file.
pub fn trees(source: &str) -> Result<Vec<TokenTree>> {
    let stream: TokenStream = source.parse().map_err(|error| anyhow!("{error}"))?;
    Ok(stream.into_iter().collect())
}

/// The names that a file takes from the crate's root, its tests aside: `crate::NAME`, `crate::{NAME, NAME}`, and as many
/// `super::` as lead there. The file's module lies `depth` below the root.
pub fn root_names(source: &str, depth: usize) -> Result<Vec<RootName>> {
    let mut found = Vec::new();
    walk(&trees(source)?, depth, &mut found);
    Ok(found)
}

fn walk(trees: &[TokenTree], depth: usize, found: &mut Vec<RootName>) {
    let mut rest = trees;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (TokenTree::Punct(hash), [TokenTree::Group(attribute), item @ ..])
                if hash.as_char() == '#' && marks_test(attribute) =>
            {
                after_item(item)
            }
            // `$crate::` is a path of whoever expands the macro.
            (TokenTree::Punct(dollar), [TokenTree::Ident(word), after @ ..])
                if dollar.as_char() == '$' && word == "crate" =>
            {
                after
            }
            (TokenTree::Ident(word), [TokenTree::Ident(_), TokenTree::Group(body), after @ ..])
                if word == "mod" =>
            {
                walk(&inside(body), depth + 1, found);
                after
            }
            (TokenTree::Ident(word), _) if word == "crate" || word == "super" || word == "self" => {
                follow(rest, Some(depth), found)
            }
            (TokenTree::Group(group), _) => {
                walk(&inside(group), depth, found);
                after
            }
            _ => after,
        };
    }
}

/// The lines on which a file, its tests aside, names another crate: `NAME::`, `NAME as`, `use NAME` and `extern crate NAME`. A
/// module of that name in a path is taken for the crate.
pub fn crate_uses(source: &str, name: &str) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    walk_uses(&trees(source)?, name, &mut found);
    Ok(found)
}

fn walk_uses(trees: &[TokenTree], name: &str, found: &mut Vec<usize>) {
    let is_word = |tree: &TokenTree, words: &[&str]| matches!(tree, TokenTree::Ident(word) if words.iter().any(|known| word == known));
    let mut rest = trees;
    let mut before = None;
    while let [first, after @ ..] = rest {
        rest = match (first, after) {
            (TokenTree::Punct(hash), [TokenTree::Group(attribute), item @ ..])
                if hash.as_char() == '#' && marks_test(attribute) =>
            {
                after_item(item)
            }
            (TokenTree::Group(group), _) => {
                walk_uses(&inside(group), name, found);
                after
            }
            (TokenTree::Ident(word), _) if word == name => {
                let is_path = match after {
                    [TokenTree::Punct(one), TokenTree::Punct(two), ..] => {
                        one.as_char() == ':' && two.as_char() == ':'
                    }
                    [next, ..] => is_word(next, &["as"]),
                    [] => false,
                };
                if is_path || before.is_some_and(|before| is_word(before, &["use", "crate"])) {
                    found.push(word.span().start().line);
                }
                after
            }
            _ => after,
        };
        before = Some(first);
    }
}

/// Follows a path whose first name is looked up `level` modules below the root (`None`: above the root), and returns what
/// stands behind the part that was read.
fn follow<'a>(
    path: &'a [TokenTree],
    level: Option<usize>,
    found: &mut Vec<RootName>,
) -> &'a [TokenTree] {
    let mut note = |name: String, tree: &TokenTree| {
        if level == Some(0) {
            found.push(RootName { name, line: tree.span().start().line });
        }
    };
    match path {
        [TokenTree::Ident(word), after @ ..] => {
            let level = match word.to_string().as_str() {
                "crate" => Some(0),
                "self" => level,
                "super" => level.and_then(|level| level.checked_sub(1)),
                name => {
                    note(name.to_owned(), &path[0]);
                    return after;
                }
            };
            match after {
                [TokenTree::Punct(one), TokenTree::Punct(two), after @ ..]
                    if one.as_char() == ':' && two.as_char() == ':' =>
                {
                    follow(after, level, found)
                }
                _ => after,
            }
        }
        [TokenTree::Group(group), after @ ..] if group.delimiter() == Delimiter::Brace => {
            let comma = |tree: &TokenTree| matches!(tree, TokenTree::Punct(comma) if comma.as_char() == ',');
            for path in inside(group).split(comma) {
                follow(path, level, found);
            }
            after
        }
        [TokenTree::Punct(star), after @ ..] if star.as_char() == '*' => {
            note("*".to_owned(), &path[0]);
            after
        }
        _ => path,
    }
}

fn inside(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// Whether an attribute is `cfg(test)`.
fn marks_test(attribute: &Group) -> bool {
    attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// What follows an item: after its `;`, or after the braces that end it.
fn after_item(trees: &[TokenTree]) -> &[TokenTree] {
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Punct(mark) => mark.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let end = trees.iter().position(ends).map_or(trees.len(), |last| last + 1);
    &trees[end..]
}

/// All Rust files below, those of the target directory and of hidden directories aside, with what is in them.
pub fn rust_files(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() {
                let built = path.join("CACHEDIR.TAG").exists() || name == "target";
                if !hidden && !built {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path)
                    .with_context(|| format!("reading {}", path.display()))?;
                found.push((path, source));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::child::Scratch;

    fn names(source: &str) -> Vec<String> {
        root_names(source, 1).unwrap().into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn every_spelling_of_a_path_from_the_root_is_seen() {
        for source in [
            "use crate::a;",
            "use crate::a::{self, b};",
            "use crate :: a as c;",
            "use crate::{a};",
            "use crate::{a::{b, c}};",
            "pub(in crate::a) fn f() {}",
            "fn f(_: &crate::a::B) -> Vec<u8> {}",
            "fn f() { assert!(x, \"{}\", crate::a::b()) }",
            "macro_rules! m { () => { crate::a!() } }",
            "use super::a;",
            "use self::super::a;",
            "use super::{a};",
            "mod inner { use super::super::a; }",
            "mod inner { } use super::a;",
            "mod inner { use crate::{super::x, a}; }",
        ] {
            assert_eq!(names(source), ["a"], "{source}");
        }
        assert_eq!(names("use crate::{a, b::{c, d}, e}; use crate::*;"), ["a", "b", "e", "*"]);
    }

    #[test]
    fn other_paths_comments_and_strings_are_not_seen() {
        for source in [
            "// use crate::a;\n/* use /* crate::a */ crate::b; */",
            "//! see crate::a\n/// [`a`](crate::a)\nfn f() {}",
            "fn f<'a>(x: &'a str) { g(\"crate::a\", '\\'', b'\"', r#\"crate::a\"#, c\"crate::a\") }",
            "macro_rules! m { () => { $crate::a } }",
            "pub(crate) fn f(self) { self.a; Self::a() }",
            "use self::a; use std::a; mod inner { use super::a; }",
            "use super::super::a;",
        ] {
            assert!(names(source).is_empty(), "{source}");
        }
        assert!(root_names("use super::a;", 2).unwrap().is_empty());
    }

    #[test]
    fn tests_are_left_out() {
        let source = "#[cfg(test)] mod tests { use crate::a; { } } #[cfg(test)] use crate::b; \
                      #[cfg(unix)] use crate::c;";
        assert_eq!(names(source), ["c"]);
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let source =
            "use crate::a; /* \n */ const A: &str = \"\n\"; use crate::b;\n// \n\nuse crate::c;";
        let found = root_names(source, 1).unwrap();
        let lines: Vec<_> = found.iter().map(|found| (found.name.as_str(), found.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 3), ("c", 6)]);
    }

    #[test]
    fn files_that_are_no_rust_are_an_error() {
        for source in ["\"abc", "r#\"abc\"", "/* /* */", "fn f() {", "b'"] {
            assert!(root_names(source, 1).is_err(), "{source}");
        }
    }

    #[test]
    fn what_is_built_is_not_searched() {
        let scratch = Scratch::new("endorse-gate").unwrap();
        for directory in ["target", ".git", "src"] {
            fs::create_dir(scratch.path().join(directory)).unwrap();
            fs::write(scratch.path().join(directory).join("a.rs"), "").unwrap();
        }
        let expected = (scratch.path().join("src/a.rs"), String::new());
        assert_eq!(rust_files(scratch.path()).unwrap(), [expected]);
    }
}
