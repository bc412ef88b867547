//! Certificates for other keys of a host.

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use proto::transcript::issue_digest;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{IssueRequest, RenewRequest, WhoAmIRequest};
use testkit::simulated::{Wire, identity};
use tonic::Code;

use super::harness::Harness;

pub(crate) fn request(key: &SigningKey, exporter: &[u8; 32]) -> IssueRequest {
    let public_key = key.verifying_key().to_public_key_der().unwrap().into_vec();
    let digest = issue_digest(exporter, &public_key);
    let signature: DerSignature = key.sign_prehash(&digest).unwrap();
    let signature = signature.as_bytes().to_vec();
    let service = "web".into();
    IssueRequest { public_key, signature, service, ..IssueRequest::default() }
}

async fn connected(harness: &Harness) -> Wire {
    let (tpm, held) = harness.joined().await;
    harness.wire_as(Some(tpm.identity(&held))).await
}

#[tokio::test]
async fn a_key_that_signs_the_connection_is_certified_as_the_bots() {
    let harness = Harness::new().await;
    let wire = connected(&harness).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let key = SigningKey::generate();
    let wish = IssueRequest { ttl_seconds: 7200, ..request(&key, &wire.exporter) };
    let issued = client.issue(wish).await.unwrap().into_inner();
    assert_eq!(issued.generation, 1);
    assert_eq!(issued.not_after - issued.not_before, 7200 + 360);
    let entry = harness.assert_last_brief("bot.issue").await;
    assert_eq!((&entry["code"], &entry["outcome"]), (&"EN002I".into(), &"granted".into()));
    let instance = harness.instance().await;
    assert_eq!(issued.instance, instance.spec.instance_id.to_string());
    assert_eq!(entry["bot_instance_id"], issued.instance);
    assert!(instance.status.services.contains_key("web"));
    assert_eq!(instance.metadata.expires.unwrap().0.unix_timestamp(), issued.not_after);
    assert_eq!(instance.status.generation, 1);

    // It is the bot's, and cannot ask for more.
    let service = harness.wire_as(Some(identity(&key, &issued))).await;
    let mut client = IdentityServiceClient::new(service.channel.clone());
    let me = client.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.bot.as_str(), me.roles.len()), ("my-bot", 2));
    let status = client.renew(RenewRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("bot.renew", Some("certificate_of_service"));
    let status = client.issue(request(&key, &service.exporter)).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("bot.issue", Some("certificate_of_service"));
}

#[tokio::test]
async fn a_key_that_did_not_sign_this_very_request_is_refused() {
    let harness = Harness::new().await;
    let wire = connected(&harness).await;
    let elsewhere = harness.wire().await;
    let (key, other) = (SigningKey::generate(), SigningKey::generate());
    let sound = request(&key, &wire.exporter);
    let theirs = request(&other, &wire.exporter);
    let mut flipped = sound.clone();
    *flipped.signature.last_mut().unwrap() ^= 1;
    let mut longer = sound.clone();
    longer.public_key.push(0);
    let point_off = {
        let mut off = sound.clone();
        *off.public_key.last_mut().unwrap() ^= 1;
        off
    };
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let denied = Code::PermissionDenied;
    for (wish, refusal, code) in [
        (request(&key, &elsewhere.exporter), "key_unproven", denied),
        (IssueRequest { signature: theirs.signature, ..sound.clone() }, "key_unproven", denied),
        (IssueRequest { public_key: theirs.public_key, ..sound.clone() }, "key_unproven", denied),
        (flipped, "key_unproven", denied),
        (IssueRequest { signature: vec![], ..sound.clone() }, "key_unproven", denied),
        (
            IssueRequest { public_key: vec![], ..sound.clone() },
            "key_malformed",
            Code::InvalidArgument,
        ),
        (longer, "key_malformed", Code::InvalidArgument),
        (point_off, "key_malformed", Code::InvalidArgument),
        (IssueRequest { ttl_seconds: -7, ..sound.clone() }, "malformed", Code::InvalidArgument),
        (IssueRequest { subject: 2, ..sound.clone() }, "malformed", Code::InvalidArgument),
    ] {
        let status = client.issue(wish).await.unwrap_err();
        assert_eq!(status.code(), code, "{refusal}: {status}");
        let line = harness.assert_last("bot.issue", Some(refusal));
        assert_eq!(line["code"], "EN002E");
        assert!(harness.instance().await.status.services.is_empty());
    }
    client.issue(sound).await.unwrap();
}

#[tokio::test]
async fn call_without_certificate_is_refused() {
    let harness = Harness::new().await;
    let (wire, other) = (harness.wire().await, harness.wire().await);
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let wish = request(&SigningKey::generate(), &wire.exporter);
    let mut asking = IdentityServiceClient::new(other.channel.clone());
    for status in [
        asking.who_am_i(WhoAmIRequest {}).await.unwrap_err(),
        client.renew(RenewRequest::default()).await.unwrap_err(),
        client.issue(wish).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    harness.assert_last("bot.issue", Some("certificate_missing"));
}

#[tokio::test]
async fn many_services_do_not_make_a_record_grow_without_bound() {
    let harness = Harness::new().await;
    let wire = connected(&harness).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    for number in 0..70 {
        let wish = request(&SigningKey::generate(), &wire.exporter);
        let service = format!("{number:02}{}", "x".repeat(1000));
        client.issue(IssueRequest { service, ..wish }).await.unwrap();
    }
    let services = harness.instance().await.status.services;
    assert_eq!(services.len(), 64);
    assert!(services.keys().all(|name| name.len() == 255));
    assert!(services.keys().any(|name| name.starts_with("69")));
}

/// What is warned of is the clone: not the host itself, which renews and issues on one connection.
#[tokio::test]
async fn renewal_followed_by_an_issue_is_not_a_clone() {
    let harness = Harness::new().await;
    let warnings = || {
        let lines = harness.audit();
        lines.iter().filter(|line| line.get("presented_generation").is_some()).count()
    };
    let (tpm, held) = harness.joined().await;
    let wire = async || harness.wire_as(Some(tpm.identity(&held))).await;
    let issue = async |wire: &Wire| {
        let wish = request(&SigningKey::generate(), &wire.exporter);
        IdentityServiceClient::new(wire.channel.clone()).issue(wish).await.unwrap();
    };
    let renew = async |wire: &Wire| {
        let mut client = IdentityServiceClient::new(wire.channel.clone());
        client.renew(RenewRequest::default()).await.unwrap();
    };
    let (own, other) = (wire().await, wire().await);
    renew(&own).await;
    issue(&own).await;
    issue(&own).await;
    assert_eq!(warnings(), 0);
    // The same certificate on a connection that renewed nothing.
    issue(&other).await;
    assert_eq!(warnings(), 1);
    renew(&other).await;
    assert_eq!(warnings(), 2);
    // Now another holder has renewed, and the certificate is two behind.
    issue(&own).await;
    issue(&other).await;
    assert_eq!(warnings(), 4);
}
