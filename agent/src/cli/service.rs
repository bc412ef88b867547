//! The services of `agent start` and `agent configure`, declared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{
    self, Account, KeyRotation, Overrides, PlainService, Reader, Selector, ServiceKind, SshConfig,
    Storage, WorkloadIdentity, X509Files,
};

/// A service on the command line.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Write an X.509 and an SSH certificate for people and their tools
    Identity(Output),
    /// Write an X.509 certificate for programs
    #[command(name = "workload-identity-x509", visible_alias = "x509")]
    X509(X509),
    /// Write a JWT for programs
    #[command(name = "workload-identity-jwt")]
    Jwt(Jwt),
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

/// An X.509 certificate.
#[derive(Args, Clone, Debug)]
pub struct X509 {
    #[command(flatten)]
    #[doc = "Whose it is."]
    identity: Identity,
    #[command(flatten)]
    #[doc = "Where it goes."]
    output: Output,
}

/// A JWT.
#[derive(Args, Clone, Debug)]
pub struct Jwt {
    /// Who is to accept the JWT; may be given several times
    #[arg(long = "audience", value_name = "NAME", required = true, value_parser = config::audience)]
    audiences: Vec<String>,
    #[command(flatten)]
    #[doc = "Whose it is."]
    identity: Identity,
    #[command(flatten)]
    #[doc = "Where it goes."]
    output: Output,
}

/// Which workload identity a service has.
#[derive(Args, Clone, Debug)]
pub struct Identity {
    /// Name of the workload identity [default: the bot's own SPIFFE ID]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["label_selector", "hint"])]
    name_selector: Option<String>,
    /// Labels of the workload identity, e.g. env=prod,app=web
    #[arg(long, value_name = "LABELS", value_parser = labels)]
    label_selector: Option<Labels>,
    /// Of several workload identities with these labels, the one with this hint
    #[arg(long, value_name = "TEXT", requires = "label_selector")]
    hint: Option<String>,
}

/// Labels with their values. A type of its own, since clap reads a map from several occurrences.
#[derive(Clone, Debug)]
struct Labels(BTreeMap<String, Vec<String>>);

fn labels(text: &str) -> Result<Labels, &'static str> {
    config::labels(text).map(Labels)
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
            Self::X509(X509 { identity, output }) => {
                settings.services.push(output.service(ServiceKind::X509 {
                    files: X509Files::default(),
                    identity: identity.meant(),
                    key_rotation: KeyRotation::default(),
                }));
            }
            Self::Jwt(Jwt { audiences, identity, output }) => {
                let (audiences, identity) = (audiences.clone(), identity.meant());
                settings.services.push(output.service(ServiceKind::Jwt { audiences, identity }));
            }
            Self::Noop => {}
            Self::Legacy(legacy) => legacy.apply(settings),
        }
    }
}

impl Identity {
    fn meant(&self) -> WorkloadIdentity {
        let selector = match (&self.name_selector, &self.label_selector) {
            (Some(name), _) => Selector::Name(name.clone()),
            (None, Some(Labels(labels))) => Selector::Labels(labels.clone()),
            (None, None) => Selector::Own,
        };
        WorkloadIdentity { selector, hint: self.hint.clone() }
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
