//! How the credentials of a service reach the programs that use them: as files, and a hook that has them read.

pub mod artifact;
pub mod destination;
pub mod files;
pub mod reload;
