//! What the tests of the whole system share.

pub mod bus;
pub mod double;
pub mod golden;
pub mod host;
pub mod tap;
pub mod tpm;
pub mod wire;
pub mod world;
