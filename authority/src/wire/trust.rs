//! `endorse.v1` for hosts that do not trust the present CAs yet.

use std::sync::Arc;

use proto::v1::trust_service_server::TrustService;
use proto::v1::{GetTrustChainRequest, GetTrustChainResponse, TrustLink};
use tls::CaPin;
use tonic::{Request, Response, Status};

use crate::issue::Link;
use crate::service::Authority;
use crate::service::refusal::{Code, Refusal};

/// CAs of a request: as many as a trust bundle may have.
const MAX_PINS: usize = 16;

/// Bytes of a response, by which agents bound what they read. A document with all CAs that a rotation needs has some 4 KiB.
const MAX_RESPONSE: usize = 28 * 1024;

/// The service for hosts that trust a CA of the past.
pub(crate) struct Trust(pub(crate) Arc<Authority>);

#[tonic::async_trait]
impl TrustService for Trust {
    async fn get_trust_chain(
        &self,
        request: Request<GetTrustChainRequest>,
    ) -> Result<Response<GetTrustChainResponse>, Status> {
        let GetTrustChainRequest { ca_pins: pins, after } = request.into_inner();
        if pins.len() > MAX_PINS {
            return Err(malformed(format!("more than {MAX_PINS} CA pins")));
        }
        let pin = |digest: Vec<u8>| <[u8; 32]>::try_from(digest).map(CaPin::from);
        let pins = pins.into_iter().map(pin).collect::<Result<Vec<_>, _>>();
        let pins = pins.map_err(|_| malformed("a CA pin that is no SHA-256".to_owned()))?;
        let keys = self.0.issuer.keyring().keys();
        let chain = match after {
            0 => keys.chain.since(&pins),
            version => keys.chain.after(version),
        };
        let links = bounded(chain);
        Ok(Response::new(GetTrustChainResponse { more: links.len() < chain.len(), links }))
    }
}

fn malformed(reason: String) -> Status {
    Refusal::new(Code::Malformed, reason).into()
}

/// As many links as agents read in one response, and at least one.
fn bounded(links: &[Arc<Link>]) -> Vec<TrustLink> {
    let mut left = MAX_RESPONSE;
    let mut bounded = Vec::new();
    for link in links {
        let link = TrustLink {
            document: link.document.clone().into(),
            signature: link.signature.clone(),
            former_signature: link.former_signature.clone().unwrap_or_default(),
        };
        let length = link.document.len() + link.signature.len() + link.former_signature.len();
        if length > left && !bounded.is_empty() {
            break;
        }
        left = left.saturating_sub(length);
        bounded.push(link);
    }
    bounded
}
