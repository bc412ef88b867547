//! Teleport's two join services, as hosts that run `tbot` use them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use authority::config::TeleportServices;
use authority::resource::{KeyLocation, Kind};
use p256::pkcs8::EncodePrivateKey;
use proto::teleport::join_v1::join_request::Payload as Request;
use proto::teleport::join_v1::{
    ChallengeSolution, ClientInit, ClientParams, GivingUp, JoinRequest, PublicKeys, TpmInit,
    client_init, client_params, giving_up, tpm_init,
};
use proto::teleport::legacy::register_using_tpm_method_initial_request::Ek as LegacyEk;
use proto::teleport::legacy::register_using_tpm_method_request::Payload as LegacyRequest;
use proto::teleport::legacy::{
    RegisterUsingTpmMethodInitialRequest, RegisterUsingTpmMethodRequest,
};
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{IssueRequest, IssuedCredentials, RenewRequest, WhoAmIRequest};
use rustls::client::ResolvesClientCert;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testkit::simulated::teleport::{Certificates, legacy_solution, solution};
use testkit::simulated::{SoftwareTpm, TeleportHost, Wire};
use tonic::{Code, Status};

use super::harness::{Harness, author, run};
use super::protocols::Protocol;

/// Makes a message wrong.
type Change<M> = fn(&mut M);

type AnyChange<'c> = &'c dyn Fn(&mut TpmInit);

/// The key of a host with its certificate, for TLS.
pub(super) fn identity(host: &TeleportHost<'_>, leaf: &[u8]) -> Arc<dyn ResolvesClientCert> {
    let key = host.key.to_pkcs8_der().unwrap();
    let key = tls::software_key(PrivateKeyDer::Pkcs8(key.as_bytes().to_vec().into())).unwrap();
    tls::identity(vec![CertificateDer::from(leaf.to_vec())], key).unwrap()
}

/// Joins by one of the services.
pub(super) async fn join(
    protocol: Protocol,
    host: &TeleportHost<'_>,
    wire: &Wire,
) -> Result<Certificates, Status> {
    match protocol {
        Protocol::Legacy => host.legacy_join(wire, "t").await,
        _ => host.join(wire, "t").await,
    }
}

/// The DER of a certificate in PEM.
fn der(pem: &[u8]) -> Vec<u8> {
    let (label, der) = der::pem::decode_vec(pem).unwrap();
    assert_eq!(label, "CERTIFICATE");
    der
}

/// A host that has joined by `teleport.join.v1`, and its certificate.
async fn joined<'t>(harness: &Harness, tpm: &'t SoftwareTpm) -> (TeleportHost<'t>, Vec<u8>) {
    let host = TeleportHost::new(tpm);
    let made = host.join(&harness.wire().await, "t").await.unwrap();
    (host, made.tls)
}

async fn allowed() -> (Harness, SoftwareTpm) {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    (harness, tpm)
}

#[tokio::test]
async fn certificates_are_what_clients_of_teleport_accept() {
    for protocol in [Protocol::Teleport, Protocol::Legacy] {
        let (harness, tpm) = allowed().await;
        let host = TeleportHost::new(&tpm);
        let made = join(protocol, &host, &harness.wire().await).await.unwrap();
        // The older service has text where the newer one has bytes.
        let (leaf, cas, ssh, ssh_cas) = match protocol {
            Protocol::Legacy => (
                der(&made.tls),
                made.tls_cas.iter().map(|pem| der(pem)).collect::<Vec<_>>(),
                String::from_utf8(made.ssh).unwrap(),
                made.ssh_cas.into_iter().map(|line| String::from_utf8(line).unwrap()).collect(),
            ),
            _ => (
                made.tls,
                made.tls_cas,
                ssh_key::Certificate::from_bytes(&made.ssh).unwrap().to_openssh().unwrap(),
                made.ssh_cas
                    .iter()
                    .map(|key| ssh_key::PublicKey::from_bytes(key).unwrap().to_openssh().unwrap())
                    .collect::<Vec<_>>(),
            ),
        };
        assert_eq!(cas, [harness.ca().to_vec()], "the CA that signs the server's certificate");
        let dir = harness.dir.path();
        std::fs::write(dir.join("leaf.der"), &leaf).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.current_dir(dir).args(["verify", "-x509_strict", "-purpose", "sslclient"]);
        run(openssl.args(["-CAfile", "data/cluster/x509-ca.pem", "leaf.der"]));
        let mut openssl = Command::new("openssl");
        openssl.current_dir(dir).args(["x509", "-noout", "-text", "-in", "leaf.der"]);
        let text = String::from_utf8(run(&mut openssl)).unwrap();
        for part in [
            "Issuer: O = test.example, ",
            "Subject: O = access, O = dev, CN = bot-my-bot, street = test.example, ",
            "1.3.9999.1.7 = test.example, 1.3.9999.1.14 = 1, 1.3.9999.2.18 = my-bot, 1.3.9999.2.20 = ",
            "\\\"join_method\\\":\\\"tpm\\\",\\\"join_token_name\\\":\\\"t\\\"",
            "TLS Web Client Authentication",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Renewable, upon which a client would renew by another call than a join.
        assert!(!text.contains("1.3.9999.1.13"), "{text}");
        let mut openssl = Command::new("openssl");
        openssl.current_dir(dir).args(["x509", "-noout", "-pubkey", "-in", "leaf.der"]);
        let public = String::from_utf8(run(&mut openssl)).unwrap();
        let public = der::pem::decode_vec(public.as_bytes()).unwrap().1;
        assert_eq!(public, host.spki(), "the key that the host sent");

        std::fs::write(dir.join("cert.pub"), &ssh).unwrap();
        let listed = run(Command::new("ssh-keygen").current_dir(dir).args(["-Lf", "cert.pub"]));
        let listed = String::from_utf8(listed).unwrap();
        for part in ["Key ID: \"bot-my-bot\"", "bot-my-bot\n", "-teleport-internal-join\n"] {
            assert!(listed.contains(part), "{part}: {listed}");
        }
        let words = |line: &String| {
            line.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let of_users_and_hosts = ["ssh-ca.pub", "ssh-host-ca.pub"]
            .map(|ca| words(&std::fs::read_to_string(dir.join("data/cluster").join(ca)).unwrap()));
        assert_eq!(ssh_cas.iter().map(words).collect::<Vec<_>>(), of_users_and_hosts);

        let instance = harness.instance().await;
        assert_eq!(instance.status.key_location, KeyLocation::Unproven);
        assert_eq!(instance.status.ek.public_hash.as_str(), tpm.ek_hash());
        let line = harness.assert_last("bot.join", None);
        assert_eq!((line["generation"].as_u64(), &line["ek_proven"]), (Some(1), &true.into()));
        let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
        let caller = IdentityServiceClient::new(wire.channel).who_am_i(WhoAmIRequest {}).await;
        assert_eq!(caller.unwrap().into_inner().bot, "my-bot");
    }
}

#[tokio::test]
async fn client_of_an_unsupported_version_is_refused() {
    for protocol in [Protocol::Teleport, Protocol::Legacy] {
        let (harness, tpm) = allowed().await;
        let join_as = async |versions| {
            let wire = Wire { versions, ..harness.wire().await };
            join(protocol, &TeleportHost::new(&tpm), &wire).await
        };
        for (lines, versions) in [&["garbage"][..], &["16.5.9"], &["1.0.0"]].into_iter().enumerate()
        {
            let status = join_as(versions).await.unwrap_err();
            let text = "client version is unsupported, minimum supported version is 17.0.0";
            assert_eq!((status.code(), status.message()), (Code::PermissionDenied, text));
            let line = harness.assert_refused_after(lines, "client_version").await;
            assert_eq!(
                (&line["token_name"], &line["agent_version"]),
                (&"t".into(), &versions[0].into())
            );
        }
        // Two versions count as none.
        for versions in [&[][..], &["17.0.0"], &["18.0.0-dev.1"], &["garbage", "1.0.0"]] {
            join_as(versions).await.unwrap();
        }
        harness.assert_last("bot.join", None);
    }
}

#[tokio::test]
async fn joining_again_with_the_certificate_renews_the_instance() {
    for protocol in [Protocol::Teleport, Protocol::Legacy] {
        let (harness, tpm) = allowed().await;
        let mut last = None;
        for generation in 1..=3 {
            let host = TeleportHost::new(&tpm);
            let wire = harness.wire_as(last.take()).await;
            let made = join(protocol, &host, &wire).await.unwrap();
            let leaf = if protocol == Protocol::Legacy { der(&made.tls) } else { made.tls };
            let line = harness.assert_last("bot.join", None);
            assert_eq!(line["generation"], generation);
            assert_eq!(line["presented_generation"], serde_json::Value::Null);
            let instance = harness.instance().await;
            assert_eq!(line["bot_instance_id"], instance.spec.instance_id.to_string());
            assert_eq!(instance.status.generation, generation);
            assert_eq!(instance.status.renewed.is_some(), generation > 1);
            last = Some(identity(&host, &leaf));
        }
        // Without a certificate it is a new instance.
        join(protocol, &TeleportHost::new(&tpm), &harness.wire().await).await.unwrap();
        assert_eq!(harness.instances().await.len(), 2);
        assert_eq!(harness.assert_last("bot.join", None)["generation"], 1);
    }
}

#[tokio::test]
async fn certificate_that_is_not_the_latest_still_renews_and_is_noted() {
    let (harness, tpm) = allowed().await;
    let (first, leaf) = joined(&harness, &tpm).await;
    let again = async || {
        let wire = harness.wire_as(Some(identity(&first, &leaf))).await;
        TeleportHost::new(&tpm).join(&wire, "t").await.unwrap();
        harness.assert_last("bot.join", None)
    };
    assert_eq!(again().await["presented_generation"], serde_json::Value::Null);
    let line = again().await;
    assert_eq!(
        (line["presented_generation"].as_u64(), line["generation"].as_u64()),
        (Some(1), Some(3))
    );
    assert_eq!(harness.instance().await.status.generation, 3);
    let metrics = harness.authority.metrics_text();
    assert!(metrics.contains("generation_mismatches_total 1"), "{metrics}");
}

#[tokio::test]
async fn stolen_certificate_renews_nothing_on_another_tpm() {
    let (harness, tpm) = allowed().await;
    let (host, leaf) = joined(&harness, &tpm).await;
    let thief = SoftwareTpm::generate();
    let rules =
        format!("- ek_public_hash: {}\n- ek_public_hash: {}", tpm.ek_hash(), thief.ek_hash());
    harness.token("t", &rules, &[]).await;
    let before = harness.instance().await;
    for protocol in [Protocol::Teleport, Protocol::Legacy] {
        let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
        let status = join(protocol, &TeleportHost::new(&thief), &wire).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let line = harness.assert_last("bot.join", Some("ek_of_other"));
        assert_eq!(line["ek_pub_hash"], thief.ek_hash());
        assert!(line["reason"].as_str().unwrap().contains(&tpm.ek_hash()), "{line:#}");
        assert_eq!(harness.instance().await, before);
    }
}

#[tokio::test]
async fn joining_again_is_subject_to_locks_rules_and_records() {
    let (harness, tpm) = allowed().await;
    let (host, leaf) = joined(&harness, &tpm).await;
    let again = async || {
        let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
        let status = TeleportHost::new(&tpm).join(&wire, "t").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        status.message().to_owned()
    };
    let instance = harness.instance().await;
    let id = instance.spec.instance_id.to_string();
    let lock = format!(
        "kind: lock\nversion: v2\nmetadata: {{name: l}}\nspec: {{target: {{bot_instance_id: {id}}}}}\n"
    );
    harness.create(&lock).await;
    again().await;
    assert_eq!(harness.assert_last("bot.join", Some("locked"))["bot_instance_id"], id);
    harness.authority.records.remove(Kind::Lock, "l", author()).await.unwrap();
    harness.token("t", &format!("- ek_public_hash: {}", "ab".repeat(32)), &[]).await;
    again().await;
    harness.assert_last("bot.join", Some("ek_not_allowed"));
    harness.allow(&tpm).await;
    let path = instance.path();
    harness.authority.records.remove(Kind::BotInstance, &path, author()).await.unwrap();
    assert!(again().await.contains("bot instance not found"));
    harness.assert_last("bot.join", Some("instance_unknown"));
    assert_eq!(harness.instances().await, []);
}

#[tokio::test]
async fn instance_that_is_removed_while_it_joins_again_gets_nothing() {
    let (harness, tpm) = allowed().await;
    let (host, leaf) = joined(&harness, &tpm).await;
    let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
    let challenged = Protocol::Teleport.challenged(&wire, &tpm, "t").await.unwrap();
    let path = harness.instance().await.path();
    harness.authority.records.remove(Kind::BotInstance, &path, author()).await.unwrap();
    challenged.answer(|_| {}).await.unwrap_err();
    harness.assert_last("bot.join", Some("instance_unknown"));
}

#[tokio::test]
async fn certificate_of_another_bot_does_not_count() {
    let (harness, tpm) = allowed().await;
    let (host, leaf) = joined(&harness, &tpm).await;
    harness
        .create("kind: bot\nversion: v1\nmetadata: {name: other}\nspec: {roles: [access]}\n")
        .await;
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    harness.create(&super::harness::token("o", &rules, &[]).replace("my-bot", "other")).await;
    let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
    TeleportHost::new(&tpm).join(&wire, "o").await.unwrap();
    let line = harness.assert_last("bot.join", None);
    assert_eq!((line["bot_name"].as_str(), line["generation"].as_u64()), (Some("other"), Some(1)));
    assert_eq!(harness.instances().await.len(), 2);
}

#[tokio::test]
async fn expired_certificate_does_not_renew_on_an_open_connection() {
    let (harness, tpm) = allowed().await;
    let (host, leaf) = joined(&harness, &tpm).await;
    let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
    harness.ahead.store(7200, Ordering::SeqCst);
    let status = TeleportHost::new(&tpm).join(&wire, "t").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("bot.join", Some("certificate_expired"));
}

#[tokio::test]
async fn key_that_may_be_copied_neither_renews_nor_issues_by_endorse_v1() {
    let (harness, tpm) = allowed().await;
    let (host, leaf) = joined(&harness, &tpm).await;
    let before = harness.instance().await;
    let wire = harness.wire_as(Some(identity(&host, &leaf))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let status = client.renew(RenewRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    harness.assert_last("bot.renew", Some("key_not_in_tpm"));
    let status = client.issue(IssueRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    harness.assert_last("bot.issue", Some("key_not_in_tpm"));
    assert_eq!(harness.instance().await, before);
}

#[tokio::test]
async fn agents_instance_that_joins_again_as_tbot_can_no_longer_renew_as_agent() {
    let (harness, tpm) = allowed().await;
    let issued: IssuedCredentials = harness.join(&tpm, "t").await.unwrap();
    assert_eq!(harness.instance().await.status.key_location, KeyLocation::Tpm);
    let wire = harness.wire_as(Some(tpm.identity(&issued))).await;
    TeleportHost::new(&tpm).join(&wire, "t").await.unwrap();
    let instance = harness.instance().await;
    assert_eq!(
        (instance.status.generation, instance.status.key_location),
        (2, KeyLocation::Unproven)
    );
    let status = IdentityServiceClient::new(wire.channel).renew(RenewRequest::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    harness.assert_last("bot.renew", Some("instance_unknown"));
}

/// What the newer service says when it receives these messages instead of a join's.
async fn said(harness: &Harness, messages: Vec<JoinRequest>) -> Status {
    let mut talk = harness.wire().await.teleport_join().await.unwrap();
    for message in messages {
        talk.send_raw(message).await;
    }
    loop {
        if let Err(status) = talk.reply().await {
            return status;
        }
    }
}

/// The same for the older service.
async fn legacy_said(harness: &Harness, messages: Vec<RegisterUsingTpmMethodRequest>) -> Status {
    let mut talk = harness.wire().await.legacy_join().await.unwrap();
    for message in messages {
        talk.send_raw(message).await;
    }
    loop {
        if let Err(status) = talk.reply().await {
            return status;
        }
    }
}

fn message(payload: Request) -> JoinRequest {
    JoinRequest { payload: Some(payload) }
}

fn legacy(payload: LegacyRequest) -> RegisterUsingTpmMethodRequest {
    RegisterUsingTpmMethodRequest { payload: Some(payload) }
}

#[tokio::test]
async fn messages_out_of_order_are_refused_in_teleports_words() {
    let (harness, tpm) = allowed().await;
    let host = TeleportHost::new(&tpm);
    let init = || message(Request::ClientInit(TeleportHost::client_init("t")));
    let tpm_init = || message(Request::TpmInit(host.tpm_init()));
    let solved = || message(solution(vec![7; 32]));
    let give_up = || {
        message(Request::GivingUp(GivingUp {
            reason: giving_up::Reason::ChallengeSolutionFailed.into(),
            msg: "no TPM".into(),
        }))
    };
    let nothing = || JoinRequest { payload: None };
    let expected = |what: &str, got: &str| {
        format!("expected client to send message of type {what}, got {got}")
    };
    let gave_up = "client gave up on join attempt: REASON_CHALLENGE_SOLUTION_FAILED: no TPM";
    let no_payload = "the message has no payload, or an unknown one";
    let no_solution = message(Request::Solution(ChallengeSolution { payload: None }));
    let (bad, denied) = (Code::InvalidArgument, Code::PermissionDenied);
    for (messages, code, text) in [
        (vec![nothing()], bad, no_payload.to_owned()),
        (vec![tpm_init()], bad, expected("ClientInit", "TPMInit")),
        (vec![solved()], bad, expected("ClientInit", "ChallengeSolution")),
        (vec![init(), init()], bad, expected("TPMInit", "ClientInit")),
        (vec![init(), solved()], bad, expected("TPMInit", "ChallengeSolution")),
        (vec![init(), nothing()], bad, no_payload.to_owned()),
        (vec![init(), give_up()], Code::Unknown, gave_up.to_owned()),
        (
            vec![init(), tpm_init(), tpm_init()],
            denied,
            format!("validating TPM: {}", expected("ChallengeSolution", "TPMInit")),
        ),
        (vec![init(), tpm_init(), give_up()], denied, format!("validating TPM: {gave_up}")),
        (vec![init(), tpm_init(), nothing()], denied, format!("validating TPM: {no_payload}")),
        (
            vec![init(), tpm_init(), no_solution],
            denied,
            "validating TPM: the solution is not of a TPM".to_owned(),
        ),
    ] {
        let status = said(&harness, messages).await;
        assert_eq!((status.code(), status.message()), (code, text.as_str()));
    }

    let init = || legacy(LegacyRequest::Init(host.legacy_init("t")));
    let solved = || legacy(legacy_solution(vec![7; 32]));
    let nothing = || RegisterUsingTpmMethodRequest { payload: None };
    let no_request =
        RegisterUsingTpmMethodInitialRequest { join_request: None, ..host.legacy_init("t") };
    let no_init = "expected non-nil Init payload";
    let no_answer = "validating TPM: expected non-nil ChallengeResponse payload";
    for (messages, code, text) in [
        (vec![solved()], bad, no_init),
        (vec![nothing()], bad, no_init),
        (vec![init(), init()], denied, no_answer),
        (vec![init(), nothing()], denied, no_answer),
        (
            vec![legacy(LegacyRequest::Init(no_request))],
            bad,
            "expected JoinRequest in RegisterUsingTPMMethodRequest_Init, got nil",
        ),
    ] {
        let status = legacy_said(&harness, messages).await;
        assert_eq!((status.code(), status.message()), (code, text));
    }
    assert_eq!(harness.instances().await, []);
}

#[tokio::test]
async fn each_field_of_the_first_message_is_checked() {
    let (harness, tpm) = allowed().await;
    let host = TeleportHost::new(&tpm);
    let (bad, denied) = (Code::InvalidArgument, Code::PermissionDenied);
    let proxy = client_init::ProxySuppliedParams::default();
    let init = || TeleportHost::client_init("t");
    for (init, code, text) in [
        (
            ClientInit { token_name: String::new(), ..init() },
            bad,
            "validating ClientInit message: token_name must not be empty",
        ),
        (
            ClientInit { system_role: String::new(), ..init() },
            bad,
            "validating ClientInit message: system_role must not be empty",
        ),
        (
            ClientInit {
                proxy_supplied_parameters: Some(proxy),
                forwarded_by_proxy: true,
                ..init()
            },
            denied,
            "client set ProxySuppliedParameters but did not authenticate as a proxy",
        ),
        (
            ClientInit { forwarded_by_proxy: true, ..init() },
            bad,
            "forwarded_by_proxy is set, but proxy_supplied_parameters is not",
        ),
        (
            ClientInit { join_method: Some("iam".into()), ..init() },
            bad,
            "client requested join method iam, provision token only supports method tpm",
        ),
        (
            ClientInit { system_role: "Node".into(), ..init() },
            bad,
            "can not join the cluster, the token does not allow role Node",
        ),
    ] {
        let status = said(&harness, vec![message(Request::ClientInit(init))]).await;
        assert_eq!((status.code(), status.message()), (code, text));
    }
    let with = |change: fn(&mut proto::teleport::types::RegisterUsingTokenRequest)| {
        let mut init = host.legacy_init("t");
        change(init.join_request.as_mut().unwrap());
        vec![legacy(LegacyRequest::Init(init))]
    };
    for (messages, text) in [
        (with(|request| request.role = "Node".into()), "missing parameter HostID"),
        (with(|request| request.token.clear()), "missing parameter Token"),
        (
            with(|request| {
                request.role = "Node".into();
                request.node_name = "web".into();
                request.host_id = "7".into();
            }),
            "node \"web\" [7] can not join the cluster, the token does not allow \"Node\" role",
        ),
    ] {
        let status = legacy_said(&harness, messages).await;
        assert_eq!((status.code(), status.message()), (bad, text));
    }
    // No method: the token's.
    let (wire, init) = (harness.wire().await, ClientInit { join_method: None, ..init() });
    let mut talk = wire.teleport_join().await.unwrap();
    talk.send(Request::ClientInit(init)).await;
    talk.reply().await.unwrap();
}

#[tokio::test]
async fn evidence_that_is_not_of_a_tpm_is_refused() {
    let (harness, tpm) = allowed().await;
    let changes: [(Change<TpmInit>, &str, &str); 8] = [
        (|init| init.public.push(0), "ak_malformed", "public area: "),
        // Without fixedTPM.
        (|init| init.public[7] ^= 2, "ak_attributes", "has attributes "),
        (|init| init.create_data[0] ^= 1, "ak_creation_malformed", "creation data: "),
        (
            |init| *init.create_data.last_mut().unwrap() ^= 1,
            "ak_creation_malformed",
            "creation data: ",
        ),
        (
            |init| init.create_attestation[0] ^= 1,
            "ak_signature",
            "is not signed by the attestation key",
        ),
        (
            |init| init.create_signature.clear(),
            "ak_signature",
            "is not signed by the attestation key",
        ),
        (|init| init.ek = None, "ek_missing", "at least one of EKCert or EKKey must be provided"),
        (
            |init| init.ek = Some(tpm_init::Ek::EkKey(Vec::new())),
            "ek_empty",
            "either EK cert or EK key must be provided",
        ),
    ];
    for (change, code, text) in changes {
        let mut init = TeleportHost::new(&tpm).tpm_init();
        change(&mut init);
        let first = message(Request::ClientInit(TeleportHost::client_init("t")));
        let status = said(&harness, vec![first, message(Request::TpmInit(init))]).await;
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().starts_with("validating TPM: "), "{status}");
        assert!(status.message().contains(text), "{status}");
        harness.assert_last("bot.join", Some(code));
    }
    let legacy_changes: [(Change<RegisterUsingTpmMethodInitialRequest>, &str); 3] = [
        (|init| init.attestation_params = None, "ak_malformed"),
        (|init| init.ek = None, "ek_missing"),
        (|init| init.ek = Some(LegacyEk::EkCert(Vec::new())), "ek_empty"),
    ];
    for (change, code) in legacy_changes {
        let harness = Harness::new().await;
        harness.allow(&tpm).await;
        let mut init = TeleportHost::new(&tpm).legacy_init("t");
        change(&mut init);
        let status = legacy_said(&harness, vec![legacy(LegacyRequest::Init(init))]).await;
        assert!(status.message().starts_with("validating TPM: "), "{status}");
        harness.assert_last("bot.join", Some(code));
    }
    assert_eq!(harness.instances().await, []);
}

#[tokio::test]
async fn parameters_are_looked_at_after_the_proof() {
    let (harness, tpm) = allowed().await;
    let other = TeleportHost::new(&tpm);
    let said = async |change: AnyChange<'_>| {
        let (host, wire) = (TeleportHost::new(&tpm), harness.wire().await);
        let mut talk = wire.teleport_join().await.unwrap();
        talk.send(Request::ClientInit(TeleportHost::client_init("t"))).await;
        talk.reply().await.unwrap();
        let mut init = host.tpm_init();
        change(&mut init);
        talk.send(Request::TpmInit(init)).await;
        let (blob, secret) = talk.challenge().await?;
        talk.send(solution(host.solve(&blob, &secret))).await;
        talk.reply().await.map(|_| ())
    };
    fn params(init: &mut TpmInit) -> &mut proto::teleport::join_v1::BotParams {
        let Some(client_params::Payload::BotParams(params)) =
            &mut init.client_params.as_mut().unwrap().payload
        else {
            panic!()
        };
        params
    }
    fn keys(init: &mut TpmInit) -> &mut PublicKeys {
        params(init).public_keys.as_mut().unwrap()
    }
    let other_ssh = other.bot_params().public_keys.unwrap().public_ssh_key;
    let cases: [(AnyChange<'_>, &str); 6] = [
        (
            &|init| init.client_params = Some(ClientParams { payload: None }),
            "BotParams is required to join as a Bot",
        ),
        (&|init| params(init).public_keys = None, "public_keys is required"),
        (&|init| keys(init).public_tls_key.clear(), "parsing the TLS public key: "),
        (&|init| keys(init).public_ssh_key.clear(), "parsing the SSH public key: "),
        (
            &|init| keys(init).public_ssh_key.clone_from(&other_ssh),
            "the SSH public key is another key than the TLS public key",
        ),
        (
            &|init| {
                params(init).expires =
                    Some(proto::teleport::Timestamp { seconds: 1_700_000_000, nanos: 0 });
            },
            "the requested expiry is in the past",
        ),
    ];
    for (change, text) in cases {
        let status = said(change).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{status}");
        assert_eq!(harness.audit().pop().unwrap()["ek_proven"], true);
    }
    // Only a missing ClientParams is noticed before the proof.
    let status = said(&|init| init.client_params = None).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "client_params is required")
    );
    assert_eq!(harness.instances().await, []);

    let now = harness.authority.clock.now().unix_timestamp();
    let until = |seconds: i64| {
        move |init: &mut TpmInit| {
            params(init).expires =
                Some(proto::teleport::Timestamp { seconds: now + seconds, nanos: 0 });
        }
    };
    for (asked, least, most) in [(600, 590, 601), (48 * 3600, 12 * 3600 - 10, 12 * 3600 + 10)] {
        said(&until(asked)).await.unwrap();
        let line = harness.assert_last("bot.join", None);
        let ends = line["certificate_expires"].as_str().unwrap();
        let format = &time::format_description::well_known::Rfc3339;
        let ends = time::OffsetDateTime::parse(ends, format).unwrap().unix_timestamp();
        assert!((least..=most).contains(&(ends - now)), "{asked}: {}", ends - now);
    }
}

#[tokio::test]
async fn each_service_can_be_switched_off() {
    let tpm = SoftwareTpm::generate();
    let harness = Harness::serving(TeleportServices { join: false, legacy_join: true }).await;
    harness.allow(&tpm).await;
    let wire = harness.wire().await;
    let status = TeleportHost::new(&tpm).join(&wire, "t").await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    // Upon which a client falls back.
    TeleportHost::new(&tpm).legacy_join(&wire, "t").await.unwrap();

    let harness = Harness::serving(TeleportServices { join: true, legacy_join: false }).await;
    harness.allow(&tpm).await;
    let wire = harness.wire().await;
    let status = TeleportHost::new(&tpm).legacy_join(&wire, "t").await.unwrap_err();
    let text = "legacy join service has been disabled in this environment";
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, text));
    TeleportHost::new(&tpm).join(&wire, "t").await.unwrap();
}
