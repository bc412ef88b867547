//! The rotation of CAs.

use std::fs;
use std::sync::atomic::Ordering;

use authority::audit::Author;
use authority::issue::CaType;
use authority::keyring::{Caution, Step};
use proto::v1::admin_service_client::AdminServiceClient;
use proto::v1::change_ca_request::Step as WireStep;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{Ca, ChangeCaRequest, IssuedCredentials, ListCasRequest, RenewRequest};
use testkit::simulated::SoftwareTpm;
use tls::CaPin;
use tonic::{Code, Status};

use super::command::Place;
use super::harness::Harness;

async fn change(harness: &Harness, ca_type: &str, step: WireStep) -> Result<(), Status> {
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    let types = vec![ca_type.to_owned()];
    let request = ChangeCaRequest { types, step: step.into(), force: false };
    admin.change_ca(request).await.map(|_| ())
}

/// The CAs of a type.
async fn cas(harness: &Harness, ca_type: &str) -> Vec<Ca> {
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    let cas = admin.list_cas(ListCasRequest {}).await.unwrap().into_inner().cas;
    cas.into_iter().filter(|ca| ca.r#type == ca_type).collect()
}

fn states(cas: &[Ca]) -> Vec<&str> {
    cas.iter().map(|ca| ca.state.as_str()).collect()
}

async fn renewed(
    harness: &Harness,
    tpm: &SoftwareTpm,
    held: &IssuedCredentials,
) -> IssuedCredentials {
    let wire = harness.wire_as(Some(tpm.identity(held))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    client
        .renew(RenewRequest { ttl_seconds: 86_400, ..RenewRequest::default() })
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn step_with_all_types_is_taken_where_it_fits() {
    let harness = Harness::new().await;
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    change(&harness, "ssh", WireStep::Prepare).await.unwrap();
    let types: Vec<_> = CaType::ALL.iter().map(|one| one.as_str().to_owned()).collect();
    let request = ChangeCaRequest { types, step: WireStep::Prepare.into(), force: false };
    let changed = admin.change_ca(request.clone()).await.unwrap().into_inner();
    assert_eq!(changed.changes.len(), 3);
    assert_eq!(changed.left, ["ssh: there is a next CA already: activate it first"]);
    let refused = admin.change_ca(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message().matches("there is a next CA already").count(), 4, "{refused}");
}

#[tokio::test]
async fn ca_signs_only_after_each_live_host_has_it() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    for ca_type in ["x509", "ssh", "ssh_host"] {
        let refused = change(&harness, ca_type, WireStep::Activate).await.unwrap_err();
        assert!(refused.message().contains("there is no next CA"), "{refused}");
        change(&harness, ca_type, WireStep::Prepare).await.unwrap();
        let refused = change(&harness, ca_type, WireStep::Activate).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let instance = format!("1 bot instances (my-bot/{})", held.instance);
        assert!(refused.message().contains(&instance), "{refused}");
        let next = &cas(&harness, ca_type).await[1];
        assert_eq!((next.state.as_str(), next.instances_behind), ("next", 1));
    }
    let held = renewed(&harness, &tpm, &held).await;
    assert_eq!((held.x509_authorities.len(), held.ssh_authorities.len()), (2, 2));
    let before = harness.ca();
    for ca_type in ["x509", "ssh", "ssh_host"] {
        change(&harness, ca_type, WireStep::Activate).await.unwrap();
        assert_eq!(states(&cas(&harness, ca_type).await), ["active", "retired"]);
    }
    assert_ne!(harness.ca(), before);
    let held = renewed(&harness, &tpm, &held).await;
    let refused = change(&harness, "x509", WireStep::Retire).await.unwrap_err();
    assert!(refused.message().contains("may be valid until"), "{refused}");
    harness.go_on(24 * 3600 + 301).await;
    change(&harness, "x509", WireStep::Retire).await.unwrap();
    assert_eq!(states(&cas(&harness, "x509").await), ["active"]);
    drop(held);
}

#[tokio::test]
async fn agent_that_reports_its_trust_bundle_is_waited_for_until_it_has_the_next_ca() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    change(&harness, "x509", WireStep::Prepare).await.unwrap();
    let reporting = async |trust_version: u64| {
        let wire = harness.wire_as(Some(tpm.identity(&held))).await;
        let mut client = IdentityServiceClient::new(wire.channel.clone());
        let request = RenewRequest { trust_version, ..RenewRequest::default() };
        client.renew(request).await.unwrap();
        cas(&harness, "x509").await[1].instances_behind
    };
    let newest = harness.authority.issuer.keyring().keys().chain.version();
    assert_eq!(reporting(newest - 1).await, 1);
    change(&harness, "x509", WireStep::Activate).await.unwrap_err();
    assert_eq!(reporting(newest).await, 0);
    // A newer document, with a CA of another type, is not waited for.
    change(&harness, "ssh", WireStep::Prepare).await.unwrap();
    assert_eq!(cas(&harness, "ssh").await[1].instances_behind, 1);
    change(&harness, "x509", WireStep::Activate).await.unwrap();
}

#[tokio::test]
async fn rotation_goes_on_by_itself_when_each_live_host_has_the_next_ca() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let after_maintenance = async || {
        harness.authority.maintain_keys().await;
        let cas = cas(&harness, "x509").await;
        cas.iter().map(|ca| (ca.state.clone(), ca.rotating)).collect::<Vec<_>>()
    };
    let state = |state: &str, is_rotating| (state.to_owned(), is_rotating);
    assert_eq!(after_maintenance().await, [state("active", false)]);
    change(&harness, "x509", WireStep::Rotate).await.unwrap();
    let waiting = [state("active", true), state("next", true)];
    assert_eq!(after_maintenance().await, waiting);
    renewed(&harness, &tpm, &held).await;
    let signing = [state("active", true), state("retired", true)];
    assert_eq!(after_maintenance().await, signing);
    harness.ahead.store(23 * 3600, Ordering::SeqCst);
    assert_eq!(after_maintenance().await, signing);
    harness.go_on(24 * 3600 + 301).await;
    assert_eq!(after_maintenance().await, [state("active", false)]);
}

#[tokio::test]
async fn private_key_of_a_retired_ca_is_gone() {
    let harness = Harness::new().await;
    let (keyring, now) =
        (harness.authority.keyring.as_ref().unwrap(), harness.authority.clock.now());
    for ca_type in CaType::ALL {
        for step in [Step::Prepare, Step::Activate] {
            keyring.step(ca_type, step, Caution::Force, false, Author::system(now)).await.unwrap();
        }
    }
    let slots = keyring.recovery_slots().await.unwrap();
    assert_eq!(slots.len(), 4, "{slots:?}");
    let keys = keyring.keyring().keys();
    keys.x509.active().private_pem().unwrap();
    for retired in keys.x509.retired() {
        retired.ca.private_pem().unwrap_err();
    }
    for retired in keys.ssh.retired().iter().chain(keys.ssh_host.retired()) {
        retired.ca.private_pem().unwrap_err();
    }
    assert_eq!(keys.x509.retired().len() + keys.ssh.retired().len() + keys.jwt.retired().len(), 3);
}

#[test]
fn ca_is_replaced_on_the_command_line_also_if_the_authority_is_killed_after_each_step() {
    let place = Place::new();
    let mut running = place.start(&["--cluster-name", "one.example"]);
    let first = running.pin.clone();
    let certificates = || {
        let file = fs::read_to_string(place.data().join("cluster/x509-ca.pem")).unwrap();
        assert_eq!(place.run(&["ca", "export", "--type", "x509"]).1, file);
        file.matches("BEGIN CERTIFICATE").count()
    };
    let step = |step: &[&str]| {
        let (code, said, error) = place.run(&[&["ca"], step, &["--type", "x509"]].concat());
        (code, said + &error)
    };
    let status = || place.run(&["ca", "status"]).1;
    assert_eq!((status().matches("active").count(), certificates()), (4, 1));
    for (wanted, count, refused) in [
        (&["prepare"][..], 2, "there is a next CA already"),
        (&["activate"], 2, "there is no next CA"),
        (&["retire", "--force", "--yes"], 1, "there is no retired CA"),
    ] {
        if wanted[0] == "retire" {
            for wary in [&["retire"][..], &["retire", "--force"]] {
                let (code, said) = step(wary);
                assert!(code == 1 && said.contains("may be valid until"), "{code} {said}");
            }
        }
        let (code, said) = step(wanted);
        assert!(code == 0 && said.starts_with("x509 "), "{said}");
        assert_eq!(certificates(), count, "{wanted:?}");
        let before = status();
        running.kill();
        running = place.start(&[]);
        assert_eq!((status(), certificates()), (before, count));
        let (code, said) = step(wanted);
        assert!(code == 1 && said.contains(refused), "{wanted:?}: {code} {said}");
    }
    assert_ne!(running.pin, first);
    let (code, said, error) = place.run(&["ca", "export", "--type", "all"]);
    assert_eq!(code, 64, "{said}{error}");
    for (ca_type, has) in
        [("ssh", "SSH CA"), ("ssh_host", "SSH host CA"), ("jwt", "\"kty\": \"EC\"")]
    {
        let said = place.run(&["ca", "export", "--type", ca_type]).1;
        assert_eq!(said.matches(has).count(), 1, "{said}");
    }
    assert_eq!(running.terminate(), Some(0));
}

#[tokio::test]
async fn tainted_ca_is_replaced_at_once_and_revoked_when_all_hosts_have_renewed() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let late_held = harness.join(&tpm, "t").await.unwrap();
    let keys = || harness.authority.issuer.keyring().keys();
    let old = CaPin::of_certificate(keys().x509.active().certificate()).unwrap();
    assert_eq!(held.min_trust_version, 0);
    let refused = change(&harness, "x509", WireStep::Revoke).await.unwrap_err();
    assert!(refused.message().contains("there is no tainted CA"), "{refused}");
    change(&harness, "x509", WireStep::Prepare).await.unwrap();
    let dropped = keys().x509.next().unwrap().ca.key_id().to_owned();

    change(&harness, "x509", WireStep::Taint).await.unwrap();
    let now = cas(&harness, "x509").await;
    assert_eq!(states(&now), ["active", "tainted"]);
    assert!(now.iter().all(|ca| ca.key_id != dropped));
    assert_eq!(now[1].instances_behind, 2);
    assert!(now[1].behind.ends_with("have not renewed since"), "{}", now[1].behind);
    assert!(!keys().chain.since(&[old]).is_empty(), "hosts can still walk from it");
    for step in [WireStep::Revoke, WireStep::Retire] {
        change(&harness, "x509", step).await.unwrap_err();
    }
    // What it has signed is still accepted, so that it can be renewed; any answer asks for that.
    let renewed_once = renewed(&harness, &tpm, &held).await;
    let version = keys().chain.version();
    assert!(held.trust_version < version && renewed_once.trust_version == version);
    assert_eq!(renewed_once.min_trust_version, version);
    assert_eq!(renewed_once.x509_authorities.len(), 2);
    assert_eq!(cas(&harness, "x509").await[1].instances_behind, 1);
    let refused = change(&harness, "x509", WireStep::Revoke).await.unwrap_err();
    assert!(refused.message().contains("1 bot instances"), "{refused}");
    renewed(&harness, &tpm, &late_held).await;

    change(&harness, "x509", WireStep::Revoke).await.unwrap();
    assert_eq!(states(&cas(&harness, "x509").await), ["active"]);
    assert_eq!(keys().chain.since(&[old]), [], "its owner could write another end of the chain");
    let new = CaPin::of_certificate(keys().x509.active().certificate()).unwrap();
    assert_eq!((keys().chain.since(&[new]).len(), keys().chain.version()), (1, version + 1));
    let last = renewed(&harness, &tpm, &renewed_once).await;
    assert_eq!((last.x509_authorities.len(), last.min_trust_version), (1, version));
}

#[tokio::test]
async fn taint_of_any_type_has_all_renew() {
    let harness = Harness::new().await;
    let (tpm, mut held) = harness.joined().await;
    for ca_type in ["ssh", "ssh_host", "jwt"] {
        change(&harness, ca_type, WireStep::Taint).await.unwrap();
        assert_eq!(states(&cas(&harness, ca_type).await), ["active", "tainted"]);
        let renewed = renewed(&harness, &tpm, &held).await;
        assert!(renewed.min_trust_version > held.trust_version, "{ca_type}");
        assert_eq!(renewed.min_trust_version, renewed.trust_version, "{ca_type}");
        held = renewed;
        change(&harness, ca_type, WireStep::Revoke).await.unwrap();
        assert_eq!(states(&cas(&harness, ca_type).await), ["active"]);
    }
}

#[test]
fn tainted_ca_is_revoked_on_the_command_line_also_if_the_authority_is_killed_after_each_step() {
    let place = Place::new();
    let mut running = place.start(&["--cluster-name", "one.example"]);
    let status = || place.run(&["ca", "status"]).1;
    let step = |step: &[&str]| {
        let (code, said, error) = place.run(&[&["ca"], step, &["--type", "all"]].concat());
        (code, said + &error)
    };
    for (wanted, tainted, refused) in
        [("taint", 4, None), ("revoke", 0, Some("there is no tainted CA"))]
    {
        let (code, said) = step(&[wanted]);
        assert!(code == 0 && said.matches(&format!(" {wanted}: ")).count() == 4, "{said}");
        let before = status();
        assert_eq!(before.matches("tainted").count(), tainted, "{before}");
        running.kill();
        running = place.start(&[]);
        assert_eq!(status(), before);
        if let Some(refused) = refused {
            let (code, said) = step(&[wanted]);
            assert!(code == 1 && said.contains(refused), "{code} {said}");
        }
    }
    let (code, said, error) = place.run(&["audit", "verify"]);
    assert_eq!(code, 0, "{said}{error}");
    assert_eq!(running.terminate(), Some(0));
}
