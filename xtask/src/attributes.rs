//! The gate against `#![allow(..)]` for a whole file or crate: an exception stands where it is
//! needed, with its reason.

use std::path::Path;

use anyhow::{Context, Result, bail};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Meta, Token};

use crate::source::{parse, rust_files};

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

/// The lines of the `allow` and `expect` attributes of the file itself, also those behind
/// `cfg_attr`.
fn file_wide(source: &str) -> Result<Vec<usize>> {
    let file = parse(source)?;
    let lifting = file.attrs.iter().filter(|attribute| lifts(&attribute.meta));
    Ok(lifting.map(|attribute| attribute.span().start().line).collect())
}

fn lifts(attribute: &Meta) -> bool {
    let path = attribute.path();
    if path.is_ident("allow") || path.is_ident("expect") {
        return !is_about_links(attribute);
    }
    if !path.is_ident("cfg_attr") {
        return false;
    }
    // The condition stands first.
    let parts = attribute
        .require_list()
        .and_then(|list| list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated));
    parts.is_ok_and(|parts| parts.iter().skip(1).any(lifts))
}

/// Links of the documentation to what a feature leaves out: there is no narrower place.
fn is_about_links(attribute: &Meta) -> bool {
    let lints = attribute
        .require_list()
        .and_then(|list| list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated));
    lints.is_ok_and(|lints| {
        let mut names = lints.iter().map(|lint| lint.path().segments.iter());
        names.all(|mut name| {
            name.next().is_some_and(|tool| tool.ident == "rustdoc")
                && name.next().is_some_and(|lint| lint.ident == "broken_intra_doc_links")
        })
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
            "#![cfg_attr(all(), cfg_attr(test, allow(unused)))]",
        ] {
            assert_eq!(file_wide(source).unwrap().len(), 1, "{source}");
        }
        for source in [
            "#[allow(unused, reason = \"r\")] fn f() {}",
            "//! #![allow(unused)]",
            "const S: &str = \"#![allow(unused)]\";",
            "#![deny(missing_docs)] fn allow() {}",
            "#![cfg_attr(allow, deny(unused))]",
            "mod generated { #![allow(unused)] }",
        ] {
            assert!(file_wide(source).unwrap().is_empty(), "{source}");
        }
    }
}
