//! The gate against `#![allow(..)]` for a whole file or crate: an exception stands where it is
//! needed, with its reason.

use std::path::Path;

use anyhow::{Context, Result, bail};
use proc_macro2::{TokenStream, TokenTree};

use crate::source::{rust_files, trees};

/// Refuses the workspace if any of its files lifts a lint for itself as a whole.
pub fn check(workspace: &Path) -> Result<()> {
    let mut faults = Vec::new();
    for (path, source) in rust_files(workspace)? {
        let shown = path.strip_prefix(workspace).unwrap_or(&path).display();
        for line in file_wide(&source).with_context(|| format!("reading {shown}"))? {
            faults.push(format!("{shown}:{line}: a lint is lifted for the whole file"));
        }
    }
    if !faults.is_empty() {
        bail!("{}\nlift it where it is needed: #[allow(lint, reason = \"..\")]", faults.join("\n"));
    }
    Ok(())
}

/// The lines of inner `allow` and `expect` attributes outside all braces, also those behind
/// `cfg_attr`.
fn file_wide(source: &str) -> Result<Vec<usize>> {
    let trees = trees(source)?;
    let attributes = trees.windows(3).filter_map(|three| match three {
        [TokenTree::Punct(hash), TokenTree::Punct(inner), TokenTree::Group(attribute)]
            if hash.as_char() == '#' && inner.as_char() == '!' =>
        {
            lifts(attribute.stream()).then(|| hash.span().start().line)
        }
        _ => None,
    });
    Ok(attributes.collect())
}

fn lifts(attribute: TokenStream) -> bool {
    attribute.into_iter().any(|tree| match tree {
        TokenTree::Ident(word) => word == "allow" || word == "expect",
        TokenTree::Group(group) => lifts(group.stream()),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use testkit::child::Scratch;

    #[test]
    fn a_file_that_lifts_a_lint_is_refused() {
        let scratch = Scratch::new("endorse-gate").unwrap();
        let source = scratch.path().join("src");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("lib.rs"), "//! Doc.\n\npub fn f() {}\n").unwrap();
        check(scratch.path()).unwrap();
        fs::write(source.join("other.rs"), "//! Doc.\n#![allow(dead_code)]\n").unwrap();
        let error = check(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("src/other.rs:2:"), "{error}");
    }

    #[test]
    fn every_spelling_is_seen() {
        for source in [
            "#![allow(unused)]",
            "# ! [ allow ( unused ) ]",
            "#![expect(unused, reason = \"r\")]",
            "#![cfg_attr(test, allow(unused))]",
            "fn f() {}\n/* x */ #![allow(unused)]",
        ] {
            assert_eq!(file_wide(source).unwrap().len(), 1, "{source}");
        }
        for source in [
            "#[allow(unused, reason = \"r\")] fn f() {}",
            "//! #![allow(unused)]",
            "const S: &str = \"#![allow(unused)]\";",
            "#![deny(missing_docs)] fn allow() {}",
            "mod generated { #![allow(unused)] }",
        ] {
            assert!(file_wide(source).unwrap().is_empty(), "{source}");
        }
    }
}
