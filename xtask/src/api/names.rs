//! Who knows a name of the specification finds in the documentation what has it: by a search alias.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace;

/// The search aliases in rustdoc's description of a crate.
pub(super) fn aliases(json: &Value) -> BTreeSet<String> {
    let items = json.get("index").and_then(Value::as_object).into_iter().flat_map(|of| of.values());
    let attributes = items.filter_map(|item| item.get("attrs")?.as_array()).flatten();
    let texts = attributes.filter_map(|attribute| attribute.get("other")?.as_str());
    texts.filter_map(alias).map(str::to_owned).collect()
}

/// The types that cite Part 2 and cannot be found by the name that they have there.
pub(super) fn nameless(json: &Value) -> Vec<String> {
    let items = json.get("index").and_then(Value::as_object).into_iter().flat_map(|of| of.values());
    let nameless = items.filter(|item| {
        let is_type = |inner: &Value| {
            ["struct", "enum", "type_alias"].iter().any(|kind| inner.get(kind).is_some())
        };
        let cites =
            |docs: &str| docs.split("\n\n").next().is_some_and(|first| first.contains("Part 2 §"));
        let attributes = item.get("attrs").and_then(Value::as_array).into_iter().flatten();
        item.get("inner").is_some_and(is_type)
            && item.get("docs").and_then(Value::as_str).is_some_and(cites)
            && !attributes
                .filter_map(|attribute| attribute.get("other")?.as_str())
                .any(|text| alias(text).is_some())
    });
    nameless.filter_map(|item| item.get("name")?.as_str().map(str::to_owned)).collect()
}

fn alias(attribute: &str) -> Option<&str> {
    attribute.strip_prefix("#[doc(alias = \"")?.strip_suffix("\")]")
}

/// Compares the aliases of the libraries with the names of the specification: none is missing, none is misspelt.
pub(super) fn check(found: &BTreeSet<String>, nameless: &[String]) -> Result<()> {
    let path = workspace().join("tpm2/testdata/names.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (missing, unknown) = differences(&text, found);
    missing.iter().for_each(|name| println!("finds nothing in the documentation: {name}"));
    unknown.iter().for_each(|name| println!("not a name of the specification: {name}"));
    nameless.iter().for_each(|name| println!("cites Part 2 and has no name of it: {name}"));
    ensure!(
        missing.is_empty() && unknown.is_empty() && nameless.is_empty(),
        "search aliases of the libraries differ from {}: give the item `#[doc(alias = \"NAME\")]`",
        path.display()
    );
    Ok(())
}

/// Names that are no alias, and aliases that are no name.
fn differences<'a>(names: &'a str, found: &'a BTreeSet<String>) -> (Vec<&'a str>, Vec<&'a str>) {
    let names: BTreeSet<&str> = names.lines().filter(|line| !line.starts_with('#')).collect();
    let found = found.iter().map(String::as_str).filter(|alias| alias.starts_with("TPM"));
    let found: BTreeSet<&str> = found.collect();
    (names.difference(&found).copied().collect(), found.difference(&names).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_of_part_2_without_alias_is_found() {
        let item = |kind: &str, name: &str, docs: &str, attribute: &str| {
            let (attrs, inner) =
                ([serde_json::json!({ "other": attribute })], serde_json::json!({ kind: {} }));
            serde_json::json!({ "name": name, "docs": docs, "attrs": attrs, "inner": inner })
        };
        let json = serde_json::json!({ "index": {
            "1": item("struct", "Named", "A Name. Part 2 §10.", "#[doc(alias = \"TPM2B_NAME\")]"),
            "2": item("enum", "Nameless", "An algorithm. Part 2 §6.", "#[must_use]"),
            "3": item("function", "function", "Reads it. Part 2 §6.", ""),
            "4": item("struct", "Own", "Ours.\n\nSee Part 2 §6.", ""),
        }});
        assert_eq!(nameless(&json), ["Nameless"]);
    }

    #[test]
    fn aliases_are_read_from_the_description() {
        let attribute = |text: &str| serde_json::json!({ "other": text });
        let alias = attribute("#[doc(alias = \"TPM2B_NAME\")]");
        let json = serde_json::json!({ "index": {
            "1": { "attrs": [alias, attribute("#[must_use]"), "non_exhaustive"] },
            "2": { "attrs": [] },
        }});
        assert_eq!(aliases(&json), BTreeSet::from(["TPM2B_NAME".to_owned()]));
    }

    #[test]
    fn names_without_alias_and_aliases_without_name_are_found() {
        let found = ["TPM_A", "TPM_C", "sealing"].map(str::to_owned).into();
        assert_eq!(differences("# names\nTPM_A\nTPM_B\n", &found), (vec!["TPM_B"], vec!["TPM_C"]));
    }
}
