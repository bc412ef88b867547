//! The configuration file: version 2 of tbot's, with a section about the TPM.
//!
//! `host::config` reads the text and its sections, of which `document` makes [`Settings`], with a module for each section,
//! under the [`Overrides`] of the command line and the environment. Whatever is wrong is said at once, as [`Findings`]. [`text()`] is
//! the way back.

mod accounts;
mod address;
mod destination;
mod directories;
mod document;
mod elf;
mod files;
pub(crate) mod hooks;
mod join_uri;
mod load;
mod onboarding;
mod overrides;
mod protocol;
mod reference;
mod reload;
mod service;
mod settings;
mod ssh;
mod system_roots;
mod text;
mod tpm;
mod workload_api;
mod workload_identity;

#[cfg(test)]
mod tests;

pub use accounts::NamedAccount;
pub use address::{Address, InvalidAddress};
pub use document::{Loaded, read, read_with};
pub(crate) use files::FirstContact;
pub use files::NamedFile;
pub use host::config::finding::{Finding, Findings, Location, Severity};
pub use join_uri::JoinUri;
pub use load::{ConfigFile, DEFAULT_PATH, LoadError};
pub use overrides::{Overrides, PlainService, ServerOptions};
pub(crate) use overrides::{account, plain_directory, storage, token};
pub use protocol::{Protocol, ProtocolChoice};
pub use reference::reference;
pub(crate) use service::OTHERS as UNSUPPORTED_SERVICES;
pub use settings::*;
pub(crate) use ssh::TYPES as SSH_TYPES;
pub use ssh::{AgentSocket, SshHost};
pub use system_roots::SystemRoots;
pub use text::text;
pub(crate) use workload_api::TYPES as WORKLOAD_API_TYPES;
pub use workload_api::{Listen, Offer, SdsNames, Selector, Socket, WorkloadApi};
pub use workload_identity::WorkloadIdentity;
pub(crate) use workload_identity::{audience, labels};
