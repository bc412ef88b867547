//! The protocols that the authority speaks, as adapters over [`crate::service`]: the only modules that
//! know gRPC and its status codes.

pub(crate) mod admin;
pub(crate) mod endorse_v1;
pub(crate) mod status;
