//! The files that jobs access, and for how long they may wait for them.

use super::configure::CONFIGURATION_TIMEOUT;
use crate::config::{self, Reload, ReloadAction, ServiceName, Settings, Token};
use crate::file_access::{FileAccess, SHORT_TIMEOUT, TIMEOUT};

/// Access to files other than those of the services' destinations.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) storage: FileAccess,
    pub(super) token: FileAccess,
    pub(super) passwords: FileAccess,
    /// The configuration, and the CA certificates that it names.
    pub(super) configuration: FileAccess,
    /// What the reload hooks run or read, by service.
    hooks: Vec<(ServiceName, FileAccess)>,
}

impl Access {
    pub(super) fn new(settings: &Settings) -> Self {
        let storage = match &settings.storage {
            config::Storage::Directory(directory) => directory.path.display().to_string(),
            config::Storage::Memory => "memory".to_owned(),
        };
        let token = match &settings.token {
            Token::File(path) => format!("the token's file {}", path.display()),
            Token::Value(_) => "the token".to_owned(),
        };
        let files = &settings.tpm.passwords;
        let files = [&files.owner, &files.endorsement].into_iter().flatten();
        let files: Vec<String> = files.map(|path| path.display().to_string()).collect();
        let passwords = format!("the password files {}", files.join(" and "));
        Self {
            storage: FileAccess::new(storage, TIMEOUT),
            token: FileAccess::new(token, TIMEOUT),
            passwords: FileAccess::new(passwords, TIMEOUT),
            configuration: FileAccess::new("the configuration and its CAs", CONFIGURATION_TIMEOUT),
            hooks: Vec::new(),
        }
    }

    /// The same under another configuration: what it names as before is not accessed while it hangs.
    pub(super) fn under(&self, settings: &Settings) -> Self {
        let new = Self::new(settings);
        Self {
            storage: self.storage.clone(),
            token: self.token.or(new.token),
            passwords: self.passwords.or(new.passwords),
            configuration: self.configuration.clone(),
            hooks: self.hooks.clone(),
        }
    }

    pub(super) fn hook(&mut self, service: &ServiceName, reload: &Reload) -> FileAccess {
        let what = match &reload.action {
            ReloadAction::Command { program, .. } => program.clone(),
            ReloadAction::Signal { pid_file, .. } => pid_file.display().to_string(),
            ReloadAction::SystemdUnit(_) => "systemctl".to_owned(),
        };
        let name = format!("{what}, which the reload hook of {service} needs,");
        // An sshd is checked before and after it is reloaded, which may take as long again each.
        let steps = if reload.sshd.is_some() { 4 } else { 1 };
        let timeout = reload.timeout.saturating_mul(steps).saturating_add(SHORT_TIMEOUT);
        let access = FileAccess::new(name, timeout);
        let known = self.hooks.iter().position(|(known, _)| known == service);
        let known = known.map(|index| self.hooks.swap_remove(index).1);
        let access = known.map_or(access.clone(), |known| known.or(access));
        self.hooks.push((service.clone(), access.clone()));
        access
    }
}
