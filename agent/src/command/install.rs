//! `agent install`.

use std::path::Path;

use host::exit::{Exit, Failure};
use host::install_file;
use host::output::note;

use crate::cli::install::{Install, Systemd, Udev};
use crate::config::{ConfigFile, Overrides};
use crate::install::udev;
use crate::install::unit::{Reach, Unit};

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
            .map_err(|cause| Failure::io(&cause, "cannot determine the path of this program"))?,
    };
    if let Some(file) = &arguments.pid_file {
        check_pid_file(file)?;
    }
    if arguments.anonymous_telemetry {
        note("the agent sends no telemetry");
    }
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
        storage: arguments.storage.map_or(reach.storage, Reach::directory_of),
        pid_file: arguments.pid_file,
        read_write: reach.read_write,
        callers: reach.callers,
        host_keys: reach.host_keys,
        sockets: reach.sockets,
        socket_groups: reach.socket_groups,
    };
    let text = unit
        .render()
        .map_err(|error| Failure::new(Exit::Usage, error.to_string(), "give an absolute path"))?;
    let path = arguments.systemd_directory.join(format!("{}.service", unit.name));
    install_file::install(&path, &text, arguments.writing)?;
    for missing in missing(&unit) {
        note(&missing);
    }
    if arguments.writing.write {
        note(&format!("next: systemctl daemon-reload && systemctl enable --now {}", unit.name));
    }
    Ok(())
}

/// The directory of the file is given to the agent's user, which must not be the one of all services.
fn check_pid_file(file: &Path) -> Result<(), Failure> {
    let directory =
        file.parent().filter(|directory| file.is_absolute() && *directory != Path::new("/"));
    let is_shared =
        |directory: &Path| ["/run", "/var/run"].iter().any(|run| directory == Path::new(run));
    match directory {
        Some(directory) if !is_shared(directory) => Ok(()),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("the agent's user cannot create {}", file.display()),
            "give an absolute path in a directory of its own, such as --pid-file /run/tbot/tbot.pid",
        )),
    }
}

/// What the configuration needs access to; the defaults without a configuration.
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

/// What this host lacks to start the systemd unit, each with the command that adds it.
fn missing(unit: &Unit) -> Vec<String> {
    let Unit { user, group, device_group, .. } = unit;
    let mut missing: Vec<String> =
        [group.missing_group(), user.missing_user(group)].into_iter().flatten().collect();
    if let Some(create) = device_group.missing_group().filter(|_| unit.uses_device()) {
        missing.push(format!("{create}, then agent install udev --write"));
    }
    let sockets = unit.sockets.iter().filter(|directory| !directory.starts_with("/run"));
    let directories = unit.read_write.iter().chain(sockets);
    for directory in directories.filter(|directory| !directory.exists()) {
        let directory = directory.display();
        missing.push(format!(
            "the directory {directory} does not exist yet: install -d -o {user} -g {group} -m 0750 {directory}"
        ));
    }
    if !unit.config.exists() {
        missing.push(format!("{} does not exist yet", unit.config.display()));
    }
    missing
}

fn udev_rule(arguments: &Udev) -> Result<(), Failure> {
    let other = udev::found(&udev::DIRECTORIES.map(Path::new));
    if let Some(other) = &other {
        let other = other.display();
        if arguments.writing.write && !arguments.writing.force {
            return Err(Failure::new(
                Exit::Config,
                format!("{other} already gives the TPM to a group"),
                "add --force to write a rule that overrides it; none is needed",
            ));
        }
        note(&format!("{other} already gives the TPM to a group"));
    }
    let path = arguments.udev_directory.join(udev::FILE);
    install_file::install(&path, &udev::rule(&arguments.group), arguments.writing)?;
    if let Some(missing) = arguments.group.missing_group() {
        note(&missing);
    }
    if arguments.writing.write {
        note("next: udevadm control --reload && udevadm trigger --subsystem-match=tpmrm");
    }
    Ok(())
}
