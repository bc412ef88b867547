//! `cargo xtask floors`: a floor is a layer. Crates, and in some crates modules, depend only on lower floors.

mod cycles;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::source::{crate_uses, root_names, rust_files};

/// The floor of each crate.
const CRATES: [(&str, u8); 14] = [
    ("tests", 5),
    ("benches", 5),
    ("fuzz", 5),
    ("xtask", 5),
    ("testkit", 5),
    ("agent", 4),
    ("authority", 4),
    ("proto", 3),
    ("tls", 3),
    ("tpm2-verifier", 3),
    ("no_std", 3),
    ("host", 3),
    ("tpm2-client", 2),
    ("ecc", 2),
];
/// The floor of the programs, which may not depend on each other.
const PROGRAMS: u8 = 4;

/// The floors of a crate's modules.
struct ModuleFloors {
    crate_name: &'static str,
    /// The floor of each module.
    modules: &'static [(&'static str, u8)],
    same_floor: SameFloor,
}

/// Whether modules on the same floor may use each other.
#[derive(PartialEq, Eq)]
enum SameFloor {
    /// They may, though not in a cycle.
    Allowed,
    /// They may not.
    Refused,
}

const TPM2: ModuleFloors = ModuleFloors {
    crate_name: "tpm2",
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
        ("signer", 2),
        ("tools", 2),
        ("template", 2),
        ("testdata", 2),
        ("error", 2),
        ("commands", 1),
        ("crypto", 1),
        ("types", 0),
        ("wire", 0),
    ],
    same_floor: SameFloor::Allowed,
};

const AUTHORITY: ModuleFloors = ModuleFloors {
    crate_name: "authority",
    modules: &[
        ("command", 9),
        ("assemble", 8),
        ("server", 7),
        ("wire", 6),
        ("service", 5),
        ("cluster", 5),
        ("backup", 5),
        ("keyring", 4),
        ("store", 3),
        ("cli", 3),
        ("public_names", 3),
        ("metrics", 2),
        ("config", 2),
        ("audit", 1),
        ("evidence", 1),
        ("issue", 1),
        ("data_directory", 0),
        ("install", 0),
        ("log", 0),
        ("resource", 0),
        ("rsa_key", 0),
    ],
    same_floor: SameFloor::Refused,
};

const AGENT: ModuleFloors = ModuleFloors {
    crate_name: "agent",
    modules: &[
        ("command", 7),
        ("daemon", 6),
        ("doctor", 6),
        ("storage", 5),
        ("ceremony", 4),
        ("deliver", 4),
        ("ssh_agent", 4),
        ("workload_api", 4),
        ("cli", 3),
        ("credential", 3),
        ("install", 3),
        ("config", 2),
        ("keys", 2),
        ("attest", 1),
        ("tpm", 1),
        ("connections", 0),
        ("file_access", 0),
        ("log", 0),
        ("parts", 0),
        ("spiffe_id", 0),
        ("ssh", 0),
        ("trusted", 0),
    ],
    same_floor: SameFloor::Refused,
};

/// Crates whose modules have no dependency cycles, direct or indirect.
const WITHOUT_CYCLES: [&str; 8] =
    ["agent", "authority", "ecc", "host", "testkit", "tls", "tpm2", "verifier"];

/// A dependency of a crate that only some of its modules may use.
struct Restricted {
    crate_name: &'static str,
    dependency: &'static str,
    modules: &'static [&'static str],
}

/// The authority's decisions are the same for all protocols, so only its outer modules know messages and gRPC. The agent's
/// credentials do not depend on how they were issued.
const RESTRICTED: [Restricted; 6] = [
    Restricted {
        crate_name: "authority",
        dependency: "proto",
        modules: &["wire", "server", "command"],
    },
    Restricted { crate_name: "authority", dependency: "prost", modules: &["wire"] },
    Restricted {
        crate_name: "authority",
        dependency: "tonic",
        modules: &["wire", "server", "command", "assemble"],
    },
    Restricted { crate_name: "agent", dependency: "proto", modules: &["ceremony", "workload_api"] },
    Restricted { crate_name: "agent", dependency: "prost", modules: &["ceremony", "workload_api"] },
    Restricted { crate_name: "agent", dependency: "tonic", modules: &["ceremony", "workload_api"] },
];

/// Fails if a dependency points up.
pub fn check(workspace: &Path) -> Result<()> {
    let mut faults = crate_faults(&metadata(workspace)?)?;
    for name in WITHOUT_CYCLES {
        faults.extend(cycles::faults(name, &workspace.join(name).join("src"))?);
    }
    for floors in [&TPM2, &AUTHORITY, &AGENT] {
        let source = workspace.join(floors.crate_name).join("src");
        for (path, text) in rust_files(&source)? {
            let found = module_faults(floors, path.strip_prefix(&source)?, &text);
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
                    "crate {name} (floor {own}) depends on {other} (floor {floor}), which is above it"
                )),
                Some(PROGRAMS) if own == PROGRAMS => faults.push(format!(
                    "crate {name} depends on {other}: crates on floor {own} must not depend on each other"
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

/// The forbidden paths in one file of a crate; `file` is relative to its `src`.
fn module_faults(floors: &ModuleFloors, file: &Path, source: &str) -> Result<Vec<String>> {
    let Some((name, depth)) = module_of(file) else { return Ok(Vec::new()) };
    let ModuleFloors { crate_name, modules, same_floor } = floors;
    let Some(own) = floor(modules, &name) else {
        return Ok(vec![format!(
            "module {crate_name}::{name} has no floor: give it one in xtask/src/floors.rs"
        )]);
    };
    let mut faults = restricted_faults(crate_name, &name, file, source)?;
    for used in root_names(source, depth)? {
        let at = format!("{crate_name}/src/{}:{}", file.display(), used.line);
        match floor(modules, &used.name) {
            Some(floor) if floor > own => faults.push(format!(
                "{at}: module {name} (floor {own}) uses {} (floor {floor}), which is above it",
                used.name
            )),
            Some(floor)
                if floor == own && used.name != name && *same_floor == SameFloor::Refused =>
            {
                faults.push(format!(
                    "{at}: module {name} uses {}, which is on the same floor ({own})",
                    used.name
                ));
            }
            // Modules without a floor, and names of the root, are refused elsewhere.
            _ => {}
        }
    }
    Ok(faults)
}

/// The uses of dependencies that are restricted to other modules.
fn restricted_faults(
    crate_name: &str,
    module: &str,
    file: &Path,
    source: &str,
) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for rule in RESTRICTED.iter().filter(|rule| rule.crate_name == crate_name) {
        if rule.modules.contains(&module) {
            continue;
        }
        for line in crate_uses(source, rule.dependency)? {
            let (file, name) = (file.display(), rule.dependency);
            let only = rule.modules.join(", ");
            faults.push(format!(
                "{crate_name}/src/{file}:{line}: module {module} uses the crate {name}, which only {only} may use"
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
                &[("tls", Value::Null), ("tpm2-client", Value::Null), ("serde", Value::Null)],
            ),
            package("tls", &[("tpm2-client", Value::Null)]),
            package("tpm2-client", &[("xtask", json!("dev")), ("sha2", Value::Null)]),
            package("xtask", &[]),
            package("tests", &[("xtask", Value::Null), ("agent", Value::Null)]),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn dependencies_that_point_up_or_to_the_same_floor_are_refused() {
        let up = faults(&[package("tpm2-client", &[("tls", Value::Null)]), package("tls", &[])]);
        assert_eq!(up, ["crate tpm2-client (floor 2) depends on tls (floor 3), which is above it"]);
        let build =
            faults(&[package("proto", &[("xtask", json!("build"))]), package("xtask", &[])]);
        assert_eq!(build, ["crate proto (floor 3) depends on xtask (floor 5), which is above it"]);
        let sideways =
            faults(&[package("agent", &[("authority", Value::Null)]), package("authority", &[])]);
        assert_eq!(
            sideways,
            ["crate agent depends on authority: crates on floor 4 must not depend on each other"]
        );
        let unknown = faults(&[package("common", &[])]);
        assert!(unknown[0].starts_with("crate common has no floor"), "{unknown:?}");
        assert!(crate_faults(&json!({"packages": []})).is_err());
    }

    fn uses(file: &str, source: &str) -> Vec<String> {
        module_faults(&TPM2, Path::new(file), source).unwrap()
    }

    #[test]
    fn modules_that_use_lower_floors_pass() {
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
    fn modules_that_use_higher_floors_are_refused() {
        for source in [
            "use crate::client::Tpm;",
            "use crate::{types, client::{Tpm}};",
            "use super::super::client;",
        ] {
            let found = uses("wire/reader.rs", source);
            let expected = "tpm2/src/wire/reader.rs:1: module wire (floor 0) uses client (floor 2), which is above it";
            assert_eq!(found, [expected], "{source}");
        }
    }

    #[test]
    fn dependencies_that_were_in_the_authority_are_refused() {
        let uses = |file: &str, source| module_faults(&AUTHORITY, Path::new(file), source).unwrap();
        for (file, source) in [
            ("service/join.rs", "use crate::server::Connection;"),
            ("config.rs", "use crate::cli::Start;"),
            ("store/measured.rs", "use crate::service::refusal::Refusal;"),
            ("metrics.rs", "use crate::service::refusal::Refusal;"),
            ("service/join.rs", "use crate::wire::status::stream_ended;"),
        ] {
            assert!(uses(file, source)[0].ends_with(", which is above it"), "{file}");
        }
        let sideways = uses("audit/log.rs", "use crate::issue::Issuer;");
        let expected =
            "authority/src/audit/log.rs:1: module audit uses issue, which is on the same floor (1)";
        assert_eq!(sideways, [expected]);
        assert!(
            uses("audit/log.rs", "use crate::audit::Row; use crate::data_directory::File;")
                .is_empty()
        );
    }

    #[test]
    fn only_the_adapters_may_use_messages_of_a_protocol() {
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
                assert!(found.len() == 1 && found[0].contains("which only wire"), "{source}");
            }
        }
        assert!(uses("wire/endorse_v1.rs", "use proto::v1::JoinInit;").is_empty());
        let found = uses("service/join.rs", "\nuse proto::v1::JoinInit;");
        let expected = "authority/src/service/join.rs:2: module service uses the crate proto, \
                        which only wire, server, command may use";
        assert_eq!(found, [expected]);
        let others = "// proto::v1\nuse self::x; #[cfg(test)] mod tests { use proto::v1; } fn f(proto: u8) { g(proto, \"proto::v1\") }";
        assert!(uses("service/join.rs", others).is_empty());
        let uses = |file: &str| {
            module_faults(&AGENT, Path::new(file), "use proto::v1::IssuedCredentials;").unwrap()
        };
        assert!(
            uses("ceremony/endorse_v1.rs").is_empty() && uses("workload_api/calls.rs").is_empty()
        );
        for file in ["credential/mod.rs", "daemon/worker.rs", "storage.rs"] {
            assert!(
                uses(file).concat().ends_with("which only ceremony, workload_api may use"),
                "{file}"
            );
        }
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
            assert!(uses(file, source)[0].ends_with(", which is above it"), "{file}");
        }
        let sideways = uses("deliver/reload.rs", "use crate::ceremony::client::Client;");
        assert!(
            sideways[0].ends_with("module deliver uses ceremony, which is on the same floor (4)")
        );
    }

    #[test]
    fn modules_without_a_floor_are_refused() {
        assert!(uses("util.rs", "")[0].starts_with("module tpm2::util has no floor"));
    }
}
