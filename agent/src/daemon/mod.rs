//! The daemon: keeps the host's credentials fresh for years.

pub mod machine;
