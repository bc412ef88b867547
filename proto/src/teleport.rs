//! Services of Teleport. Their .proto files here have Teleport's names and numbers, and only the
//! fields that are used.

use std::fmt;

pub use prost_types::{Duration, Timestamp};

/// `proto`: the older services.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod legacy {
    include!("generated/proto.rs");
}

/// `types`: what the older services share.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is prost's, its documentation stands in the .proto files"
)]
pub mod types {
    include!("generated/types.rs");
}

/// `teleport.join.v1`: the newer join service.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod join_v1 {
    include!("generated/teleport.join.v1.rs");
}

/// `teleport.machineid.v1`: the state of bots.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod machineid_v1 {
    include!("generated/teleport.machineid.v1.rs");
}

/// `teleport.trust.v1`: the CAs.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod trust_v1 {
    include!("generated/teleport.trust.v1.rs");
}

/// `teleport.clusterconfig.v1`: the settings of a cluster.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod clusterconfig_v1 {
    include!("generated/teleport.clusterconfig.v1.rs");
}

/// `teleport.presence.v1`: what a cluster consists of.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod presence_v1 {
    include!("generated/teleport.presence.v1.rs");
}

impl fmt::Debug for join_v1::TpmSolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TpmSolution({} bytes)", self.solution.len())
    }
}

impl fmt::Debug for legacy::RegisterUsingTpmMethodChallengeResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisterUsingTpmMethodChallengeResponse({} bytes)", self.solution.len())
    }
}

/// `teleport.workloadidentity.v1`: credentials of workloads.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod workloadidentity_v1 {
    include!("generated/teleport.workloadidentity.v1.rs");
}
