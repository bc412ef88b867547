//! Envoy's Secret Discovery Service. The .proto files here have Envoy's names and numbers, and only the fields that are used.

use std::fmt;

pub use prost_types::Any;

/// `envoy.service.secret.v3`: the service.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod secret {
    include!("generated/envoy.service.secret.v3.rs");
}

/// `envoy.service.discovery.v3`: how resources are asked for.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is prost's, its documentation stands in the .proto files"
)]
pub mod discovery {
    include!("generated/envoy.service.discovery.v3.rs");
}

/// `envoy.config.core.v3`: what messages have in common.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is prost's, its documentation stands in the .proto files"
)]
pub mod core {
    include!("generated/envoy.config.core.v3.rs");
}

/// `envoy.extensions.transport_sockets.tls.v3`: the secrets.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is prost's, its documentation stands in the .proto files"
)]
pub mod tls {
    include!("generated/envoy.extensions.transport_sockets.tls.v3.rs");
}

/// `google.rpc`: a status in a message.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is prost's, its documentation stands in the .proto files"
)]
pub mod rpc {
    include!("generated/google.rpc.rs");
}

impl fmt::Debug for core::DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataSource")
    }
}

impl fmt::Debug for discovery::DiscoveryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, resources) = (&self.version_info, self.resources.len());
        write!(f, "DiscoveryResponse(version {version}, {resources} resources)")
    }
}
