//! `cargo xtask api`: the public interface of the libraries, one line for each item, and what has changed in it.
//!
//! `rustdoc` describes a crate in JSON, a format that is not stable: `RUSTC_BOOTSTRAP` lets a stable compiler write it. Another
//! compiler may write another version of it; then nothing is compared, and this is said.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use public_api::Builder;
use serde_json::Value;

use crate::features::{cargo_metadata, features};
use crate::{LIBRARIES, Library, cargo, target_directory, workspace};

mod foreign;
mod names;

/// The version of the JSON that is understood: that of Rust 1.95.
const FORMAT: u64 = 57;
/// Changes of one library that are shown.
const MAX_SHOWN: usize = 50;

/// What to do about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Fail, and show it.
    Refuse,
    /// Write the new list.
    Accept,
}

/// Lists the interface of each library and compares it with the list that is checked in.
pub fn run(change: Change) -> Result<()> {
    let metadata = cargo_metadata()?;
    let (mut changed, mut found, mut nameless) = (Vec::new(), BTreeSet::new(), Vec::new());
    for library in LIBRARIES {
        let Some(json) = describe(&library)? else {
            println!("skipped: the JSON of this compiler's rustdoc is not version {FORMAT}");
            return Ok(());
        };
        let description = read(&json)?;
        found.extend(names::aliases(&description));
        nameless.extend(names::nameless(&description));
        let api = Builder::from_rustdoc_json(json).omit_blanket_impls(true);
        let api = api.omit_auto_trait_impls(true).sorted(true).build()?;
        let items: Vec<String> = api.items().map(ToString::to_string).collect();
        let Library { name: library, package } = library;
        let list = list(library, &items);
        foreign::check(library, &list, &features(&metadata, package)?)?;
        let path = path(library);
        let before = fs::read_to_string(&path).unwrap_or_default();
        if before == list {
            continue;
        }
        match change {
            Change::Accept => {
                fs::write(&path, list).with_context(|| format!("writing {}", path.display()))?;
                println!("rewritten: {}", path.display());
            }
            Change::Refuse => {
                differences(&before, &list).iter().for_each(|line| println!("{library}: {line}"));
                changed.push(library);
            }
        }
    }
    names::check(&found, &nameless)?;
    ensure!(
        changed.is_empty(),
        "the public interface of {} has changed; `cargo xtask api --accept` records it",
        changed.join(" and ")
    );
    Ok(())
}

fn path(library: &str) -> PathBuf {
    workspace().join(library).join("api.txt")
}

/// Has rustdoc describe a library with all its features; `None` if this program does not understand it.
fn describe(Library { name: library, package }: &Library) -> Result<Option<PathBuf>> {
    let target = target_directory().join("api");
    let mut command = cargo();
    command.env("RUSTC_BOOTSTRAP", "1").args(["rustdoc", "--quiet", "--lib", "--all-features"]);
    command.args(["--package", package, "--target-dir"]).arg(&target);
    command.args(["--", "-Zunstable-options", "--output-format", "json", "--cap-lints", "allow"]);
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    ensure!(status.success(), "rustdoc does not describe {library} ({status})");
    let json = target.join("doc").join(format!("{library}.json"));
    match read(&json)?.get("format_version").and_then(Value::as_u64) {
        Some(version) => Ok((version == FORMAT).then_some(json)),
        None => bail!("{} has no format_version", json.display()),
    }
}

fn read(json: &Path) -> Result<Value> {
    let text = fs::read(json).with_context(|| format!("reading {}", json.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

/// A line for each item. What a trait says of the items of its implementations is left out, and so are the paths of
/// everyday names.
fn list(library: &str, items: &[String]) -> String {
    const SHORT: [(&str, &str); 6] = [
        ("core::result::Result", "Result"),
        ("core::option::Option", "Option"),
        ("alloc::vec::Vec", "Vec"),
        ("alloc::string::String", "String"),
        ("core::fmt::", "fmt::"),
        ("core::convert::", ""),
    ];
    let own = format!("{library}::");
    let (mut list, mut implementer) = (String::new(), None);
    for item in items {
        if item.starts_with("impl") {
            implementer =
                item.split_once(" for ").map(|(_, implementer)| format!("{implementer}::"));
        } else if implementer.as_ref().is_some_and(|of| item.contains(of.as_str())) {
            if !item.starts_with("pub type") {
                continue;
            }
        } else {
            implementer = None;
        }
        let short =
            SHORT.iter().fold(item.clone(), |item, (long, short)| item.replace(long, short));
        list.push_str(&short.replace(&own, ""));
        list.push('\n');
    }
    list
}

/// The lines that went and those that came, as far as they are shown.
fn differences(before: &str, after: &str) -> Vec<String> {
    let [old, new] = [before, after].map(|list| list.lines().collect::<Vec<_>>());
    let only = |these: &[&str], others: &[&str], sign: char| {
        let only = these.iter().filter(|line| !others.contains(line));
        only.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
    };
    let mut lines = only(&old, &new, '-');
    lines.extend(only(&new, &old, '+'));
    let more = lines.len().saturating_sub(MAX_SHOWN);
    lines.truncate(MAX_SHOWN);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_leaves_out_what_a_trait_says_and_shortens_paths() {
        let items = [
            "pub struct a::Thing<'t>",
            "impl<'t> a::Thing<'t>",
            "pub fn a::Thing<'t>::new() -> core::result::Result<Self, a::Error>",
            "impl core::fmt::Debug for a::Thing<'_>",
            "pub fn a::Thing<'_>::fmt(&self, &mut core::fmt::Formatter<'_>) -> core::fmt::Result",
            "impl core::ops::Deref for a::Thing<'_>",
            "pub type a::Thing<'_>::Target = [u8]",
            "pub fn a::free(a::Thing<'_>)",
        ];
        let list = list("a", &items.map(str::to_owned));
        let expected = "pub struct Thing<'t>\nimpl<'t> Thing<'t>\n\
            pub fn Thing<'t>::new() -> Result<Self, Error>\nimpl fmt::Debug for Thing<'_>\n\
            impl core::ops::Deref for Thing<'_>\npub type Thing<'_>::Target = [u8]\n\
            pub fn free(Thing<'_>)\n";
        assert_eq!(list, expected);
    }

    #[test]
    fn differences_name_what_went_and_what_came() {
        assert_eq!(differences("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
        let many: String = (0..60).map(|line| format!("{line}\n")).collect();
        assert_eq!(differences("", &many).last().unwrap(), "and 10 more");
    }
}
