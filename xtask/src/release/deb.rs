//! Packages in Debian's format.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Mode, Product, Release, depends, output, write};

/// The parts of a package that are written by hand.
struct Parts {
    control: &'static str,
    sysusers: &'static str,
    postinst: &'static str,
    prerm: &'static str,
    postrm: &'static str,
}

const AGENT: Parts = Parts {
    control: include_str!("data/agent.control"),
    sysusers: include_str!("data/agent.sysusers"),
    postinst: include_str!("data/agent.postinst"),
    prerm: include_str!("data/agent.prerm"),
    postrm: include_str!("data/agent.postrm"),
};
const AUTHORITY: Parts = Parts {
    control: include_str!("data/authority.control"),
    sysusers: include_str!("data/authority.sysusers"),
    postinst: include_str!("data/authority.postinst"),
    prerm: include_str!("data/authority.prerm"),
    postrm: include_str!("data/authority.postrm"),
};

fn parts(name: &str) -> Result<&'static Parts> {
    let known = [("agent", &AGENT), ("authority", &AUTHORITY)];
    let found = known.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, parts)| parts).with_context(|| format!("no package of {name}"))
}

/// The users of a package, as sysusers.d(5) declares them.
pub(super) fn sysusers(name: &str) -> Result<&'static str> {
    Ok(parts(name)?.sysusers)
}

/// Makes the package from the file tree.
pub(super) fn build(release: &Release, product: &Product, tree: &Path) -> Result<PathBuf> {
    let parts = parts(product.name)?;
    let depends = depends(&product.program)?;
    let overrides = tree.join(format!("usr/share/lintian/overrides/endorse-{}", product.name));
    write(&overrides, overridden(product.name, &depends).as_bytes(), Mode::File)?;
    let control = tree.join("DEBIAN");
    let size = output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree.join("usr")))?;
    let size = size.split_whitespace().next().context("du says nothing")?;
    let text = parts
        .control
        .replace("@VERSION@", &release.version)
        .replace("@ARCHITECTURE@", "amd64")
        .replace("@SIZE@", size)
        .replace("@DEPENDS@", &depends);
    write(&control.join("control"), text.as_bytes(), Mode::File)?;
    for (name, script) in
        [("postinst", parts.postinst), ("prerm", parts.prerm), ("postrm", parts.postrm)]
    {
        write(&control.join(name), script.as_bytes(), Mode::Program)?;
    }
    let mut sums = Command::new("sh");
    sums.args(["-c", "find usr -type f | LC_ALL=C sort | xargs md5sum"]).current_dir(tree);
    write(&control.join("md5sums"), output(&mut sums)?.as_bytes(), Mode::File)?;

    let name = format!("endorse-{}_{}_amd64.deb", product.name, release.version);
    let path = release.directory.join(name);
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group", "-Zxz"]).arg(tree).arg(&path);
    build.env("SOURCE_DATE_EPOCH", &release.epoch);
    output(&mut build)?;
    fs::remove_dir_all(control)?;
    Ok(path)
}

/// What lintian would say, and why it is meant that way.
fn overridden(name: &str, depends: &str) -> String {
    let mut text = format!(
        "# Only where systemd runs, and without tools of Debian's alone.\n\
         endorse-{name}: maintainer-script-calls-systemctl\n"
    );
    if !depends.contains("libc6") {
        text.push_str(&format!(
            "# It runs on any host, whatever that has in the way of libraries.\n\
             endorse-{name}: statically-linked-binary [usr/bin/{name}]\n"
        ));
    }
    text
}
