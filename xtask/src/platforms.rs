//! `cargo xtask platforms`: the libraries compile for platforms other than this one. A command of its own, since it needs their
//! standard libraries.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, musl};

/// A platform, and what compiles for it.
struct Platform {
    target: &'static str,
    packages: &'static [&'static str],
    /// Sets of features, each as arguments of cargo.
    features: &'static [&'static str],
}

const PLATFORMS: [Platform; 2] = [
    Platform {
        target: "x86_64-pc-windows-gnu",
        packages: &["tpm2-client", "tpm2-verifier"],
        features: &["--all-features"],
    },
    // Without an operating system there is no `std`, and no randomness but the caller's.
    Platform {
        target: "thumbv7em-none-eabihf",
        packages: &["tpm2-client"],
        features: &[
            "--no-default-features",
            "--no-default-features --features crypto",
            "--no-default-features --features client",
            "--no-default-features --features key-file,signature,p384,p521,rsa",
        ],
    },
];

/// Checks them all.
pub fn run() -> Result<()> {
    for Platform { target, packages, features } in PLATFORMS {
        if !musl::has_target(target)? {
            bail!("no libraries for {target}; `rustup target add {target}` installs them");
        }
        for package in packages {
            features.iter().try_for_each(|set| check(target, package, set))?;
        }
    }
    Ok(())
}

fn check(target: &str, package: &str, features: &str) -> Result<()> {
    eprintln!("platforms: {package} for {target} {features}");
    let mut check = cargo();
    check.args(["check", "--quiet", "--lib", "--target", target, "--package", package]);
    let status = check.args(features.split(' ')).stdin(Stdio::null()).status();
    let compiles = status.context("cannot run cargo")?.success();
    ensure!(compiles, "{package} does not compile for {target} with {features}");
    Ok(())
}
