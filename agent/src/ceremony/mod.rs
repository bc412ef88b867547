//! What the agent asks of the authority, and the connection that it asks on.

pub mod channel;
pub mod client;
pub mod connection;
pub mod endorse_v1;
mod handshake;
