//! The protocols that the authority speaks, as adapters over [`crate::service`]: the only modules that
//! know gRPC, HTTP and their status codes.

pub(crate) mod admin;
mod conversation;
pub(crate) mod endorse_v1;
pub(crate) mod status;
pub(crate) mod teleport;
pub(crate) mod trust;
pub(crate) mod web;
pub(crate) mod workload;

use std::sync::Arc;

use proto::transcript::issue_message;

use crate::issue::Ttl;
use crate::service::call::{Call, CallRequest};
use crate::service::grant::Grant;
use crate::service::refusal::{Code, Refusal};
use crate::service::reissue::CertificationRequest;
use crate::service::request::Parsed;
use crate::service::{Authority, Peer};

/// The peer of a call.
fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Refusal> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Refusal::new(Code::Internal, "a call without connection information"))
}

/// Runs a call in a task of its own, so that a caller who hangs up does not leave it half done.
async fn grant<R: CallRequest>(
    authority: &Arc<Authority>,
    peer: Peer,
    request: R,
) -> Result<Grant<R::Issued>, Refusal> {
    let call = Call::new(Arc::clone(authority), peer, request);
    tokio::spawn(call.run()).await.map_err(|cause| Refusal::new(Code::Internal, cause))?
}

/// A key to certify that has signed on the connection with this exporter value.
fn certification_request(
    public_key: Vec<u8>,
    signature: Vec<u8>,
    exporter: &[u8; 32],
) -> CertificationRequest {
    CertificationRequest { message: issue_message(exporter, &public_key), public_key, signature }
}

/// A lifetime that is asked for.
fn ttl(seconds: i64) -> Parsed<Ttl> {
    Ttl::try_from(seconds).map_err(Refusal::because(Code::Malformed))
}
