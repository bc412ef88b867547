//! Teleport's protocols, with an independent client and server.

mod agent_joins;
mod calls;
mod peer_itself;
mod proxy;
mod tbot_joins;
