//! Credentials for the workloads of a host.

pub(crate) mod bundle;
pub(crate) mod x509;

use super::refusal::{Code, Refusal};
use crate::resource::Name;

/// Which workload identities a caller means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The bot's own SPIFFE ID.
    Own,
    /// The one of this name.
    Name(Name),
}

/// No workload identity is for this bot and this workload.
fn none_issued(reason: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::WorkloadIdentityRefused, reason)
}
