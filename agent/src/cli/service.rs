//! The services of `agent start` and `agent configure`, declared.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{
    self, Account, Overrides, PlainService, Reader, ServiceKind, SshConfig, Storage, X509Files,
};

/// A service on the command line.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Write an X.509 and an SSH certificate for people and their tools
    Identity(Output),
    /// Write an X.509 certificate for programs
    #[command(name = "workload-identity-x509", visible_alias = "x509")]
    X509(Output),
    /// Write nothing but the bot's identity
    #[command(name = "noop", visible_alias = "no-op")]
    Noop,
    /// Take the services from the configuration file, as without a service
    Legacy(Legacy),
}

/// Where a service writes its files.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Where to write the files: a directory, file:///DIR or memory
    #[arg(long, value_name = "DIR", value_parser = config::storage)]
    pub destination: Storage,
    /// User, by name or ID, that may read the files; may be given several times
    #[arg(long, value_name = "USER", value_parser = config::account)]
    pub reader_user: Vec<Account>,
    /// Group, by name or ID, that may read the files; may be given several times
    #[arg(long, value_name = "GROUP", value_parser = config::account)]
    pub reader_group: Vec<Account>,
}

/// The options of tbot's first version.
#[derive(Args, Clone, Debug, Default)]
pub struct Legacy {
    /// Same as --storage
    #[arg(long, value_name = "DIR", value_parser = config::storage, overrides_with = "storage")]
    pub data_dir: Option<Storage>,
    /// Same as --service identity=DIR
    #[arg(long, value_name = "DIR")]
    pub destination_dir: Option<PathBuf>,
}

impl Service {
    /// Whether the command line is the whole configuration, unless it names a file.
    pub(super) const fn is_configuration(&self) -> bool {
        !matches!(self, Self::Legacy(_))
    }

    /// Adds what it says to the other settings of the command line.
    pub(super) fn apply(&self, settings: &mut Overrides) {
        match self {
            Self::Identity(output) => {
                let kind = ServiceKind::Identity { ssh_config: SshConfig::default() };
                settings.services.push(output.service(kind));
            }
            Self::X509(output) => {
                let kind = ServiceKind::X509 { files: X509Files::default() };
                settings.services.push(output.service(kind));
            }
            Self::Noop => {}
            Self::Legacy(legacy) => legacy.apply(settings),
        }
    }
}

impl Output {
    fn service(&self, kind: ServiceKind) -> PlainService {
        let users = self.reader_user.iter().cloned().map(Reader::User);
        let readers = users.chain(self.reader_group.iter().cloned().map(Reader::Group));
        PlainService::new(kind, self.destination.clone(), readers.collect())
    }
}

impl Legacy {
    /// The options, by the names of their fields.
    pub(super) const IDS: [&str; 2] = ["data_dir", "destination_dir"];

    /// Adds what it says to the other settings of the command line.
    pub(super) fn apply(&self, settings: &mut Overrides) {
        if let Some(storage) = &self.data_dir {
            settings.storage = Some(storage.clone());
        }
        if let Some(directory) = &self.destination_dir {
            let kind = ServiceKind::Identity { ssh_config: SshConfig::default() };
            let place = Storage::Directory(config::plain_directory(directory.clone()));
            settings.services.push(PlainService::new(kind, place, Vec::new()));
        }
    }
}
