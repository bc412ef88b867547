//! The wire of Endorse: the messages and services of `endorse.v1`, the bytes that a join's proof
//! covers, the services of Teleport that the authority serves and the agent uses, and those by which the agent serves
//! workloads.
//!
//! The generated code is checked in, so that a build needs neither protoc nor the code generator.
//! It is rewritten by `cargo xtask protos`, and a test there fails when it is not what the .proto
//! files make.

#![forbid(unsafe_code)]

pub mod codec;
pub mod envoy;
pub mod reflection;
pub mod spiffe;
pub mod teleport;
pub mod transcript;

/// `endorse.v1`: messages and services as the .proto files define them.
#[allow(
    missing_docs,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    reason = "the code is tonic's, its documentation stands in the .proto files"
)]
pub mod v1 {
    include!("generated/endorse.v1.rs");
}
