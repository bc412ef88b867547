//! The daemon: keeps the host's credentials fresh for years.

pub mod diag;
pub mod health;
pub mod machine;
pub mod notify;
