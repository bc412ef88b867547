//! Who knows a name of the specification finds in the documentation what has it: by a search alias, or in the glossary if no item
//! has it.

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

/// The section of the glossary for names that are no alias of an item.
const WITHOUT_ITEM: &str = "## Names of the specification that no item has";

/// Compares the aliases of the libraries with the names of the specification: each is an alias or explained in the glossary, none is
/// both, none is misspelt.
pub(super) fn check(found: &BTreeSet<String>, nameless: &[String]) -> Result<()> {
    let read = |name: &str| {
        let path = workspace().join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let (names, glossary) = (read("tpm2/testdata/names.txt")?, read("docs/tpm2-glossary.md")?);
    let Differences { missing, unknown, superfluous } = differences(&names, found, &glossary);
    missing.iter().for_each(|name| println!("finds nothing in the documentation: {name}"));
    unknown.iter().for_each(|name| println!("not a name of the specification: {name}"));
    superfluous.iter().for_each(|name| println!("an item has it, the glossary says none: {name}"));
    nameless.iter().for_each(|name| println!("cites Part 2 and has no name of it: {name}"));
    ensure!(
        [missing, unknown, superfluous].iter().all(BTreeSet::is_empty) && nameless.is_empty(),
        "search aliases of the libraries differ from tpm2/testdata/names.txt: give the item \
         `#[doc(alias = \"NAME\")]`, or list a name that no item has in docs/tpm2-glossary.md"
    );
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Differences<'a> {
    /// Neither an alias nor in the glossary.
    missing: BTreeSet<&'a str>,
    /// An alias or in the glossary, and no name.
    unknown: BTreeSet<&'a str>,
    /// Both an alias and in the glossary.
    superfluous: BTreeSet<&'a str>,
}

fn differences<'a>(
    names: &'a str,
    found: &'a BTreeSet<String>,
    glossary: &'a str,
) -> Differences<'a> {
    let names: BTreeSet<&str> = names.lines().filter(|line| !line.starts_with('#')).collect();
    let found = found.iter().map(String::as_str).filter(|alias| alias.starts_with("TPM"));
    let (found, explained): (BTreeSet<&str>, _) = (found.collect(), explained(glossary));
    let known = &found | &explained;
    Differences {
        missing: &names - &known,
        unknown: &known - &names,
        superfluous: &found & &explained,
    }
}

/// The names in the first column of the glossary's table of names that no item has.
fn explained(glossary: &str) -> BTreeSet<&str> {
    let section = glossary.split_once(WITHOUT_ITEM).map_or("", |(_, section)| section);
    let rows = section.lines().take_while(|line| !line.starts_with("## "));
    let cells = rows.filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
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
        let found = ["TPM_A", "TPM_C", "TPM_D", "sealing"].map(str::to_owned).into();
        let glossary = format!(
            "| `TPM_X` | `y` |\n\n{WITHOUT_ITEM}\n\n| name | instead |\n|---|---|\n\
             | `TPM_D`, `TPM_E` | `TPM_F` |\n\n## Other\n| `TPM_X` | |\n"
        );
        let expected = Differences {
            missing: ["TPM_B"].into(),
            unknown: ["TPM_C", "TPM_E"].into(),
            superfluous: ["TPM_D"].into(),
        };
        assert_eq!(differences("# names\nTPM_A\nTPM_B\nTPM_D\n", &found, &glossary), expected);
    }

    /// A second opinion on the list: the structures that the TSS of tpm2-tools marshals, by the functions of its library.
    #[test]
    fn structures_of_the_tss_are_on_the_list() {
        // Names of the TSS or of an earlier version of Part 2.
        const OTHER: [&str; 2] = ["TPML_INTEL_PTT_PROPERTY", "TPMS_ALGORITHM_DESCRIPTION"];
        let names = fs::read_to_string(workspace().join("tpm2/testdata/names.txt")).unwrap();
        let names: BTreeSet<&str> = names.lines().collect();
        let architectures = fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
        let mut libraries = architectures.map(|directory| directory.path().join("libtss2-mu.so.0"));
        let library = libraries.find(|path| path.exists()).expect("tpm2-tools are installed");
        let library = fs::read(library).unwrap();
        let symbols =
            library.split(|octet| *octet == 0).filter_map(|name| str::from_utf8(name).ok());
        let structures: BTreeSet<&str> = symbols
            .filter_map(|name| name.strip_prefix("Tss2_MU_")?.strip_suffix("_Marshal"))
            .filter(|name| name.starts_with("TPM") && !name.starts_with("TPM2_"))
            .filter(|name| !OTHER.contains(name))
            .collect();
        assert!(structures.len() > 50, "{structures:?}");
        let missing: Vec<_> = structures.difference(&names).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
