//! Each library compiles without features, with each feature alone, and with each two: what one needs, it asks for itself. The
//! documentation of a part of the features has no link to what is left out. The agent compiles without its optional parts, too.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::{LIBRARIES, Library, cargo, output};

/// Sets of features of the library for TPMs that leave out much of it.
const SMALL: [&str; 5] = ["", "crypto", "client", "alloc", "client,alloc"];

/// Compiles them all.
pub fn check() -> Result<()> {
    let metadata = cargo_metadata()?;
    for Library { package, .. } in LIBRARIES {
        let mut compiled = BTreeSet::new();
        for set in sets(&features(&metadata, package)?) {
            // What stands for a set that was compiled already compiles too.
            if !compiled.insert(implied(table(&metadata, package)?, &set)) {
                continue;
            }
            let mut command = cargo();
            command.args(["check", "--quiet", "--lib", "--no-default-features"]);
            command.args(["--package", package, "--features", &set]);
            let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
            ensure!(status.success(), "{package} does not compile with the features {set:?}");
        }
    }
    SMALL.into_iter().try_for_each(documentation)?;
    agent(&metadata)?;
    firmware()
}

/// The agent compiles without the parts that a build can leave out, and with each alone.
fn agent(metadata: &Value) -> Result<()> {
    const PACKAGE: &str = "agent";
    for set in std::iter::once(String::new()).chain(features(metadata, PACKAGE)?) {
        let mut command = cargo();
        command.args(["check", "--quiet", "--bins", "--no-default-features"]);
        command.args(["--package", PACKAGE, "--features", &set]);
        let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
        ensure!(status.success(), "the agent does not compile with the features {set:?}");
    }
    Ok(())
}

/// The documentation of the library for TPMs with these features.
fn documentation(set: &str) -> Result<()> {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--no-deps", "--no-default-features"]);
    command.args(["--package", "tpm2-client", "--features", set]);
    command.env("RUSTDOCFLAGS", "-D warnings").stdin(Stdio::null());
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the documentation with the features {set:?} has warnings");
    Ok(())
}

/// The crate of the tests that does what firmware does: by itself, so that nothing else adds features to what it needs.
fn firmware() -> Result<()> {
    const PACKAGE: &str = "no_std";
    let mut command = cargo();
    command.args(["check", "--quiet", "--lib", "--package", PACKAGE]);
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    ensure!(status.success(), "{PACKAGE} does not compile by itself");
    let mut command = cargo();
    command.args(["tree", "--package", PACKAGE, "--edges", "normal,features", "--prefix", "none"]);
    let tree = output(&mut command)?;
    let is_more =
        |line: &&str| line.contains(" feature \"std\"") || line.contains(" feature \"alloc\"");
    let more = tree.lines().find(is_more);
    ensure!(more.is_none(), "{PACKAGE} needs more than core: {}", more.unwrap_or_default());
    Ok(())
}

pub(crate) fn cargo_metadata() -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    Ok(serde_json::from_str(&output(&mut command)?)?)
}

pub(crate) fn features(metadata: &Value, library: &str) -> Result<Vec<String>> {
    Ok(table(metadata, library)?.keys().filter(|name| *name != "default").cloned().collect())
}

/// Each feature of a library, and what it implies.
fn table<'m>(metadata: &'m Value, library: &str) -> Result<&'m Map<String, Value>> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|package| package["name"] == library);
    let features = package.and_then(|package| package["features"].as_object());
    features.with_context(|| format!("cargo does not know {library}"))
}

/// All that a set of features turns on, in the library and in what it depends on.
fn implied(table: &Map<String, Value>, set: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left: Vec<&str> = set.split(',').filter(|name| !name.is_empty()).collect();
    while let Some(name) = left.pop() {
        if found.insert(name.to_owned()) {
            let more = table.get(name).and_then(Value::as_array);
            left.extend(more.into_iter().flatten().filter_map(Value::as_str));
        }
    }
    found
}

/// None, each one, and each two of them, as cargo takes them.
fn sets(features: &[String]) -> Vec<String> {
    let mut sets = vec![String::new()];
    for (index, one) in features.iter().enumerate() {
        sets.push(one.clone());
        let others = features.iter().skip(index.saturating_add(1));
        sets.extend(others.map(|other| format!("{one},{other}")));
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_none_each_and_each_two() {
        let features = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(sets(&features), ["", "a", "a,b", "a,c", "b", "b,c", "c"]);
    }

    #[test]
    fn sets_that_turn_on_the_same_are_one() {
        let table = serde_json::json!({"a": ["b", "dep:x"], "b": ["x/y"], "c": []});
        let table = table.as_object().unwrap();
        assert_eq!(implied(table, "a,b"), implied(table, "a"));
        assert_ne!(implied(table, "a,c"), implied(table, "a"));
        assert_eq!(implied(table, "a").len(), 4);
    }

    #[test]
    fn features_of_the_libraries_are_known() {
        let metadata = cargo_metadata().unwrap();
        assert!(features(&metadata, "tpm2-client").unwrap().contains(&"crypto".to_owned()));
        assert!(features(&metadata, "tpm3").is_err());
    }
}
