//! Asks an authority of an unknown CA how the CAs that the host trusts have led to it.

use host::exit::Failure;
use proto::v1::GetTrustChainRequest;
use proto::v1::trust_service_client::TrustServiceClient;
use tls::{CaPin, ServerTrust};

use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{CallTime, Connection, MAX_CALL};
use crate::ceremony::endorse_v1::{MAX_ANSWER, refused};
use crate::ceremony::route::Route;
use crate::credential::TrustBundle;
use crate::credential::trust_chain::{Link, Walk};

/// Responses of a walk. One has some ten documents, and a rotation of a CA three.
const MAX_RESPONSES: usize = 64;

/// The present CAs of the cluster to which these CAs have led, according to the server at this address; `None` if it knows none
/// of them. The server is not authenticated: what it says is signed.
///
/// # Errors
/// Those of the network and the server; or what it says is not signed by CAs that the host trusts.
pub(super) async fn present_cas(
    address: &str,
    trusted: &[CaPin],
) -> Result<Option<TrustBundle>, Failure> {
    let route = Route::to_authority(&ServerTrust::Unverified, None)?;
    let ca_pins: Vec<_> = trusted.iter().map(|pin| <[u8; 32]>::from(*pin).to_vec()).collect();
    let mut walk = Walk::from(trusted);
    for _ in 0..MAX_RESPONSES {
        // A connection without a certificate may make few calls, so each has its own. Nearly always one is enough.
        let Connection { channel, budget, .. } = Connection::open(address, &route).await?;
        let mut service = TrustServiceClient::with_origin(channel, Channel::origin())
            .max_decoding_message_size(MAX_ANSWER);
        budget.set(Some(MAX_CALL));
        let request = GetTrustChainRequest { ca_pins: ca_pins.clone(), after: walk.version() };
        let asked = service.get_trust_chain(request);
        let answer = CallTime::new().wait(asked).await.map_err(|status| refused(&status))?;
        let answer = answer.into_inner();
        let links = answer.links.into_iter().map(|link| Link {
            document: link.document,
            signature: link.signature,
            former_signature: link.former_signature,
        });
        let is_further = walk.follow(&links.collect::<Vec<_>>()).map_err(malformed)?;
        if !is_further || !answer.more {
            break;
        }
    }
    Ok(walk.arrived())
}

fn malformed(what: String) -> Failure {
    let advice = "check that no one intercepts the connection";
    Failure::new(host::exit::Exit::Unavailable, what, advice)
}
