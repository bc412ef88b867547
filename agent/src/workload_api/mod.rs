//! The sink that delivers identities to workloads on a unix socket: the SPIFFE Workload API, and Envoy's Secret Discovery
//! Service (SDS).
//!
//! `server` accepts connections and knows which service a call is for; `calls`, `sds` and `reflection` answer. What a caller may have comes
//! from a [`Source`], which they watch: each change is sent at once.

pub mod authority;
mod calls;
pub mod counts;
mod reflection;
mod sds;
mod server;
mod updates;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::attest::Caller;
use crate::credential::svid::{Bundle, JwtSvid, KeyedSvid};

pub use self::counts::Counts;
#[doc(hidden)]
pub use self::server::services;
pub use self::server::{Attest, Connected, Listener, Serving, WorkloadApi};
pub use crate::connections::Limits;

/// What a caller may have, at a moment.
#[derive(Clone, Debug)]
pub enum Entitlement {
    /// It has been asked for.
    Pending,
    /// It cannot be found out, or what the caller had has expired.
    Unavailable(Arc<str>),
    /// Nothing.
    Nothing,
    /// These identities.
    Identities(Arc<Identities>),
}

/// What a caller may have, now and after each change.
pub type Subscription = watch::Receiver<Entitlement>;

/// The identities of a caller, and what it verifies its peers with.
#[derive(Clone, Debug)]
pub struct Identities {
    /// At least one. The first one is the default; the order does not change.
    pub svids: Vec<Arc<KeyedSvid>>,
    /// The trust bundle.
    pub bundle: Arc<Bundle>,
}

/// An answer that takes a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where identities come from. A caller that cannot be attested, over TCP, is `None`.
pub trait Source: Send + Sync + 'static {
    /// What the caller may have. The source renews it as long as it is watched.
    fn subscribe(&self, caller: Option<&Caller>) -> Subscription;

    /// JWT-SVIDs of the caller for these audiences, all in one token: of one identity if it is named, else of each.
    fn jwt_svids<'a>(
        &'a self,
        caller: Option<&'a Caller>,
        audiences: &'a [String],
        spiffe_id: Option<&'a str>,
    ) -> Answer<'a, Result<Vec<JwtSvid>, NotIssued>>;
}

/// Why there is no JWT-SVID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotIssued {
    /// The caller has no such identity.
    Nothing,
    /// The authority cannot be asked.
    Unavailable(String),
    /// The request is invalid.
    Invalid(String),
}

impl From<NotIssued> for Status {
    fn from(not_issued: NotIssued) -> Self {
        match not_issued {
            NotIssued::Nothing => no_identity_issued(),
            NotIssued::Unavailable(why) => Self::unavailable(why),
            NotIssued::Invalid(why) => Self::invalid_argument(why),
        }
    }
}

/// Clients look for this text.
fn no_identity_issued() -> Status {
    Status::permission_denied("no identity issued")
}

impl Entitlement {
    /// The identities; `None` if it is not known yet.
    ///
    /// # Errors
    /// There are none.
    fn identities(&self) -> Result<Option<&Arc<Identities>>, Status> {
        match self {
            Self::Pending => Ok(None),
            Self::Unavailable(why) => Err(Status::unavailable(&**why)),
            Self::Nothing => Err(no_identity_issued()),
            Self::Identities(identities) => Ok(Some(identities)),
        }
    }
}

impl fmt::Display for NotIssued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no identity issued"),
            Self::Unavailable(why) | Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NotIssued {}

#[cfg(test)]
mod tests;
