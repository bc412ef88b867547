//! What a host needs around the agent: a systemd unit and a udev rule, from the templates in `data`.

pub mod udev;
pub mod unit;

#[cfg(test)]
mod tests;
