//! How hosts get from a CA of the past to the present ones.

use std::time::Duration;

use authority::issue::{CaKey, Keys, SshCa, X509Ca};

use host::clock::Clock;
use proto::v1::trust_service_client::TrustServiceClient;
use proto::v1::{GetTrustChainRequest, GetTrustChainResponse};
use sha2::{Digest, Sha256};
use testkit::simulated::Wire;
use tls::{CaPin, ServerTrust};
use tonic::{Code, Status};

use super::harness::Harness;

async fn ask(harness: &Harness, ca_pins: Vec<Vec<u8>>) -> Result<GetTrustChainResponse, Status> {
    ask_after(harness, ca_pins, 0).await
}

async fn ask_after(
    harness: &Harness,
    ca_pins: Vec<Vec<u8>>,
    after: u64,
) -> Result<GetTrustChainResponse, Status> {
    let config = tls::client_config(&ServerTrust::Unverified, None).unwrap();
    let wire = Wire::connect(harness.address, config).await;
    let mut client = TrustServiceClient::new(wire.channel.clone());
    client
        .get_trust_chain(GetTrustChainRequest { ca_pins, after })
        .await
        .map(tonic::Response::into_inner)
}

/// The SHA-256 of a CA's key.
fn pin(ca: &X509Ca) -> Vec<u8> {
    <[u8; 32]>::from(CaPin::of_certificate(ca.certificate()).unwrap()).to_vec()
}

#[tokio::test]
async fn chain_is_for_everybody_and_in_responses_that_agents_read() {
    let harness = Harness::new().await;
    let (keyring, now) = (harness.authority.issuer.keyring(), Clock::system().now());
    let first = pin(keyring.keys().x509.active());
    let cluster = harness.authority.issuer.cluster();
    for round in 0..40 {
        let keys = Keys::clone(&keyring.keys());
        // An X.509 CA may stay active over more documents than are in one response.
        let keys = match round {
            0 | 30.. => {
                let ca = X509Ca::create(cluster, CaKey::generate().unwrap(), now).unwrap();
                let x509 = keys.x509.with_next(ca, now).activated(now);
                let x509 = x509.without_retired_before(now + Duration::from_secs(1));
                Keys { x509, ..keys }
            }
            _ => {
                let ca = SshCa::new(cluster, &CaKey::generate().unwrap()).unwrap();
                let ssh = keys.ssh.with_next(ca, now).activated(now);
                Keys { ssh: ssh.without_retired_before(now + Duration::from_secs(1)), ..keys }
            }
        };
        keyring.replace(keys).unwrap();
    }
    let last = pin(keyring.keys().x509.active());
    let (mut documents, mut responses) = (Vec::new(), 0);
    loop {
        let after = u64::try_from(documents.len()).unwrap();
        let response = ask_after(&harness, vec![first.clone()], after).await.unwrap();
        assert!(prost::Message::encoded_len(&response) < 32 * 1024);
        assert!(!response.links[0].signature.is_empty());
        documents.extend(response.links.into_iter().map(|link| link.document));
        responses += 1;
        if !response.more {
            break;
        }
    }
    assert!(responses > 1);
    assert_eq!(documents.len(), 41);
    for (before, document) in documents.iter().zip(&documents[1..]) {
        let document: serde_json::Value = serde_json::from_slice(document).unwrap();
        assert_eq!(document["previous"], base16ct::lower::encode_string(&Sha256::digest(before)));
    }
    // Of several CAs the newest, and of none nothing.
    assert_eq!(ask(&harness, vec![first.clone(), last]).await.unwrap().links.len(), 1);
    assert!(ask_after(&harness, vec![first.clone()], 41).await.unwrap().links.is_empty());
    assert!(ask(&harness, vec![vec![7; 32]]).await.unwrap().links.is_empty());
    assert!(ask(&harness, Vec::new()).await.unwrap().links.is_empty());
    for malformed in [vec![vec![7; 31]], vec![first; 17]] {
        assert_eq!(ask(&harness, malformed).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
