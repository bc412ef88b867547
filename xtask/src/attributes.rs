//! The gate against `#![allow(..)]` for a whole file or crate: an exception stands where it is
//! needed, with its reason.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::tokens::tokens;

/// Refuses the workspace if any of its files lifts a lint for itself as a whole.
pub fn check(workspace: &Path) -> Result<()> {
    let mut faults = Vec::new();
    for path in rust_files(workspace)? {
        let source =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let shown = path.strip_prefix(workspace).unwrap_or(&path).display();
        for line in file_wide(&source) {
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
fn file_wide(source: &str) -> Vec<usize> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut braces = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => braces += 1,
            "}" => braces = braces.saturating_sub(1),
            "#" if braces == 0 => {
                let mut rest = tokens.iter().skip(index + 1).map(|token| token.text);
                if rest.next() == Some("!") && rest.next() == Some("[") {
                    let mut attribute = rest.take_while(|text| *text != "]");
                    if attribute.any(|text| matches!(text, "allow" | "expect")) {
                        found.push(token.line);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// All Rust files below, those of the target folder and of hidden folders aside.
pub fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() {
                let built = path.join("CACHEDIR.TAG").exists() || name == "target";
                if !hidden && !built {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
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
            assert_eq!(file_wide(source).len(), 1, "{source}");
        }
        for source in [
            "#[allow(unused, reason = \"r\")] fn f() {}",
            "//! #![allow(unused)]",
            "const S: &str = \"#![allow(unused)]\";",
            "#![deny(missing_docs)] fn allow() {}",
            "mod generated { #![allow(unused)] }",
        ] {
            assert!(file_wide(source).is_empty(), "{source}");
        }
    }

    #[test]
    fn what_is_built_is_not_searched() {
        let scratch = Scratch::new("endorse-gate").unwrap();
        for folder in ["target", ".git", "src"] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
            fs::write(scratch.path().join(folder).join("a.rs"), "").unwrap();
        }
        assert_eq!(rust_files(scratch.path()).unwrap(), [scratch.path().join("src/a.rs")]);
    }
}
