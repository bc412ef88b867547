//! Delivers the credentials of a service to the programs that use them: as files, followed by a reload hook.

pub mod artifact;
pub mod destination;
pub mod files;
pub mod reload;
pub mod sshd;
