//! `cargo xtask floors`: dependencies point down only, between the crates and, within some of them,
//! between their modules.

mod cycles;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::source::{crate_uses, root_names, rust_files};

/// The floor of each crate.
const CRATES: [(&str, u8); 12] = [
    ("tests", 5),
    ("benches", 5),
    ("fuzz", 5),
    ("xtask", 5),
    ("testkit", 5),
    ("agent", 4),
    ("authority", 4),
    ("proto", 3),
    ("tls", 3),
    ("verifier", 3),
    ("host", 3),
    ("tpm2", 2),
];
/// On this floor no crate depends on another.
const STRANGERS: u8 = 4;

/// A crate whose modules have floors.
struct House {
    name: &'static str,
    /// The floor of each module.
    modules: &'static [(&'static str, u8)],
    neighbours: Neighbours,
}

/// What modules of one floor are to each other.
#[derive(PartialEq, Eq)]
enum Neighbours {
    /// They may use each other, though not in a cycle.
    Known,
    /// They may not, so that no two modules use each other.
    Strangers,
}

const TPM2: House = House {
    name: "tpm2",
    modules: &[
        ("transport", 2),
        ("session", 2),
        ("client", 2),
        ("endorsement", 2),
        ("key_file", 2),
        ("attest", 2),
        ("context", 2),
        ("capability", 2),
        ("nv", 2),
        ("object", 2),
        ("pcr", 2),
        ("policy", 2),
        ("seal", 2),
        ("template", 2),
        ("error", 2),
        ("commands", 1),
        ("crypto", 1),
        ("types", 0),
        ("wire", 0),
    ],
    neighbours: Neighbours::Known,
};

const AUTHORITY: House = House {
    name: "authority",
    modules: &[
        ("command", 8),
        ("assemble", 7),
        ("server", 6),
        ("wire", 5),
        ("service", 4),
        ("cluster", 4),
        ("store", 3),
        ("cli", 3),
        ("metrics", 2),
        ("config", 2),
        ("audit", 1),
        ("issue", 1),
        ("data_directory", 0),
        ("install", 0),
        ("log", 0),
        ("resource", 0),
    ],
    neighbours: Neighbours::Strangers,
};

const AGENT: House = House {
    name: "agent",
    modules: &[
        ("command", 7),
        ("daemon", 6),
        ("doctor", 6),
        ("storage", 5),
        ("ceremony", 4),
        ("deliver", 4),
        ("cli", 3),
        ("credential", 3),
        ("install", 3),
        ("config", 2),
        ("keys", 2),
        ("tpm", 1),
        ("file_access", 0),
        ("log", 0),
        ("trusted", 0),
    ],
    neighbours: Neighbours::Strangers,
};

/// Crates in which no module uses one that uses it, be it by way of others.
const WITHOUT_CYCLES: [&str; 7] =
    ["agent", "authority", "host", "testkit", "tls", "tpm2", "verifier"];

/// Another crate that only some modules of a house may use.
struct Border {
    house: &'static str,
    name: &'static str,
    modules: &'static [&'static str],
}

/// Where the messages of a protocol, and gRPC, end: what the authority decides is the same for all protocols.
const BORDERS: [Border; 3] = [
    Border { house: "authority", name: "proto", modules: &["wire", "server", "command"] },
    Border { house: "authority", name: "prost", modules: &["wire"] },
    Border {
        house: "authority",
        name: "tonic",
        modules: &["wire", "server", "command", "assemble"],
    },
];

/// Refuses the workspace if a dependency points up.
pub fn check(workspace: &Path) -> Result<()> {
    let mut faults = crate_faults(&metadata(workspace)?)?;
    for name in WITHOUT_CYCLES {
        faults.extend(cycles::faults(name, &workspace.join(name).join("src"))?);
    }
    for house in [&TPM2, &AUTHORITY, &AGENT] {
        let source = workspace.join(house.name).join("src");
        for (path, text) in rust_files(&source)? {
            let found = module_faults(house, path.strip_prefix(&source)?, &text);
            faults.extend(found.with_context(|| format!("reading {}", path.display()))?);
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(())
}

fn metadata(workspace: &Path) -> Result<Value> {
    let mut command = crate::cargo();
    command.current_dir(workspace).args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = command.output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata does not speak JSON")
}

/// What is wrong with the dependencies of the workspace's crates on one another. Those of tests do
/// not count.
fn crate_faults(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    ensure!(!packages.is_empty(), "cargo metadata: no packages");
    let members: Vec<&str> =
        packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("cargo metadata: a package has no name")?;
        let Some(own) = floor(&CRATES, name) else {
            faults.push(format!("crate {name} has no floor: give it one in xtask/src/floors.rs"));
            continue;
        };
        let wanted = package["dependencies"].as_array().context("cargo metadata: dependencies")?;
        for dependency in wanted.iter().filter(|dependency| dependency["kind"] != "dev") {
            let other = dependency["name"].as_str().context("cargo metadata: dependencies")?;
            if !members.contains(&other) {
                continue;
            }
            match floor(&CRATES, other) {
                Some(floor) if floor > own => faults.push(format!(
                    "crate {name} (floor {own}) depends on {other} (floor {floor}): up"
                )),
                Some(STRANGERS) if own == STRANGERS => faults.push(format!(
                    "crate {name} depends on {other}: floor {own} has no neighbours"
                )),
                _ => {}
            }
        }
    }
    Ok(faults)
}

/// The module below the crate's root that a file belongs to, and how deep the file lies below that root. None for the root
/// itself and for tests. `file` is relative to the crate's `src`.
fn module_of(file: &Path) -> Option<(String, usize)> {
    let path: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .filter(|part| part != "mod")
        .collect();
    let is_root = |first: &String| first == "lib" || first == "main";
    let module = path.first().filter(|first| !is_root(first))?;
    (!path.iter().any(|part| part == "tests")).then(|| (module.clone(), path.len()))
}

/// What is wrong with the paths in one file of a house; `file` is relative to its `src`.
fn module_faults(house: &House, file: &Path, source: &str) -> Result<Vec<String>> {
    let Some((name, depth)) = module_of(file) else { return Ok(Vec::new()) };
    let House { name: house_name, modules, neighbours } = house;
    let Some(own) = floor(modules, &name) else {
        return Ok(vec![format!(
            "module {house_name}::{name} has no floor: give it one in xtask/src/floors.rs"
        )]);
    };
    let mut faults = border_faults(house_name, &name, file, source)?;
    for used in root_names(source, depth)? {
        let at = format!("{house_name}/src/{}:{}", file.display(), used.line);
        match floor(modules, &used.name) {
            Some(floor) if floor > own => faults.push(format!(
                "{at}: module {name} (floor {own}) uses {} (floor {floor}): up",
                used.name
            )),
            Some(floor)
                if floor == own && used.name != name && *neighbours == Neighbours::Strangers =>
            {
                faults.push(format!(
                    "{at}: module {name} uses {}, its neighbour on floor {own}",
                    used.name
                ));
            }
            // Modules without a floor, and names of the root, are refused elsewhere.
            _ => {}
        }
    }
    Ok(faults)
}

/// The uses of crates that are not for this module.
fn border_faults(house: &str, module: &str, file: &Path, source: &str) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for border in BORDERS.iter().filter(|border| border.house == house) {
        if border.modules.contains(&module) {
            continue;
        }
        for line in crate_uses(source, border.name)? {
            let (file, name) = (file.display(), border.name);
            let only = border.modules.join(", ");
            faults.push(format!(
                "{house}/src/{file}:{line}: module {module} uses the crate {name}, which is for {only}"
            ));
        }
    }
    Ok(faults)
}

fn floor(table: &[(&str, u8)], name: &str) -> Option<u8> {
    table.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[(&str, Value)]) -> Value {
        let dependencies: Vec<_> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "dependencies": dependencies})
    }

    fn faults(packages: &[Value]) -> Vec<String> {
        crate_faults(&json!({"packages": packages})).unwrap()
    }

    #[test]
    fn dependencies_that_point_down_pass() {
        let found = faults(&[
            package(
                "agent",
                &[("tls", Value::Null), ("tpm2", Value::Null), ("serde", Value::Null)],
            ),
            package("tls", &[("tpm2", Value::Null)]),
            package("tpm2", &[("xtask", json!("dev")), ("sha2", Value::Null)]),
            package("xtask", &[]),
            package("tests", &[("xtask", Value::Null), ("agent", Value::Null)]),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn dependencies_that_point_up_or_sideways_are_refused() {
        let up = faults(&[package("tpm2", &[("tls", Value::Null)]), package("tls", &[])]);
        assert_eq!(up, ["crate tpm2 (floor 2) depends on tls (floor 3): up"]);
        let build =
            faults(&[package("proto", &[("xtask", json!("build"))]), package("xtask", &[])]);
        assert_eq!(build, ["crate proto (floor 3) depends on xtask (floor 5): up"]);
        let sideways =
            faults(&[package("agent", &[("authority", Value::Null)]), package("authority", &[])]);
        assert_eq!(sideways, ["crate agent depends on authority: floor 4 has no neighbours"]);
        let unknown = faults(&[package("common", &[])]);
        assert!(unknown[0].starts_with("crate common has no floor"), "{unknown:?}");
        assert!(crate_faults(&json!({"packages": []})).is_err());
    }

    fn uses(file: &str, source: &str) -> Vec<String> {
        module_faults(&TPM2, Path::new(file), source).unwrap()
    }

    #[test]
    fn modules_that_look_down_pass() {
        let source = "
            use crate::wire::{Reader, Writer};
            use crate::{types::Handle, commands::{self, Sign}};
            use super::types::Name;
            /// see crate::client
            pub(crate) fn f() { let s = \"crate::client\"; }
            #[cfg(test)] mod tests { use crate::client::Tpm; }
            macro_rules! m { () => { $crate::client::Tpm } }
        ";
        assert!(uses("crypto/mod.rs", source).is_empty());
        assert!(uses("wire/tests.rs", "use crate::client::Tpm;").is_empty());
        assert!(uses("lib.rs", "pub use crate::client::Tpm;").is_empty());
        assert!(uses("wire/reader.rs", "use super::client;").is_empty(), "wire::client is another");
    }

    #[test]
    fn modules_that_look_up_are_refused_however_they_say_it() {
        for source in [
            "use crate::client::Tpm;",
            "use crate::{types, client::{Tpm}};",
            "use super::super::client;",
        ] {
            let found = uses("wire/reader.rs", source);
            let expected =
                "tpm2/src/wire/reader.rs:1: module wire (floor 0) uses client (floor 2): up";
            assert_eq!(found, [expected], "{source}");
        }
    }

    #[test]
    fn modules_that_use_each_other_are_refused() {
        let uses = |file: &str, source| module_faults(&AUTHORITY, Path::new(file), source).unwrap();
        for (file, source) in [
            ("service/join.rs", "use crate::server::Connection;"),
            ("config.rs", "use crate::cli::Start;"),
            ("store/measured.rs", "use crate::service::refusal::Refusal;"),
            ("metrics.rs", "use crate::service::refusal::Refusal;"),
            ("service/join.rs", "use crate::wire::status::stream_ended;"),
        ] {
            assert!(uses(file, source)[0].ends_with(": up"), "{file}");
        }
        let sideways = uses("audit/log.rs", "use crate::issue::Issuer;");
        let expected =
            "authority/src/audit/log.rs:1: module audit uses issue, its neighbour on floor 1";
        assert_eq!(sideways, [expected]);
        assert!(
            uses("audit/log.rs", "use crate::audit::Row; use crate::data_directory::File;")
                .is_empty()
        );
    }

    #[test]
    fn messages_of_a_protocol_end_at_the_adapters() {
        let uses = |file: &str, source| module_faults(&AUTHORITY, Path::new(file), source).unwrap();
        for file in ["service/join.rs", "service/admin.rs", "issue/mod.rs", "store/redb.rs"] {
            for source in [
                "use proto::v1::JoinInit;",
                "use ::proto::transcript;",
                "use proto as p;",
                "extern crate proto;",
                "use {std::fmt, proto::v1};",
                "fn f(_: &proto::v1::JoinInit) {}",
                "fn f() { info!(\"{}\", tonic::Code::Ok) }",
                "use prost::Message;",
            ] {
                let found = uses(file, source);
                assert!(found.len() == 1 && found[0].contains("which is for wire"), "{source}");
            }
        }
        assert!(uses("wire/endorse_v1.rs", "use proto::v1::JoinInit;").is_empty());
        let found = uses("service/join.rs", "\nuse proto::v1::JoinInit;");
        let expected = "authority/src/service/join.rs:2: module service uses the crate proto, \
                        which is for wire, server, command";
        assert_eq!(found, [expected]);
        let others = "// proto::v1\nuse self::x; #[cfg(test)] mod tests { use proto::v1; } fn f(proto: u8) { g(proto, \"proto::v1\") }";
        assert!(uses("service/join.rs", others).is_empty());
    }

    #[test]
    fn cycles_that_were_in_the_agent_are_refused() {
        let uses = |file: &str, source| module_faults(&AGENT, Path::new(file), source).unwrap();
        for (file, source) in [
            ("config/files.rs", "use crate::ceremony::client::Client;"),
            ("config/mod.rs", "use crate::cli::Cli;"),
            ("credential/identity.rs", "use crate::daemon::machine::Validity;"),
            ("credential/mod.rs", "use crate::deliver::artifact::SoftwareKey;"),
        ] {
            assert!(uses(file, source)[0].ends_with(": up"), "{file}");
        }
        let sideways = uses("deliver/reload.rs", "use crate::ceremony::client::Client;");
        assert!(sideways[0].ends_with("module deliver uses ceremony, its neighbour on floor 4"));
    }

    #[test]
    fn modules_without_a_floor_are_refused() {
        assert!(uses("util.rs", "")[0].starts_with("module tpm2::util has no floor"));
    }
}
