//! `agent install`.

use std::io::Write;
use std::path::Path;

use super::write;
use crate::cli::install::{Install, Systemd, Udev, Writing};
use crate::config::{ConfigFile, Overrides};
use crate::exit::{Exit, Failure};
use crate::install::unit::{Reach, Unit};
use crate::install::{Overwrite, Placed, place, udev};

pub(crate) fn run(what: Install) -> Result<(), Failure> {
    match what {
        Install::Systemd(arguments) => systemd(*arguments),
        Install::Udev(arguments) => udev_rule(&arguments),
    }
}

fn systemd(arguments: Systemd) -> Result<(), Failure> {
    let program = match arguments.program {
        Some(program) => program,
        None => std::env::current_exe()
            .map_err(|cause| Failure::io(&cause, "cannot tell where this program is"))?,
    };
    let mut reach = reach(&arguments.file)?;
    reach.read_write.extend(arguments.read_write_path);
    let unit = Unit {
        group: arguments.group.unwrap_or_else(|| arguments.user.clone()),
        name: arguments.name,
        user: arguments.user,
        device_group: arguments.tpm_group,
        program,
        config: arguments.file.path().to_owned(),
        stated_tpm: arguments.tpm.is_some(),
        tpm: arguments.tpm.unwrap_or(reach.tpm),
        stated_storage: arguments.storage.is_some(),
        storage: arguments.storage.map_or(reach.storage, Reach::folder_of),
        read_write: reach.read_write,
    };
    let text = unit.render().map_err(|error| {
        Failure::new(Exit::Usage, error.to_string(), "give the path as it is from the root")
    })?;
    let path = arguments.systemd_directory.join(format!("{}.service", unit.name));
    deliver(&path, &text, arguments.writing)?;
    for missing in missing(&unit) {
        note(&missing);
    }
    if arguments.writing.write {
        note(&format!("next: systemctl daemon-reload && systemctl enable --now {}", unit.name));
    }
    Ok(())
}

/// What the configuration wants to reach; what is usual as long as there is none.
fn reach(file: &ConfigFile) -> Result<Reach, Failure> {
    let missing = |path: &Path| {
        path.try_exists()
            .map(|found| !found)
            .map_err(|cause| Failure::io(&cause, format!("cannot read {}", path.display())))
    };
    if missing(file.path())? {
        return Ok(Reach::default());
    }
    Ok(Reach::of(&file.load(&Overrides::default())?.settings))
}

/// What this host lacks for the unit to start, each with the command that mends it.
fn missing(unit: &Unit) -> Vec<String> {
    let Unit { user, group, device_group, .. } = unit;
    let (users, groups) = (Path::new("/etc/passwd"), Path::new("/etc/group"));
    let mut missing = Vec::new();
    if group.is_in(groups) == Some(false) {
        missing.push(format!("there is no group {group} yet: groupadd --system {group}"));
    }
    if user.is_in(users) == Some(false) {
        let home = "--home-dir /nonexistent --shell /usr/sbin/nologin";
        missing.push(format!(
            "there is no user {user} yet: useradd --system --gid {group} {home} {user}"
        ));
    }
    if unit.uses_device() && device_group.is_in(groups) == Some(false) {
        missing.push(format!(
            "there is no group {device_group} yet: groupadd --system {device_group}, then agent install udev --write"
        ));
    }
    for folder in unit.read_write.iter().filter(|folder| !folder.exists()) {
        let folder = folder.display();
        missing.push(format!(
            "there is no folder {folder} yet: install -d -o {user} -g {group} -m 0750 {folder}"
        ));
    }
    if !unit.config.exists() {
        missing.push(format!("there is no {} yet", unit.config.display()));
    }
    missing
}

fn udev_rule(arguments: &Udev) -> Result<(), Failure> {
    let other = udev::found(&udev::FOLDERS.map(Path::new));
    if let Some(other) = &other {
        let other = other.display();
        if arguments.writing.write && !arguments.writing.force {
            return Err(Failure::new(
                Exit::Config,
                format!("{other} already gives the TPM to a group"),
                "that is enough; --force writes a rule that overrides it",
            ));
        }
        note(&format!("{other} already gives the TPM to a group"));
    }
    let path = arguments.udev_directory.join(udev::FILE);
    deliver(&path, &udev::rule(&arguments.group), arguments.writing)?;
    if arguments.group.is_in(Path::new("/etc/group")) == Some(false) {
        note(&format!("there is no group {0} yet: groupadd --system {0}", arguments.group));
    }
    if arguments.writing.write {
        note("next: udevadm control --reload && udevadm trigger --subsystem-match=tpmrm");
    }
    Ok(())
}

/// Writes the file, or shows it.
fn deliver(path: &Path, text: &str, writing: Writing) -> Result<(), Failure> {
    if !writing.write {
        write(text.as_bytes())?;
        note(&format!("nothing was written; --write writes it to {}", path.display()));
        return Ok(());
    }
    let overwrite = if writing.force { Overwrite::Always } else { Overwrite::Never };
    let placed = place(path, text, overwrite)
        .map_err(|cause| Failure::io(&cause, format!("cannot write {}", path.display())))?;
    match placed {
        Placed::Written => write(format!("{} written\n", path.display()).as_bytes()),
        Placed::Unchanged => write(format!("{} is as it should be\n", path.display()).as_bytes()),
        Placed::Kept => Err(Failure::new(
            Exit::Config,
            format!("{} is there already and is another one", path.display()),
            "--force replaces it; `systemctl edit` adds to a unit without changing its file",
        )),
    }
}

/// A word on stderr; nobody hears it if that is closed.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}
