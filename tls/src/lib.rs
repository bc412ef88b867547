//! TLS as Endorse speaks it: rustls over RustCrypto, TLS 1.3 (RFC 8446) and nothing older.
//!
//! - [`provider`] is the cryptography, all of it Rust.
//! - [`client_config`] and [`server_config`] are the two ends of a connection, ready to use;
//!   [`ServerTrust`] is what a client trusts, [`CaPin`] its short form, and [`Roots`] the public CAs.
//! - [`RemoteKey`] lets a key that never leaves a TPM authenticate either end.
//! - [`join_exporter`] is the value that a join binds its proof to.

#![forbid(unsafe_code)]

mod application;
mod config;
mod direct;
mod error;
mod pin;
mod provider;
mod public;
mod remote;
mod tickets;
mod trust;

pub use application::{Application, is_http2};
pub use config::{
    AUTHORITY_NAME, EXPORTER_LABEL, authority_name, client_config, identity, join_exporter,
    server_config, trust_document_message, web_server_config,
};
pub use error::ConfigError;
pub use pin::{CaPin, InvalidPin, UnreadableCertificate};
pub use provider::{provider, software_key};
pub use public::{PublicNameError, Roots};
pub use remote::{DigestSigner, RemoteKey, RemoteKeyError};
pub use tickets::count_tickets;
pub use trust::{PinError, ServerTrust};

#[cfg(test)]
mod tests;
