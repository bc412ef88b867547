//! authority install

use host::exit::{Exit, Failure};
use host::install_file;
use host::output::note;

use crate::cli::install::Install;
use crate::config::Settings;
use crate::config::Start;
use crate::install::Unit;

pub(super) fn install(Install::Systemd(systemd): Install) -> Result<(), Failure> {
    // The unit's rights are for what the program will do, and that is what its configuration says.
    let settings = Settings::new(&systemd.start())?;
    let program = match systemd.program {
        Some(program) => program,
        None => std::env::current_exe()
            .map_err(|cause| Failure::io(&cause, "cannot determine the path of this program"))?,
    };
    if let (Some(given), Some(file)) = (&systemd.data_dir, &systemd.config) {
        let said = Settings::new(&Start { config: Some(file.clone()), ..Start::default() })?;
        if said.data_dir != *given {
            let (given, said) = (given.display(), said.data_dir.display());
            note(&format!(
                "the systemd unit uses --data-dir {given}, not {said} from {}",
                file.display()
            ));
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
    let text = unit
        .render()
        .map_err(|error| Failure::new(Exit::Usage, error.to_string(), "give an absolute path"))?;
    let path = systemd.systemd_directory.join(format!("{}.service", unit.name));
    install_file::install(&path, &text, systemd.writing)?;
    let Unit { user, group, .. } = &unit;
    for missing in [group.missing_group(), user.missing_user(group)].into_iter().flatten() {
        note(&missing);
    }
    if systemd.writing.write {
        note(&format!("next: systemctl daemon-reload && systemctl enable --now {}", unit.name));
    }
    Ok(())
}
