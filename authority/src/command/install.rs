//! authority install

use std::path::Path;

use super::{note, print};
use crate::cli::Start;
use crate::cli::install::Install;
use crate::config::Settings;
use crate::exit::{Exit, Failure};
use crate::install::{Overwrite, Placed, Unit, place};

pub(super) fn install(Install::Systemd(systemd): Install) -> Result<(), Failure> {
    // The unit's rights are for what the program will do, and that is what its configuration says.
    let settings = Settings::new(&systemd.start())?;
    let program = match systemd.program {
        Some(program) => program,
        None => std::env::current_exe()
            .map_err(|cause| Failure::io(&cause, "cannot tell where this program is"))?,
    };
    if let (Some(given), Some(file)) = (&systemd.data_dir, &systemd.config) {
        let said = Settings::new(&Start { config: Some(file.clone()), ..Start::default() })?;
        if said.data_dir != *given {
            let (given, said) = (given.display(), said.data_dir.display());
            note(&format!("the unit says --data-dir {given}, not {said} as {}", file.display()));
        }
    }
    let unit = Unit {
        group: systemd.group.unwrap_or_else(|| systemd.user.clone()),
        name: systemd.name,
        user: systemd.user,
        program,
        // What the file says is read at each start; only what was given here goes before it.
        data_dir: match (systemd.data_dir, &systemd.config) {
            (None, None) => Some(settings.data_dir.clone()),
            (given, _) => given,
        },
        data: settings.data_dir,
        listen: systemd.listen,
        addresses: [Some(settings.listen), settings.diag_addr].into_iter().flatten().collect(),
        config: systemd.config,
    };
    let text = unit.render().map_err(|error| {
        Failure::new(Exit::Usage, error.to_string(), "give the path as it is from the root")
    })?;
    let path = systemd.systemd_directory.join(format!("{}.service", unit.name));
    if systemd.write {
        let overwrite = if systemd.force { Overwrite::Always } else { Overwrite::Never };
        write(&path, &text, overwrite)?;
    } else {
        print(&text)?;
        note(&format!("nothing was written; --write writes it to {}", path.display()));
    }
    let Unit { user, group, .. } = &unit;
    if group.is_in(Path::new("/etc/group")) == Some(false) {
        note(&format!("there is no group {group} yet: groupadd --system {group}"));
    }
    if user.is_in(Path::new("/etc/passwd")) == Some(false) {
        let rest = "--home-dir /nonexistent --shell /usr/sbin/nologin";
        note(&format!("there is no user {user} yet: useradd --system --gid {group} {rest} {user}"));
    }
    if systemd.write {
        note(&format!("next: systemctl daemon-reload && systemctl enable --now {}", unit.name));
    }
    Ok(())
}

fn write(path: &Path, text: &str, overwrite: Overwrite) -> Result<(), Failure> {
    let placed = place(path, text, overwrite)
        .map_err(|cause| Failure::io(&cause, format!("cannot write {}", path.display())))?;
    match placed {
        Placed::Written => print(format!("{} written\n", path.display())),
        Placed::Unchanged => print(format!("{} is as it should be\n", path.display())),
        Placed::Kept => Err(Failure::new(
            Exit::Config,
            format!("{} is there already and is another one", path.display()),
            "--force replaces it; `systemctl edit` adds to a unit without changing its file",
        )),
    }
}
