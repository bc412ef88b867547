//! What the configuration is held to.
