//! What a host needs around the agent: a systemd unit, a udev rule. Written from templates in `data`.

pub mod account;
mod place;
mod template;
pub mod udev;
pub mod unit;

pub use place::{Overwrite, Placed, place};

#[cfg(test)]
mod tests;
