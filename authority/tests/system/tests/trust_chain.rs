//! How hosts get from a CA of the past to the present ones.

use std::time::Duration;

use authority::issue::{CaKey, Keys, X509Ca};

use host::clock::Clock;
use proto::v1::trust_service_client::TrustServiceClient;
use proto::v1::{GetTrustChainRequest, GetTrustChainResponse};
use sha2::{Digest, Sha256};
use testkit::simulated::Wire;
use tls::{CaPin, ServerTrust};
use tonic::{Code, Status};

use super::harness::Harness;

async fn ask(harness: &Harness, ca_pins: Vec<Vec<u8>>) -> Result<GetTrustChainResponse, Status> {
    let config = tls::client_config(&ServerTrust::Unverified, None).unwrap();
    let wire = Wire::connect(harness.address, config).await;
    let mut client = TrustServiceClient::new(wire.channel.clone());
    client.get_trust_chain(GetTrustChainRequest { ca_pins }).await.map(tonic::Response::into_inner)
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
    for _ in 0..40 {
        let keys = Keys::clone(&keyring.keys());
        let cluster = harness.authority.issuer.cluster();
        let ca = X509Ca::create(cluster, CaKey::generate().unwrap(), now).unwrap();
        let x509 = keys
            .x509
            .with_next(ca, now)
            .activated(now)
            .without_retired_before(now + Duration::from_secs(1));
        keyring.replace(Keys { x509, ..keys }).unwrap();
    }
    let last = pin(keyring.keys().x509.active());
    let (mut position, mut documents) = (first, Vec::new());
    while position != last {
        let links = ask(&harness, vec![position.clone()]).await.unwrap().links;
        assert!(
            prost::Message::encoded_len(&GetTrustChainResponse { links: links.clone() })
                < 32 * 1024
        );
        assert!(links.len() > 1 && !links[0].signature.is_empty());
        documents.extend(links.iter().map(|link| link.document.clone()));
        documents.dedup();
        let newest: serde_json::Value = serde_json::from_slice(documents.last().unwrap()).unwrap();
        let der = newest["x509_authorities"][0].as_str().unwrap();
        let der = <base64ct::Base64 as base64ct::Encoding>::decode_vec(der);
        position = pin_of(der.unwrap());
    }
    assert_eq!(documents.len(), 41);
    for (before, document) in documents.iter().zip(&documents[1..]) {
        let document: serde_json::Value = serde_json::from_slice(document).unwrap();
        assert_eq!(document["previous"], base16ct::lower::encode_string(&Sha256::digest(before)));
    }
    // Of several CAs the newest, and of none nothing.
    assert_eq!(ask(&harness, vec![position.clone(), last]).await.unwrap().links.len(), 1);
    assert!(ask(&harness, vec![vec![7; 32]]).await.unwrap().links.is_empty());
    assert!(ask(&harness, Vec::new()).await.unwrap().links.is_empty());
    for malformed in [vec![vec![7; 31]], vec![position; 17]] {
        assert_eq!(ask(&harness, malformed).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

fn pin_of(der: Vec<u8>) -> Vec<u8> {
    <[u8; 32]>::from(CaPin::of_certificate(&der.into()).unwrap()).to_vec()
}
