//! The SPIFFE Workload API.

use std::fmt;

pub use prost_types::{ListValue, Struct, Value, value};

/// Messages and service as the standard defines them.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
mod generated {
    include!("generated/_.rs");
}

pub use generated::*;

impl fmt::Debug for X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X509svid({}, {:?})", self.spiffe_id, self.hint)
    }
}

impl fmt::Debug for Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwtsvid({}, {:?})", self.spiffe_id, self.hint)
    }
}

impl fmt::Debug for Witsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witsvid({}, {:?})", self.spiffe_id, self.hint)
    }
}

impl fmt::Debug for ValidateJwtsvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValidateJwtsvidRequest({:?}, {} bytes)", self.audience, self.svid.len())
    }
}
