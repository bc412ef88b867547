//! Teleport's protocols, with an independent client and server.

mod agent_joins;
mod agent_with_authority;
mod calls;
mod daemon;
mod messages;
mod peer_itself;
mod proxy;
mod tbot_joins;
mod workload_identity;
