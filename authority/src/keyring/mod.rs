//! The private keys of the CAs in the store, each wrapped for every authority and for a recovery key.

pub mod wrap;
