//! Two authorities with one database, and a fleet of hosts that works at 70 % of what they can do, while each of them, their clocks and
//! their database fail. The long drills run by `cargo xtask drills`.

mod agent;
mod cluster;
mod drills;
mod fleet;
mod host;
mod link;
mod rotation;
mod versions;
