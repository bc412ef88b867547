//! `cargo xtask platforms`: the libraries compile for platforms other than this one. A command of its own, since it needs their
//! standard libraries.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, musl};

/// A platform, and what compiles for it.
struct Platform {
    target: &'static str,
    packages: &'static [&'static str],
    features: &'static str,
}

const PLATFORMS: [Platform; 2] = [
    Platform {
        target: "x86_64-pc-windows-gnu",
        packages: &["tpm2-client", "tpm2-verifier"],
        features: "--all-features",
    },
    // Without an operating system: there is no `std`.
    Platform {
        target: "thumbv7em-none-eabihf",
        packages: &["tpm2-client"],
        features: "--no-default-features",
    },
];

/// Checks them all.
pub fn run() -> Result<()> {
    for Platform { target, packages, features } in PLATFORMS {
        if !musl::has_target(target)? {
            bail!("no libraries for {target}; `rustup target add {target}` installs them");
        }
        for package in packages {
            eprintln!("platforms: {package} for {target}");
            let mut check = cargo();
            check.args(["check", "--quiet", "--lib", "--target", target, features]);
            check.args(["--package", package]);
            let status = check.stdin(Stdio::null()).status().context("cannot run cargo")?;
            ensure!(status.success(), "{package} does not compile for {target}");
        }
    }
    Ok(())
}
