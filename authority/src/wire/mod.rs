//! The protocols that the authority speaks, as adapters over [`crate::service`]: the only modules that
//! know gRPC, HTTP and their status codes.

pub(crate) mod admin;
pub(crate) mod endorse_v1;
pub(crate) mod status;
pub(crate) mod web;
