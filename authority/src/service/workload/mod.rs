//! Credentials for the workloads of a host.

pub(crate) mod bundle;
pub(crate) mod identities;
pub(crate) mod jwt;
pub(crate) mod ssh_host;
pub(crate) mod teleport;
pub(crate) mod x509;

use super::refusal::{Code, Refusal};

/// No workload identity is for this bot and this workload.
fn none_issued(reason: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::WorkloadIdentityRefused, reason)
}
