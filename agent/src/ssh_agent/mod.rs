//! The sink that lets programs use a service's key without having it: an agent of the SSH agent protocol on a unix socket.
//!
//! It offers the key, plain and with its certificate, and signs what the key is [for](Purpose). `server` accepts connections,
//! [`message`] is the protocol, [`session`] knows which sessions of SSH a connection is used for.

pub mod message;
mod server;
pub mod session;
mod signable;

use std::sync::Arc;

use tokio::sync::watch;

pub use self::server::{Gate, SshAgent};
pub use self::signable::{Purpose, Signable};
use crate::connections::Limits;
use crate::keys::Key;

/// An agent's connections are short, except where it is forwarded.
pub const LIMITS: Limits = Limits { connections: 512, per_user: 128 };

/// A key that can be used, and what is known of it.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The key.
    pub key: Arc<dyn Key>,
    /// Its certificate, one line of authorized_keys, if it has one.
    pub certificate: Option<String>,
}

/// What is offered at a moment; `None` until there is a key.
pub type Offers = watch::Receiver<Option<Arc<Offered>>>;

#[cfg(test)]
mod tests;
