//! Who a caller is, by its certificate.

use std::sync::atomic::Ordering;

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use proto::v1::admin_service_client::AdminServiceClient;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{RenewRequest, StatusRequest, WhoAmIRequest};
use tonic::Code;

use super::harness::Harness;
use super::issue::request as issue_request;
use super::software_tpm::{SoftwareTpm, identity};

#[tokio::test]
async fn a_host_is_told_what_its_certificate_says() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::new());
    harness.allow(&tpm).await;
    let result = harness.join(&tpm, "t").await.unwrap();
    let wire = harness.wire_as(Some(tpm.identity(&result))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let me = client.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.cluster.as_str(), me.bot.as_str()), ("test.example", "my-bot"));
    assert_eq!(me.roles, ["access", "dev"]);
    assert_eq!(me.spiffe_id, "spiffe://test.example/bot/my-bot");
    assert_eq!(me.not_after, result.not_after);
    assert_eq!(me.certificate_serial, harness.audit()[0]["certificate_serial"]);

    // The connection lives on, the certificate does not.
    harness.ahead.store(3601, Ordering::SeqCst);
    let status = client.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("expired"));
}

#[tokio::test]
async fn who_shows_no_certificate_is_nobody() {
    let harness = Harness::new().await;
    let wire = harness.wire().await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let status = client.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("unauthenticated"));
}

#[tokio::test]
async fn a_certificate_of_another_cluster_does_not_pass_the_handshake() {
    let (harness, other, tpm) = (Harness::new().await, Harness::new().await, SoftwareTpm::new());
    other.allow(&tpm).await;
    let result = other.join(&tpm, "t").await.unwrap();
    let wire = harness.wire_as(Some(tpm.identity(&result))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let status = client.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_ne!(status.code(), Code::Ok);
    assert_ne!(status.code(), Code::Unauthenticated);
}

/// Every call, by every kind of caller.
#[tokio::test]
async fn who_may_call_what() {
    let (harness, other, tpm) = (Harness::new().await, Harness::new().await, SoftwareTpm::new());
    harness.allow(&tpm).await;
    other.allow(&tpm).await;
    let held = harness.join(&tpm, "t").await.unwrap();
    let foreign = other.join(&tpm, "t").await.unwrap();
    let service_key = SigningKey::generate();
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let wish = issue_request(&service_key, &wire.exporter);
    let service = IdentityServiceClient::new(wire.channel.clone()).issue(wish).await.unwrap();
    let service = identity(&service_key, &service.into_inner());

    let (nobody, denied) = (Code::Unauthenticated, Code::PermissionDenied);
    // The handshake fails, and whatever is called with it.
    let cut = Code::Unknown;
    for (caller, ahead, identity, expected) in [
        ("no certificate", 0, None, [nobody; 3]),
        ("another CA's", 0, Some(tpm.identity(&foreign)), [cut; 3]),
        ("the bot's", 0, Some(tpm.identity(&held)), [Code::Ok; 3]),
        ("a service's", 0, Some(service), [Code::Ok, denied, denied]),
        ("an expired one", 2 * 3600, Some(tpm.identity(&held)), [nobody; 3]),
    ] {
        let wire = harness.wire_as(identity).await;
        harness.ahead.store(ahead, Ordering::SeqCst);
        let mut client = IdentityServiceClient::new(wire.channel.clone());
        let wish = issue_request(&SigningKey::generate(), &wire.exporter);
        let ends = [
            client.who_am_i(WhoAmIRequest {}).await.map(|_| ()),
            client.renew(RenewRequest::default()).await.map(|_| ()),
            client.issue(wish).await.map(|_| ()),
        ];
        for (number, end) in ends.into_iter().enumerate() {
            let code = end.map_or_else(|status| status.code(), |()| Code::Ok);
            let matches = match expected[number] {
                Code::Unknown => ![Code::Ok, nobody, denied].contains(&code),
                expected => code == expected,
            };
            assert!(matches, "{caller}, call {number}: {code:?}");
        }
        // Operators' calls are not on the network, whoever asks.
        let mut admin = AdminServiceClient::new(wire.channel.clone());
        admin.status(StatusRequest {}).await.unwrap_err();
    }
}
