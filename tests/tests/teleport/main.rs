//! Teleport's protocols, with an independent client and server.

mod peer_itself;
mod proxy;
