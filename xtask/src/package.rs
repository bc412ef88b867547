//! What would be published of each library: its licence, its README with a row for each feature, which the documentation has too,
//! its changelog, and nothing that only the repository needs.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::features::{cargo_metadata, features};
use crate::{LIBRARIES, Library, cargo, output, workspace};

/// Files that a package must have.
const NEEDED: [&str; 4] = ["CHANGELOG.md", "Cargo.toml", "LICENSE", "README.md"];
/// A listing of the interface, and what only tests read.
const LEFT_OUT: [&str; 2] = ["api.txt", "testdata/"];

/// Checks the packages of both libraries. Nothing is published.
pub fn check() -> Result<()> {
    let metadata = cargo_metadata()?;
    let licence = fs::read(workspace().join("LICENSE")).context("LICENSE")?;
    for Library { name: library, package } in LIBRARIES {
        let mut command = cargo();
        command.args(["package", "--quiet", "--list", "--allow-dirty", "--package", package]);
        let faults = faults(&output(&mut command)?);
        ensure!(faults.is_empty(), "the package {package}: {}", faults.join(", "));

        let read = |name: &str| {
            let path = workspace().join(library).join(name);
            fs::read(&path).with_context(|| format!("reading {}", path.display()))
        };
        ensure!(read("LICENSE")? == licence, "{library}/LICENSE is not that of the workspace");
        let readme = String::from_utf8(read("README.md")?)?;
        let missing = missing(&readme, &features(&metadata, package)?);
        ensure!(missing.is_empty(), "{library}/README.md lacks features: {}", missing.join(", "));
        let documentation = String::from_utf8(read("src/lib.rs")?)?.replace("//! ", "");
        ensure!(
            table(&readme) == table(&documentation),
            "the table of features in {library}/src/lib.rs is not that of its README.md"
        );
    }
    Ok(())
}

/// What a list of a package's files lacks, and what it must not have.
fn faults(list: &str) -> Vec<String> {
    let has = |name: &&&str| list.lines().any(|line| line == **name);
    let lacking = NEEDED.iter().filter(|name| !has(name)).map(|name| format!("no {name}"));
    let left_out = |line: &&str| LEFT_OUT.iter().any(|name| line.starts_with(name));
    let too_many = list.lines().filter(left_out).map(|name| format!("{name} is in it"));
    lacking.chain(too_many).collect()
}

/// Features without a row in the README's table.
fn missing(readme: &str, features: &[String]) -> Vec<String> {
    let has_row =
        |name: &&String| readme.lines().any(|line| line.starts_with(&format!("| `{name}` ")));
    features.iter().filter(|name| !has_row(name)).cloned().collect()
}

/// The rows of the table of features.
fn table(text: &str) -> Vec<&str> {
    let from = text.lines().skip_while(|line| !line.starts_with("| feature "));
    from.take_while(|line| line.starts_with('|')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_licence_or_with_an_inner_file_is_refused() {
        let list = "CHANGELOG.md\nCargo.toml\nREADME.md\nsrc/lib.rs\napi.txt\n";
        assert_eq!(faults(list), ["no LICENSE", "api.txt is in it"]);
        assert!(faults(&NEEDED.join("\n")).is_empty());
    }

    #[test]
    fn a_feature_without_a_row_is_named() {
        let readme = "| feature | content |\n| `a` | .. |\n| `b` (default) | .. |\n";
        let features = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(missing(readme, &features), ["c"]);
    }

    #[test]
    fn a_table_of_features_ends_before_other_text() {
        let text = "| other |\n\n| feature | content |\n|---|---|\n| `a` | .. |\n\n| later |\n";
        assert_eq!(table(text), ["| feature | content |", "|---|---|", "| `a` | .. |"]);
    }

    #[test]
    fn the_libraries_are_fit_to_publish() {
        check().unwrap();
    }
}
