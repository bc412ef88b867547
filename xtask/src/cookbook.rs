//! `cargo xtask cookbook`: the code of docs/cookbook.md, which is copied from examples that are compiled and run, and the names
//! in docs/tpm2-glossary.md, which the libraries must have.
//!
//! A line `<!-- example: PATH#REGION -->` of the page is followed by a block of code and a line `<!-- end -->`. A region of a
//! file begins with the comment `cookbook: REGION` and ends with `cookbook: end`; without `#REGION` it is the whole file. Above a
//! region are the `use` lines that it needs and that its section of the page does not have yet.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

mod uses;

const PAGE: &str = "docs/cookbook.md";
const GLOSSARY: &str = "docs/tpm2-glossary.md";
const BEGIN: &str = "<!-- example: ";
const END: &str = "<!-- end -->";
const REGION: &str = "// cookbook: ";

/// Writes the code into the page.
///
/// # Errors
/// A file or a region is missing.
pub fn write() -> Result<()> {
    let path = workspace().join(PAGE);
    fs::write(&path, filled(&read(PAGE)?, read)?).context(PAGE)
}

/// Compares the code in the page with the examples, and the names in the glossary with the public interface.
///
/// # Errors
/// They differ.
pub fn check() -> Result<()> {
    let page = read(PAGE)?;
    ensure!(filled(&page, read)? == page, "{PAGE} is stale; `cargo xtask cookbook` writes it");
    let missing = missing(&page, &read("tpm2/Cargo.toml")?);
    ensure!(missing.is_empty(), "{PAGE} does not say how to run {}", missing.join(", "));
    let (tpm2, verifier) = (read("tpm2/api.txt")?, read("verifier/api.txt")?);
    let unknown = unknown(&read(GLOSSARY)?, &without_generics(&tpm2), &without_generics(&verifier));
    ensure!(unknown.is_empty(), "{GLOSSARY} has names that no library has: {}", unknown.join(", "));
    Ok(())
}

/// The examples in a manifest that need features and that the page does not run with them.
fn missing(page: &str, manifest: &str) -> Vec<String> {
    let examples = manifest.split("[[example]]").skip(1).map(|example| {
        let quoted: Vec<_> = example.split('"').skip(1).step_by(2).collect();
        let features = quoted.get(1).copied().unwrap_or_default();
        format!("--example {} --features {features}", quoted.first().copied().unwrap_or_default())
    });
    examples.filter(|command| !page.contains(command.as_str())).collect()
}

/// The paths in the last column of the glossary's tables that no item of the public interface has.
fn unknown(glossary: &str, tpm2: &str, verifier: &str) -> Vec<String> {
    let cells = glossary.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    let code = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let paths = code.filter(|code| code.contains("::"));
    let is_unknown = |path: &&str| match path.strip_prefix("verifier::") {
        Some(path) => !has(verifier, path),
        None => !has(tpm2, path),
    };
    paths.filter(is_unknown).map(str::to_owned).collect()
}

/// Whether an item of the interface has this path.
fn has(interface: &str, path: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    interface.match_indices(path).any(|(at, _)| {
        let (before, rest) = interface.split_at(at);
        let after = rest.strip_prefix(path).unwrap_or(rest);
        !before.ends_with(|c| is_word(c) || c == ':')
            && !after.starts_with(is_word)
            && !after.starts_with("::")
    })
}

/// A listing without what is between angle brackets.
fn without_generics(listing: &str) -> String {
    let mut depth = 0_usize;
    let mut previous = ' ';
    let mut keep = |c: char| {
        let arrow = c == '>' && previous == '-';
        previous = c;
        match c {
            '\n' => depth = 0,
            '<' => depth += 1,
            '>' if !arrow && depth > 0 => {
                depth -= 1;
                return false;
            }
            _ => {}
        }
        depth == 0
    };
    listing.chars().filter(|c| keep(*c)).collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(workspace().join(path)).with_context(|| format!("reading {path}"))
}

/// The page with each block of code as its example has it now.
fn filled(page: &str, read: impl Fn(&str) -> Result<String>) -> Result<String> {
    let (mut filled, mut lines, mut imported) = (String::new(), page.lines(), BTreeSet::new());
    while let Some(line) = lines.next() {
        filled += line;
        filled.push('\n');
        if line.starts_with("## ") {
            imported.clear();
        }
        let Some(example) = line.strip_prefix(BEGIN) else { continue };
        let example = example.strip_suffix(" -->").with_context(|| format!("{line:?}"))?;
        let (path, name) = match example.split_once('#') {
            Some((path, name)) => (path, Some(name)),
            None => (example, None),
        };
        let text = read(path)?;
        let code = match name {
            Some(name) => {
                let code = region(&text, name).with_context(|| example.to_owned())?;
                let needed = uses::needed(&text, &code);
                let uses = uses::lines(&needed.difference(&imported).cloned().collect());
                imported.extend(needed);
                if uses.is_empty() { code } else { format!("{uses}\n{code}") }
            }
            None => text,
        };
        let language = if path.ends_with(".rs") { "rust" } else { "text" };
        filled += &format!("```{language}\n{}\n```\n{END}\n", code.trim_end());
        ensure!(lines.any(|line| line == END), "the code of {example} has no {END:?}");
    }
    Ok(filled)
}

/// The lines of a region, as far to the left as they go, without the comments that mark other regions.
fn region(text: &str, name: &str) -> Result<String> {
    let mut lines = text.lines();
    let begins = |line: &str| line.trim_start().strip_prefix(REGION) == Some(name);
    let Some(begin) = lines.by_ref().find(|line| begins(line)) else {
        bail!("no comment begins the region");
    };
    let indent = begin.len().saturating_sub(begin.trim_start().len());
    let mut region = String::new();
    for line in lines {
        match line.trim_start().strip_prefix(REGION) {
            Some("end") => return Ok(region),
            Some(other) => bail!("the region {other} begins in it"),
            None => region += line.get(indent..).unwrap_or(""),
        }
        region.push('\n');
    }
    bail!("no comment ends the region")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn a() {\n    // cookbook: one\n    if b {\n\n        c();\n    }\n    // cookbook: end\n}\n";

    fn source(_: &str) -> Result<String> {
        Ok(SOURCE.to_owned())
    }

    #[test]
    fn a_region_replaces_the_old_code_and_nothing_else() {
        let page = |code: &str| {
            format!("before\n\n{BEGIN}x.rs#one -->\n```rust\n{code}\n```\n{END}\n\nafter\n")
        };
        let new = filled(&page("old"), source).unwrap();
        assert_eq!(new, page("if b {\n\n    c();\n}"));
        assert_eq!(filled(&new, source).unwrap(), new);
    }

    #[test]
    fn a_missing_region_or_end_is_refused() {
        assert!(filled(&format!("{BEGIN}x.rs#two -->\n{END}\n"), source).is_err());
        assert!(filled(&format!("{BEGIN}x.rs#one -->\n"), source).is_err());
        assert!(region("// cookbook: one\na\n", "one").is_err());
        assert!(region("// cookbook: one\n// cookbook: two\n", "one").is_err());
    }

    #[test]
    fn names_that_no_library_has_are_found() {
        let interface = without_generics(
            "pub fn Tpm<T>::run<C: A<N>, const N: usize>(&C) -> Result<B<'_>, E>\npub a::B::c\n",
        );
        assert_eq!(interface, "pub fn Tpm::run(&C) -> Result\npub a::B::c\n");
        let page =
            "| word | here |\n|---|---|\n| `x::y` | `Tpm::run`, `a::B`, `verifier::a::B::c` |\n";
        assert_eq!(unknown(page, &interface, &interface), ["a::B"]);
    }

    #[test]
    fn example_that_needs_a_feature_is_run_with_it() {
        let manifest =
            "[a]\nb = \"c\"\n[[example]]\nname = \"csr\"\nrequired-features = [\"signature\"]\n";
        let command = "--example csr --features signature";
        assert_eq!(missing("--example csr", manifest), [command]);
        assert!(missing(&format!("cargo run {command} TCTI"), manifest).is_empty());
    }

    #[test]
    fn section_has_each_use_line_once() {
        let file = "use a::B;\nfn x() {\n    // cookbook: one\n    B;\n    // cookbook: end\n}\n";
        let page = format!(
            "## A\n{BEGIN}x.rs#one -->\n{END}\n{BEGIN}x.rs#one -->\n{END}\n## B\n{BEGIN}x.rs#one -->\n{END}\n"
        );
        let filled = filled(&page, |_| Ok(file.to_owned())).unwrap();
        assert_eq!(filled.matches("use a::B;\n\nB;\n").count(), 2, "{filled}");
        assert_eq!(filled.matches("```rust\nB;\n").count(), 1, "{filled}");
    }

    #[test]
    fn the_page_is_as_the_examples_are() {
        check().unwrap();
    }
}
