//! What a program is made from, in CycloneDX 1.6 (ECMA-424).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Product, Release, output};
use crate::{cargo, workspace};

/// The document for one program: the crates that are linked into it, and the libraries around them.
pub(super) fn of(release: &Release, product: &Product) -> Result<String> {
    let mut sum = Command::new("sha256sum");
    let sum = output(sum.arg(&product.program))?;
    let sum = sum.split_whitespace().next().context("sha256sum says nothing")?.to_owned();
    let crates = Crates::read(product)?;
    let mut components = crates.components()?;
    components.push(library("std", "Rust's standard library", "MIT OR Apache-2.0"));
    if product.platform.ends_with("musl") {
        components.push(library("musl", "the C library, linked in", "MIT"));
    }
    let root = format!("endorse-{}@{}", product.name, release.version);
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": release.date("+%Y-%m-%dT%H:%M:%SZ")?,
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": product.name,
                "version": release.version,
                "licenses": [{ "license": { "id": "Apache-2.0" } }],
                "hashes": [{ "alg": "SHA-256", "content": sum }],
            },
        },
        "components": components,
        "dependencies": crates.dependencies(&root, product.name),
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn library(name: &str, description: &str, licence: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": name,
        "name": name,
        "description": description,
        "licenses": [{ "expression": licence }],
    })
}

/// Name and version.
type Key = (String, String);

/// What cargo knows of a crate.
struct Known {
    licence: Option<String>,
    dependencies: BTreeSet<Key>,
}

struct Crates {
    linked: BTreeSet<Key>,
    /// All that may be linked into some program or other.
    known: BTreeMap<Key, Known>,
    checksums: BTreeMap<Key, String>,
}

impl Crates {
    fn read(product: &Product) -> Result<Self> {
        let mut tree = cargo();
        tree.args(["tree", "--locked", "--package", product.name, "--target", product.platform]);
        tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
        let linked = linked(&output(&mut tree)?);
        ensure!(linked.len() > 1, "cargo tree lists nothing");
        let mut metadata = cargo();
        metadata.args(["metadata", "--locked", "--format-version", "1"]);
        metadata.args(["--filter-platform", product.platform]);
        let known = known(&serde_json::from_str(&output(&mut metadata)?)?)?;
        let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("Cargo.lock")?;
        Ok(Self { linked, known, checksums: checksums(&lock) })
    }

    fn components(&self) -> Result<Vec<Value>> {
        let component = |key: &Key| {
            let (name, version) = key;
            let known = self.known.get(key).with_context(|| format!("{name} {version}"))?;
            let licence = known.licence.as_deref();
            let licence = licence.with_context(|| format!("{name} has no licence"))?;
            let mut component = json!({
                "type": "library",
                "bom-ref": reference(key),
                "name": name,
                "version": version,
                // An older way of writing OR.
                "licenses": [{ "expression": licence.replace('/', " OR ") }],
            });
            // Crates of this workspace have no checksum: they are in no registry.
            if let (Some(sum), Some(fields)) = (self.checksums.get(key), component.as_object_mut())
            {
                fields.insert("purl".into(), reference(key).into());
                fields.insert("hashes".into(), json!([{ "alg": "SHA-256", "content": sum }]));
            }
            Ok(component)
        };
        self.linked.iter().map(component).collect()
    }

    fn dependencies(&self, root: &str, own: &str) -> Vec<Value> {
        let top = self.linked.iter().filter(|(name, _)| name == own).map(reference);
        let mut all = vec![json!({ "ref": root, "dependsOn": top.collect::<Vec<_>>() })];
        for key in &self.linked {
            let on = self.known.get(key).map(|known| &known.dependencies);
            let on = on.into_iter().flatten().filter(|other| self.linked.contains(*other));
            let on: Vec<_> = on.map(reference).collect();
            all.push(json!({ "ref": reference(key), "dependsOn": on }));
        }
        all
    }
}

fn reference((name, version): &Key) -> String {
    format!("pkg:cargo/{name}@{version}")
}

/// The lines `name vVERSION ...`.
fn linked(tree: &str) -> BTreeSet<Key> {
    let lines = tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    });
    lines.collect()
}

fn known(metadata: &Value) -> Result<BTreeMap<Key, Known>> {
    let text =
        |value: &Value| Ok::<_, anyhow::Error>(value.as_str().context("metadata")?.to_owned());
    let mut keys = BTreeMap::new();
    let mut licences = BTreeMap::new();
    for package in metadata["packages"].as_array().context("metadata: no packages")? {
        let key = (text(&package["name"])?, text(&package["version"])?);
        licences.insert(key.clone(), package["license"].as_str().map(str::to_owned));
        keys.insert(text(&package["id"])?, key);
    }
    let mut known = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().context("metadata: no nodes")? {
        let key = keys.get(&text(&node["id"])?).context("metadata: a node without a package")?;
        let mut dependencies = BTreeSet::new();
        for dependency in node["deps"].as_array().context("metadata: no deps")? {
            let kinds = dependency["dep_kinds"].as_array().context("metadata: no kinds")?;
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                dependencies.extend(keys.get(&text(&dependency["pkg"])?).cloned());
            }
        }
        let licence = licences.get(key).cloned().flatten();
        known.insert(key.clone(), Known { licence, dependencies });
    }
    Ok(known)
}

/// The checksums in a Cargo.lock.
fn checksums(lock: &str) -> BTreeMap<Key, String> {
    let packages = lock.split("[[package]]\n").skip(1).filter_map(|package| {
        let field = |name: &str| {
            let line =
                package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line?.strip_suffix('"').map(str::to_owned)
        };
        Some(((field("name")?, field("version")?), field("checksum")?))
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_and_a_tree_are_read() {
        let lock = "version = 4\n\n[[package]]\nname = \"agent\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"sha2\"\nversion = \"0.11.1\"\nchecksum = \"ab\"\n";
        let key = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(checksums(lock), [(key("sha2", "0.11.1"), "ab".to_owned())].into());
        let tree = "agent v0.1.0 (/src/agent)\nsha2 v0.11.1\nsha2 v0.11.1 (*)\n\n";
        assert_eq!(linked(tree), [key("agent", "0.1.0"), key("sha2", "0.11.1")].into());
    }

    #[test]
    fn every_crate_of_the_agent_has_a_licence_and_all_others_a_checksum() {
        let product = Product {
            name: "agent",
            platform: "x86_64-unknown-linux-gnu",
            program: "/nonexistent".into(),
        };
        let crates = Crates::read(&product).unwrap();
        let components = crates.components().unwrap();
        let named = |name: &str| components.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(named("sha2")["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert!(named("tpm2-client").get("hashes").is_none());
        assert!(components.iter().all(|one| one["name"] != "serde_derive"), "made at build time");
        let top = crates.dependencies("root", "agent");
        assert!(top.iter().any(|one| {
            one["ref"] == named("agent")["bom-ref"]
                && !one["dependsOn"].as_array().unwrap().is_empty()
        }));
    }
}
