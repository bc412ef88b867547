//! The protocols that the authority speaks, as adapters over [`crate::service`]: the only modules that
//! know gRPC, HTTP and their status codes.

pub(crate) mod admin;
mod conversation;
pub(crate) mod endorse_v1;
pub(crate) mod status;
pub(crate) mod teleport;
pub(crate) mod web;

use crate::service::Peer;
use crate::service::refusal::{Code, Refusal};

/// The peer of a call.
fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Refusal> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Refusal::new(Code::Internal, "a call without connection information"))
}
