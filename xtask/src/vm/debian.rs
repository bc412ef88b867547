//! A disk with the smallest Debian that systemd runs on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::target_directory;

/// The oldest that packages are made for.
const SUITE: &str = "bookworm";
/// The system with CAs that it trusts, the lists of what else there is, and, downloaded and not installed,
/// what an agent's package recommends and what Teleport's systemd unit needs: guests have no network.
const BOOTSTRAP: [&str; 5] = [
    "--quiet",
    "--variant=minbase",
    "--include=systemd-sysv,udev,ca-certificates",
    "--skip=cleanup/apt",
    "--customize-hook=chroot \"$1\" apt-get install --quiet --yes --download-only tpm-udev procps",
];
/// A disk with the tree of an archive: `$1` the archive, `$2` the disk.
const DISK: &str = r#"mkdir tree && tar -C tree -xf "$1" --exclude='./dev/*' &&
    /sbin/mke2fs -q -t ext4 -d tree "$2" 2G"#;

/// The disk, from the target directory, or created there if it is not of this recipe. It is never written
/// to.
pub fn disk() -> Result<PathBuf> {
    let home = target_directory().join("vm");
    let (disk, recipe) = (home.join(format!("{SUITE}.ext4")), home.join(format!("{SUITE}.recipe")));
    let wanted = [&BOOTSTRAP[..], &[SUITE, DISK]].concat().join("\n");
    if disk.is_file() && fs::read_to_string(&recipe).is_ok_and(|made| made == wanted) {
        return Ok(disk);
    }
    let draft = home.join(format!("draft-{}", std::process::id()));
    fs::create_dir_all(&draft).with_context(|| format!("making {}", draft.display()))?;
    let made = bootstrap(&draft.canonicalize()?)
        .and_then(|made| fs::rename(made, &disk).context("naming the disk"));
    fs::remove_dir_all(&draft)?;
    made?;
    fs::write(recipe, wanted)?;
    Ok(disk)
}

fn bootstrap(draft: &Path) -> Result<PathBuf> {
    eprintln!("Making a Debian for guests: mmdebstrap {SUITE}");
    let (archive, disk) = (draft.join("tree.tar"), draft.join("disk"));
    run(Command::new("mmdebstrap").args(BOOTSTRAP).arg(SUITE).arg(&archive))?;
    // Who is not root may not make files of others, and need not.
    let mut make = Command::new("fakeroot");
    make.args(["sh", "-c", DISK, "disk"]).arg(&archive).arg(&disk).current_dir(draft);
    run(&mut make)?;
    Ok(disk)
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, said.trim_end());
    Ok(())
}
