//! Each library compiles without features, with each feature alone, and with each two: what one needs, it asks for itself.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{LIBRARIES, Library, cargo, output};

/// Compiles them all.
pub fn check() -> Result<()> {
    let metadata = cargo_metadata()?;
    for Library { package, .. } in LIBRARIES {
        for set in sets(&features(&metadata, package)?) {
            let mut command = cargo();
            command.args(["check", "--quiet", "--lib", "--no-default-features"]);
            command.args(["--package", package, "--features", &set]);
            let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
            ensure!(status.success(), "{package} does not compile with the features {set:?}");
        }
    }
    Ok(())
}

pub(crate) fn cargo_metadata() -> Result<Value> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    Ok(serde_json::from_str(&output(&mut command)?)?)
}

pub(crate) fn features(metadata: &Value, library: &str) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let package = packages.iter().find(|package| package["name"] == library);
    let features = package.and_then(|package| package["features"].as_object());
    let features = features.with_context(|| format!("cargo does not know {library}"))?;
    Ok(features.keys().filter(|name| *name != "default").cloned().collect())
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
    fn features_of_the_libraries_are_known() {
        let metadata = cargo_metadata().unwrap();
        assert!(features(&metadata, "tpm2-client").unwrap().contains(&"crypto".to_owned()));
        assert!(features(&metadata, "tpm3").is_err());
    }
}
