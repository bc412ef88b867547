//! The gates on what `agent` and `authority` are built from: no C, and one generation of
//! RustCrypto.
//!
//! They read `cargo tree`, not Cargo.lock: optional dependencies that are not built (ring and cc
//! among them) stand in the latter.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The crates that are shipped.
const SHIPPED: [&str; 2] = ["agent", "authority"];

/// Crates that compile C, or find a C library to link.
const C: [&str; 7] = ["bindgen", "cc", "cmake", "nasm-rs", "pkg-config", "ring", "vcpkg"];
const C_FAMILIES: [&str; 3] = ["aws-lc", "boring", "openssl"];
/// Crates named `-sys` that declare and link nothing of their own.
const DECLARATIONS: [&str; 4] = ["js-sys", "linux-raw-sys", "web-sys", "windows-sys"];

/// The RustCrypto and dalek crates that two of ours may exchange values of.
const RUSTCRYPTO: [&str; 56] = [
    "aead",
    "aes",
    "aes-gcm",
    "base16ct",
    "base64ct",
    "block-buffer",
    "block-padding",
    "cfb-mode",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cmov",
    "cms",
    "const-oid",
    "cpufeatures",
    "crypto-bigint",
    "crypto-common",
    "ctr",
    "ctutils",
    "curve25519-dalek",
    "der",
    "der_derive",
    "digest",
    "ecdsa",
    "ed25519",
    "ed25519-dalek",
    "elliptic-curve",
    "ff",
    "ghash",
    "group",
    "hkdf",
    "hmac",
    "hybrid-array",
    "inout",
    "p256",
    "p384",
    "pkcs1",
    "pkcs8",
    "poly1305",
    "polyval",
    "primefield",
    "primeorder",
    "rand_core",
    "rfc6979",
    "rsa",
    "sec1",
    "sha1",
    "sha2",
    "signature",
    "spki",
    "ssh-encoding",
    "ssh-key",
    "subtle",
    "universal-hash",
    "x25519-dalek",
    "x509-cert",
];

/// Refuses the workspace if what it ships contains C.
pub fn check_c(workspace: &Path) -> Result<()> {
    for package in SHIPPED {
        let found = c_in(&tree(workspace, package)?);
        ensure!(
            found.is_empty(),
            "{package} would be built with C: {}\n`cargo tree -p {package} -e normal,build \
             --target all -i CRATE` says who wants it",
            found.join(", ")
        );
    }
    Ok(())
}

/// Refuses the workspace if what it ships contains a RustCrypto crate at two versions.
pub fn check_duplicates(workspace: &Path) -> Result<()> {
    for package in SHIPPED {
        let found = duplicates_in(&tree(workspace, package)?);
        ensure!(
            found.is_empty(),
            "{package} would contain two generations of RustCrypto: {}",
            found.join(", ")
        );
    }
    Ok(())
}

/// What `cargo tree` says that a package is built from, on whatever platform.
fn tree(workspace: &Path, package: &str) -> Result<String> {
    let mut command = crate::cargo();
    command.current_dir(workspace);
    command.args(["tree", "--package", package, "--edges", "normal,build", "--target", "all"]);
    command.args(["--all-features", "--prefix", "none", "--format", "{p}", "--color", "never"]);
    let output = command.output().context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    let text = String::from_utf8(output.stdout).context("cargo tree does not speak UTF-8")?;
    ensure!(text.starts_with(&format!("{package} v")), "cargo tree says nothing of {package}");
    Ok(text)
}

fn c_in(tree: &str) -> Vec<String> {
    let suspect = |name: &str| {
        C.contains(&name)
            || C_FAMILIES.iter().any(|family| name.starts_with(family))
            || name.ends_with("-sys") && !DECLARATIONS.contains(&name)
    };
    let found: BTreeSet<_> = packages(tree)
        .filter(|(name, _)| suspect(name))
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    found.into_iter().collect()
}

fn duplicates_in(tree: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in packages(tree).filter(|(name, _)| RUSTCRYPTO.contains(name)) {
        versions.entry(name).or_default().insert(version);
    }
    versions
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| {
            format!("{name} {}", versions.into_iter().collect::<Vec<_>>().join(" and "))
        })
        .collect()
}

/// The lines `name vVERSION ...`.
fn packages(tree: &str) -> impl Iterator<Item = (&str, &str)> {
    tree.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?.strip_prefix('v')?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use testkit::child::Scratch;

    const GOOD: &str = "agent v0.1.0 (/src/agent)\nsha2 v0.11.1\nlinux-raw-sys v0.12.1\n\
                        syn v2.0.1 (proc-macro)\nsyn v3.0.0 (proc-macro)\nsha2 v0.11.1 (*)\n";

    #[test]
    fn a_good_tree_passes() {
        assert!(c_in(GOOD).is_empty());
        assert!(duplicates_in(GOOD).is_empty());
    }

    #[test]
    fn two_versions_of_a_rustcrypto_crate_are_seen() {
        let tree = format!("{GOOD}digest v0.10.7\nsha2 v0.10.9\ndigest v0.11.3 (*)\n");
        assert_eq!(duplicates_in(&tree), ["digest 0.10.7 and 0.11.3", "sha2 0.10.9 and 0.11.1"]);
    }

    #[test]
    fn every_kind_of_c_is_seen() {
        for name in ["cc", "ring", "aws-lc-rs", "aws-lc-sys", "openssl-sys", "libz-sys", "cmake"] {
            let tree = format!("{GOOD}{name} v1.2.3\n");
            assert_eq!(c_in(&tree), [format!("{name} 1.2.3")]);
        }
    }

    #[test]
    fn ring_as_a_dependency_is_refused() {
        let scratch = Scratch::new("endorse-gate").unwrap();
        let write = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let package = |name: &str, dependencies: &str| {
            let text = format!(
                "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [dependencies]\n{dependencies}\n"
            );
            write(&format!("{name}/Cargo.toml"), &text);
            write(&format!("{name}/src/lib.rs"), "");
        };
        write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"agent\", \"authority\"]\n",
        );
        package("agent", "");
        package("authority", "");
        check_c(scratch.path()).unwrap();
        check_duplicates(scratch.path()).unwrap();
        package("authority", "ring = \"0.17\"");
        let error = check_c(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("authority would be built with C: cc "), "{error}");
        assert!(error.contains("ring 0.17"), "{error}");
    }

    #[test]
    fn a_tree_that_cannot_be_had_is_an_error() {
        let scratch = Scratch::new("endorse-gate").unwrap();
        assert!(check_c(scratch.path()).is_err());
    }
}
