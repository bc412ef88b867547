//! Why there is no TLS configuration.

use std::error::Error;
use std::fmt;

use rustls::client::VerifierBuilderError;

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// Neither a CA certificate nor a pin was given, so no server could be trusted.
    NoTrust,
    /// A CA certificate cannot be read.
    Certificate {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: rustls::Error,
    },
    /// rustls does not accept the CA certificates.
    Verifier(VerifierBuilderError),
    /// rustls does not accept the rest.
    Tls(rustls::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTrust => f.write_str("no CA certificate and no CA pin to trust"),
            Self::Certificate { index, .. } => {
                write!(f, "CA certificate {} cannot be read", index + 1)
            }
            Self::Verifier(_) => f.write_str("the CA certificates cannot be used"),
            Self::Tls(_) => f.write_str("the TLS configuration cannot be used"),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoTrust => None,
            Self::Certificate { error, .. } | Self::Tls(error) => Some(error),
            Self::Verifier(error) => Some(error),
        }
    }
}

impl From<VerifierBuilderError> for ConfigError {
    fn from(error: VerifierBuilderError) -> Self {
        Self::Verifier(error)
    }
}

impl From<rustls::Error> for ConfigError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}
