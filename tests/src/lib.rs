//! What the tests of the whole system share.

pub mod golden;
pub mod host;
pub mod teleport_peer;
pub mod tpm;
pub mod wire;
pub mod world;
