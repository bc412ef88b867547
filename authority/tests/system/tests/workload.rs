//! Credentials for workloads.

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use proto::v1::identity_selector::By;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::workload_service_client::WorkloadServiceClient;
use proto::v1::{
    GetTrustBundleRequest, IdentitySelector, IssueX509SvidsRequest, Unix, WhoAmIRequest,
    WorkloadAttributes,
};
use testkit::simulated::{Wire, identity};
use tonic::Code;
use tonic::transport::Channel;

use super::harness::Harness;
use super::issue;

/// A workload whose agent has attested this user.
pub(crate) fn workload(uid: u32) -> Option<WorkloadAttributes> {
    let unix = Unix { pid: 7, uid, gid: uid, ..Unix::default() };
    Some(WorkloadAttributes { unix: Some(unix), ..WorkloadAttributes::default() })
}

/// X.509-SVIDs for a key, with its proof on this connection.
pub(crate) fn request(
    key: &SigningKey,
    wire: &Wire,
    by: Option<By>,
    workload: Option<WorkloadAttributes>,
) -> IssueX509SvidsRequest {
    let proof = issue::request(key, &wire.exporter);
    IssueX509SvidsRequest {
        selector: Some(IdentitySelector { by }),
        workload,
        public_key: proof.public_key,
        signature: proof.signature,
        service: "api".into(),
        ..IssueX509SvidsRequest::default()
    }
}

pub(crate) fn client(wire: &Wire) -> WorkloadServiceClient<Channel> {
    WorkloadServiceClient::new(wire.channel.clone())
}

#[tokio::test]
async fn without_selector_the_svid_has_the_bots_own_id() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let key = SigningKey::generate();
    let wish =
        IssueX509SvidsRequest { ttl_seconds: 600, ..request(&key, &wire, None, workload(33)) };
    let answer = client(&wire).issue_x509_svids(wish).await.unwrap().into_inner();
    let [svid] = answer.svids.as_slice() else { panic!("{answer:?}") };
    assert_eq!(svid.spiffe_id, "spiffe://test.example/bot/my-bot");
    assert_eq!((svid.name.as_str(), svid.not_after - svid.not_before), ("", 660));
    let bundle = answer.bundle.unwrap();
    assert_eq!(bundle.trust_domain, "test.example");
    assert_eq!(bundle.x509_authorities, [harness.ca().to_vec()]);
    let asked = client(&wire).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap();
    assert_eq!(asked.into_inner(), bundle);

    let line = harness.assert_last("workload.x509_svid", None);
    assert_eq!((&line["code"], &line["service"]), (&"EN004I".into(), &"api".into()));
    assert_eq!(line["workload"]["workload.unix.uid"], "33");
    assert_eq!(line["svids"][0]["spiffe_id"], svid.spiffe_id);
    let instance = harness.instance().await;
    let recorded = &instance.status.services["api"];
    assert_eq!(line["svids"][0]["certificate_serial"], recorded.certificate_serial.as_str());
    assert_eq!(recorded.expires.0.unix_timestamp(), svid.not_after);

    // It is no identity of a bot instance.
    let issued =
        proto::v1::IssuedCredentials { certificates: svid.certificates.clone(), ..held.clone() };
    let service = harness.wire_as(Some(identity(&key, &issued))).await;
    let mut own = IdentityServiceClient::new(service.channel.clone());
    let status = own.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let again = request(&key, &service, None, None);
    let status = client(&service).issue_x509_svids(again).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.assert_last("workload.x509_svid", Some("certificate_invalid"));
}

#[tokio::test]
async fn only_the_instance_itself_gets_svids_and_bundles() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let key = SigningKey::generate();

    let stranger = harness.wire().await;
    let status = client(&stranger).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.assert_last("workload.trust_bundle", Some("certificate_missing"));
    let wish = request(&key, &stranger, None, None);
    let status = client(&stranger).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.assert_last("workload.x509_svid", Some("certificate_missing"));

    let issued = IdentityServiceClient::new(wire.channel.clone())
        .issue(issue::request(&key, &wire.exporter))
        .await
        .unwrap()
        .into_inner();
    let service = harness.wire_as(Some(identity(&key, &issued))).await;
    let status = client(&service).get_trust_bundle(GetTrustBundleRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let wish = request(&key, &service, None, None);
    let status = client(&service).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("certificate_of_service"));

    // The signature is of another connection.
    let wish = request(&key, &service, None, None);
    let status = client(&wire).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("key_unproven"));
    let wish = request(&key, &wire, Some(By::Name("web".into())), None);
    let status = client(&wire).issue_x509_svids(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("workload.x509_svid", Some("workload_identity_refused"));
}
