//! The files that jobs access, and for how long they may wait for them.

use std::time::Duration;

use super::configure::CONFIGURATION_TIMEOUT;
use crate::config::{self, ServiceName, Settings};
use crate::file_access::{self, FileAccess};

/// Access to files other than those of the services' destinations.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) storage: FileAccess,
    /// The files of the token and of passwords for the TPM.
    pub(super) secrets: FileAccess,
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
        let limited = |name: &str| FileAccess::new(name, file_access::TIMEOUT);
        Self {
            storage: limited(&storage),
            secrets: limited("the files of token and passwords"),
            configuration: FileAccess::new("the configuration", CONFIGURATION_TIMEOUT),
            hooks: Vec::new(),
        }
    }

    /// The hooks' time limits may be others under a new configuration; one that hangs is not run again before it ends.
    pub(super) fn reload(&mut self) {
        self.hooks.retain(|(_, access)| access.check().is_err());
    }

    pub(super) fn hook(&mut self, service: &ServiceName, limit: Duration) -> FileAccess {
        if let Some((_, access)) = self.hooks.iter().find(|(name, _)| name == service) {
            return access.clone();
        }
        let name = format!("the program of the reload hook of {service}");
        let access = FileAccess::new(name, limit.saturating_add(file_access::TIMEOUT));
        self.hooks.push((service.clone(), access.clone()));
        access
    }
}
