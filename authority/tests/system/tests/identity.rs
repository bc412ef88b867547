//! Who a caller is, by its certificate.

use std::sync::atomic::Ordering;

use proto::v1::WhoAmIRequest;
use proto::v1::identity_service_client::IdentityServiceClient;
use tonic::Code;

use super::harness::Harness;
use super::software_tpm::SoftwareTpm;

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
