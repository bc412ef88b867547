//! What an agent of Teleport asks with its certificates.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use authority::issue::{CaKey, Keys, X509Ca};
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePublicKey, LineEnding};
use proto::teleport::clusterconfig_v1::GetAuthPreferenceRequest;
use proto::teleport::clusterconfig_v1::cluster_config_service_client::ClusterConfigServiceClient;
use proto::teleport::legacy::auth_service_client::AuthServiceClient;
use proto::teleport::legacy::{
    Certs, EventType, GetClusterCaCertRequest, GetRoleRequest, PingRequest, UserCertsRequest,
    Watch, WatchKind,
};
use proto::teleport::machineid_v1::bot_instance_service_client::BotInstanceServiceClient;
use proto::teleport::machineid_v1::spiffe_federation_service_client::SpiffeFederationServiceClient;
use proto::teleport::machineid_v1::{
    BotInstanceStatusHeartbeat, ListSpiffeFederationsRequest, SubmitHeartbeatRequest,
};
use proto::teleport::presence_v1::ListRemoteClustersRequest;
use proto::teleport::presence_v1::presence_service_client::PresenceServiceClient;
use proto::teleport::trust_v1::trust_service_client::TrustServiceClient;
use proto::teleport::trust_v1::{GetCertAuthoritiesRequest, GetCertAuthorityRequest};
use proto::teleport::types::SignatureAlgorithmSuite;
use proto::teleport::workloadidentity_v1::workload_identity_issuance_service_client::WorkloadIdentityIssuanceServiceClient;
use proto::teleport::workloadidentity_v1::{
    IssueWorkloadIdentitiesRequest, IssueWorkloadIdentityRequest, JwtsvidParams, LabelSelector,
    X509svidParams,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use testkit::simulated::{Bytes, SoftwareTpm, TIMEOUT, TeleportHost, Wire};
use tonic::{Code, Status};

use super::harness::{BOT, Harness};
use super::protocols::Protocol;

/// Two days; the authority allows less.
const TWO_DAYS: u64 = 2 * 24 * 3600;

/// A host that has joined, and its connection.
struct Host {
    harness: Harness,
    tpm: SoftwareTpm,
    issued: proto::v1::IssuedCredentials,
    wire: Wire,
}

impl Host {
    async fn new() -> Self {
        let harness = Harness::new().await;
        let (tpm, issued) = harness.joined().await;
        let wire = harness.wire_as(Some(tpm.identity(&issued))).await;
        Self { harness, tpm, issued, wire }
    }

    fn auth(&self) -> AuthServiceClient<tonic::transport::Channel> {
        AuthServiceClient::new(self.wire.channel.clone())
    }
}

/// A request of the bot's identity for a new key.
fn request(key: &SigningKey, roles: &[&str]) -> UserCertsRequest {
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let ssh = ssh_key::public::EcdsaPublicKey::from(key.verifying_key());
    let ssh = ssh_key::PublicKey::from(ssh_key::public::KeyData::Ecdsa(ssh));
    UserCertsRequest {
        username: "bot-my-bot".into(),
        expires: None,
        route_to_cluster: "test.example".into(),
        role_requests: roles.iter().map(ToString::to_string).collect(),
        use_role_requests: true,
        ssh_public_key: ssh.to_openssh().unwrap().into_bytes(),
        tls_public_key: public.into_bytes(),
        reissuable_role_impersonation: false,
    }
}

/// A requested expiry, in seconds since 1970.
fn end<T: From<SystemTime>>(seconds: u64) -> Option<T> {
    Some((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into())
}

/// What the certificates are worth as an identity.
fn as_identity(
    key: &SigningKey,
    certs: &Certs,
) -> std::sync::Arc<dyn rustls::client::ResolvesClientCert> {
    let leaf = CertificateDer::from_pem_slice(&certs.tls).unwrap();
    let issued = proto::v1::IssuedCredentials {
        certificates: vec![leaf.to_vec()],
        ..proto::v1::IssuedCredentials::default()
    };
    testkit::simulated::identity(key, &issued)
}

#[tokio::test]
async fn ping_and_the_ca_need_no_certificate() {
    let harness = Harness::new().await;
    let wire = harness.wire().await;
    let mut auth = AuthServiceClient::new(wire.channel.clone());
    let pong = auth.ping(PingRequest {}).await.unwrap().into_inner();
    assert_eq!(pong.cluster_name, "test.example");
    assert_eq!(pong.signature_algorithm_suite(), SignatureAlgorithmSuite::BalancedV1);
    assert!(pong.remote_addr.starts_with("127.0.0.1:"), "{pong:?}");
    assert_eq!(pong.proxy_public_addr, "");
    let ca = auth.get_cluster_ca_cert(GetClusterCaCertRequest {}).await.unwrap().into_inner();
    assert_eq!(CertificateDer::from_pem_slice(&ca.tls_ca).unwrap(), harness.ca());
    // Each call costs the connection, as all calls do.
    auth.ping(PingRequest {}).await.unwrap_err();
}

/// The server name that it would ask for with its certificates is refused by TLS: see the tests of the port.
#[tokio::test]
async fn client_learns_before_its_join_that_the_clusters_name_is_too_long_for_it() {
    for (name, is_served) in [("a".repeat(31), true), ("a".repeat(32), false)] {
        let (harness, tpm) = (Harness::with_cluster(&name).await, SoftwareTpm::generate());
        harness.allow(&tpm).await;
        let mut auth = AuthServiceClient::new(harness.wire().await.channel.clone());
        let ping = auth.ping(PingRequest {}).await.map(|_| ());
        let mut ends = vec![ping];
        for protocol in [Protocol::Teleport, Protocol::Legacy] {
            ends.push(protocol.join(&harness.wire().await, &tpm, "t").await);
        }
        for end in ends {
            match end {
                Ok(()) => assert!(is_served),
                Err(status) => {
                    assert!(!is_served, "{status}");
                    assert_eq!(status.code(), Code::InvalidArgument);
                    assert!(status.message().contains("longer than 31 bytes"), "{status}");
                }
            }
        }
        // Our own agent asks for another server name.
        Protocol::Endorse.join(&harness.wire().await, &tpm, "t").await.unwrap();
    }
}

/// A client with pins requires one for each CA that it gets before it has a certificate.
#[tokio::test]
async fn stranger_gets_the_active_ca_and_a_bot_all_that_are_trusted() {
    let Host { harness, wire, .. } = Host::new().await;
    let issuer = &harness.authority.issuer;
    let now = harness.authority.clock.now();
    let next = X509Ca::create(issuer.cluster(), CaKey::generate().unwrap(), now).unwrap();
    let keys = Keys::clone(&issuer.keyring().keys());
    issuer.keyring().replace(Keys { x509: keys.x509.with_next(next, now), ..keys }).unwrap();
    for (wire, count) in [(harness.wire().await, 1), (wire, 2)] {
        let mut auth = AuthServiceClient::new(wire.channel.clone());
        let ca = auth.get_cluster_ca_cert(GetClusterCaCertRequest {}).await.unwrap().into_inner();
        let all: Vec<_> = CertificateDer::pem_slice_iter(&ca.tls_ca).map(Result::unwrap).collect();
        assert_eq!((all.len(), &all[0]), (count, &harness.ca()));
    }
}

#[tokio::test]
async fn output_of_an_agent_is_issued_by_the_calls_that_it_makes() {
    let host = Host::new().await;
    let (harness, mut auth) = (&host.harness, host.auth());
    let role = auth.get_role(GetRoleRequest { name: "bot-my-bot".into() }).await;
    let role = role.unwrap().into_inner();
    assert_eq!(role.metadata.unwrap().name, "bot-my-bot");
    let roles = role.spec.unwrap().allow.unwrap().impersonate.unwrap().roles;
    assert_eq!(roles, ["access", "dev"]);
    let mut config = ClusterConfigServiceClient::new(host.wire.channel.clone());
    let preference = config.get_auth_preference(GetAuthPreferenceRequest {}).await;
    let suite = preference.unwrap().into_inner().spec.unwrap().signature_algorithm_suite();
    assert_eq!(suite, SignatureAlgorithmSuite::BalancedV1);

    let key = SigningKey::generate();
    let certs = auth.generate_user_certs(request(&key, &["dev"])).await.unwrap().into_inner();
    harness.assert_last_brief("bot.issue").await;
    let instance = harness.instance().await;
    assert!(instance.status.services.contains_key("tbot"));
    assert_eq!(instance.status.generation, 1, "it is not a renewal");
    let ca = CertificateDer::from_pem_slice(&certs.tls_ca_certs[0]).unwrap();
    assert_eq!(ca, harness.ca());
    let ssh =
        ssh_key::Certificate::from_openssh(std::str::from_utf8(&certs.ssh).unwrap().trim_end());
    let ssh = ssh.unwrap();
    assert_eq!(ssh.extensions()["teleport-roles"], r#"{"roles":["dev"]}"#);
    assert!(ssh.extensions().contains_key("disallow-reissue"));
    assert_eq!(ssh.key_id(), "bot-my-bot");

    // The agent then uses the new certificates.
    let wire = harness.wire_as(Some(as_identity(&key, &certs))).await;
    let mut auth = AuthServiceClient::new(wire.channel.clone());
    auth.ping(PingRequest {}).await.unwrap();
    let mut trust = TrustServiceClient::new(wire.channel.clone());
    for (kind, count) in [("host", 1), ("user", 1), ("db", 0)] {
        let wish = GetCertAuthoritiesRequest { r#type: kind.into(), include_key: false };
        let cas = trust.get_cert_authorities(wish).await.unwrap().into_inner().cert_authorities_v2;
        assert_eq!(cas.len(), count, "{kind}");
        let Some(ca) = cas.first() else { continue };
        let spec = ca.spec.as_ref().unwrap();
        assert_eq!((spec.r#type.as_str(), spec.cluster_name.as_str()), (kind, "test.example"));
        let active = spec.active_keys.as_ref().unwrap();
        assert_eq!(CertificateDer::from_pem_slice(&active.tls[0].cert).unwrap(), harness.ca());
        let line = std::str::from_utf8(&active.ssh[0].public_key).unwrap();
        let keys = harness.authority.issuer.keyring().keys();
        let ssh = if kind == "host" { keys.ssh_host.active() } else { keys.ssh.active() };
        assert_eq!(line, ssh.public_key());
    }
    let wish = |kind: &str, domain: &str| GetCertAuthorityRequest {
        r#type: kind.into(),
        domain: domain.into(),
    };
    let ca = trust.get_cert_authority(wish("host", "test.example")).await.unwrap().into_inner();
    assert_eq!(ca.kind, "cert_authority");
    for (kind, domain) in [("app_client", "test.example"), ("host", "other.example")] {
        let status = trust.get_cert_authority(wish(kind, domain)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{kind} {domain}");
    }
    let wish = GetCertAuthoritiesRequest { r#type: "host".into(), include_key: true };
    let status = trust.get_cert_authorities(wish).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let mut presence = PresenceServiceClient::new(wire.channel.clone());
    let leaves = presence.list_remote_clusters(ListRemoteClustersRequest {}).await.unwrap();
    assert_eq!(leaves.into_inner().remote_clusters, []);
    // They are for use, and not for more of them.
    let other = request(&SigningKey::generate(), &["dev"]);
    let status = auth.generate_user_certs(other).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    harness.assert_last("bot.issue", Some("certificate_of_service"));
}

#[tokio::test]
async fn certificates_beyond_what_the_bot_has_are_refused() {
    let host = Host::new().await;
    let mut auth = host.auth();
    let key = SigningKey::generate();
    let sound = request(&key, &["dev"]);
    let other = request(&SigningKey::generate(), &["dev"]);
    let cases = [
        (
            UserCertsRequest { role_requests: vec!["dev".into(), "admin".into()], ..sound.clone() },
            Code::PermissionDenied,
            Some("impersonation_refused"),
        ),
        (
            UserCertsRequest { username: "bot-other".into(), ..sound.clone() },
            Code::PermissionDenied,
            Some("impersonation_refused"),
        ),
        (
            UserCertsRequest { route_to_cluster: "leaf.example".into(), ..sound.clone() },
            Code::InvalidArgument,
            Some("malformed"),
        ),
        (
            UserCertsRequest { reissuable_role_impersonation: true, ..sound.clone() },
            Code::InvalidArgument,
            Some("malformed"),
        ),
        (
            UserCertsRequest { ssh_public_key: other.ssh_public_key.clone(), ..sound.clone() },
            Code::InvalidArgument,
            Some("key_malformed"),
        ),
        (
            UserCertsRequest { tls_public_key: b"-----BEGIN".to_vec(), ..sound.clone() },
            Code::InvalidArgument,
            Some("key_malformed"),
        ),
        (
            UserCertsRequest { expires: end(1), ..sound.clone() },
            Code::InvalidArgument,
            Some("malformed"),
        ),
        (
            UserCertsRequest { use_role_requests: false, ..sound.clone() },
            Code::InvalidArgument,
            None,
        ),
    ];
    for (wish, code, refusal) in cases {
        let status = auth.generate_user_certs(wish.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{wish:?}: {status}");
        if refusal.is_some() {
            host.harness.assert_last("bot.issue", refusal);
        }
    }
    assert!(host.harness.instance().await.status.services.is_empty());
    auth.generate_user_certs(sound).await.unwrap();
}

#[tokio::test]
async fn certificates_end_with_the_identity_that_asked_for_them() {
    let host = Host::new().await;
    let now = host.harness.authority.clock.now().unix_timestamp();
    let now = u64::try_from(now).unwrap();
    for (expires, expected) in [
        (None, host.issued.not_after),
        (end(now + TWO_DAYS), host.issued.not_after),
        (end(now + 600), (now + 600).cast_signed()),
    ] {
        let wish = UserCertsRequest { expires, ..request(&SigningKey::generate(), &["dev"]) };
        host.auth().generate_user_certs(wish).await.unwrap();
        let recorded = host.harness.instance().await.status.services["tbot"].expires;
        let difference = recorded.0.unix_timestamp() - expected;
        assert!((-2..=2).contains(&difference), "{difference}");
    }
}

/// The key of such an instance is in a file. Only a join shows the TPM again, so that it cannot renew, and nothing that it
/// gets outlives the certificate of its join.
#[tokio::test]
async fn host_that_joined_by_a_service_of_teleport_gets_certificates_until_its_own_end() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let joining = TeleportHost::new(&tpm);
    let joined = joining.join(&harness.wire().await, "t").await.unwrap();
    let issued = proto::v1::IssuedCredentials {
        certificates: vec![joined.tls],
        ..proto::v1::IssuedCredentials::default()
    };
    let own = testkit::simulated::identity(&joining.key, &issued);
    let end_of_identity = harness.instance().await.metadata.expires.unwrap();
    let wire = harness.wire_as(Some(own)).await;
    for (name, end) in ends(&wire).await {
        assert_eq!(end, Code::Ok, "{name}");
    }
    let wish = UserCertsRequest {
        expires: end(end_of_identity.0.unix_timestamp().unsigned_abs() + TWO_DAYS),
        ..request(&SigningKey::generate(), &["dev"])
    };
    AuthServiceClient::new(wire.channel.clone()).generate_user_certs(wish).await.unwrap();
    let instance = harness.instance().await;
    assert!(instance.status.services["tbot"].expires <= end_of_identity);
    assert_eq!(instance.metadata.expires, Some(end_of_identity));
}

#[tokio::test]
async fn bot_without_roles_gets_certificates_without_roles() {
    let host = Host::new().await;
    host.harness.create(&BOT.replace("[access, dev]", "[]")).await;
    let mut auth = host.auth();
    // An agent asks for the roles that GetRole named, or for the bot's own.
    for roles in [&[][..], &["bot-my-bot"]] {
        auth.generate_user_certs(request(&SigningKey::generate(), roles)).await.unwrap();
    }
    let status = auth.generate_user_certs(request(&SigningKey::generate(), &["dev"])).await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
}

fn watch(kind: &str) -> Watch {
    Watch { kinds: vec![WatchKind { kind: kind.into() }] }
}

/// As an agent of Teleport reads it: certificates and keys as PEM.
#[tokio::test]
async fn trust_bundle_of_workloads_is_a_ca_of_a_type_of_its_own() {
    let host = Host::new().await;
    let mut trust = TrustServiceClient::new(host.wire.channel.clone());
    let wish = GetCertAuthorityRequest { r#type: "spiffe".into(), domain: "test.example".into() };
    let ca = trust.get_cert_authority(wish).await.unwrap().into_inner();
    let spec = ca.spec.unwrap();
    assert_eq!((spec.r#type.as_str(), spec.cluster_name.as_str()), ("spiffe", "test.example"));
    let active = spec.active_keys.unwrap();
    let certificate = CertificateDer::from_pem_slice(&active.tls[0].cert).unwrap();
    assert_eq!(*certificate, *host.harness.ca());
    assert_eq!((active.tls.len(), active.ssh.len(), active.jwt.len()), (1, 0, 1));
    let keys = host.harness.authority.issuer.keyring().keys();
    let (_, key) = keys.jwt.all().next().unwrap();
    let pem = std::str::from_utf8(&active.jwt[0].public_key).unwrap();
    let expected = der::pem::encode_string(
        "PUBLIC KEY",
        der::pem::LineEnding::LF,
        &key.ca.public().to_spki().unwrap(),
    );
    assert_eq!(pem, expected.unwrap());
    let both = ["cert_authority", "spiffe_federation"];
    let kinds = both.map(|kind| WatchKind { kind: kind.into() }).to_vec();
    let mut events = host.auth().watch_events(Watch { kinds }).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().r#type(), EventType::Init);
}

#[tokio::test]
async fn watch_begins_with_init_stays_open_and_ends_when_the_authority_stops() {
    let host = Host::new().await;
    let mut auth = host.auth();
    let mut events = auth.watch_events(watch("cert_authority")).await.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert_eq!(first.r#type(), EventType::Init);
    // Another call on the connection is answered meanwhile, and nothing comes.
    auth.ping(PingRequest {}).await.unwrap();
    let mut next = Box::pin(events.message());
    assert!(poll(&mut next).is_pending());
    host.harness.stop();
    assert!(tokio::time::timeout(TIMEOUT, next).await.expect("an end").unwrap().is_none());
    drop((auth, host.wire, events));
    tokio::time::timeout(TIMEOUT, host.harness.served).await.unwrap().unwrap().unwrap();
}

fn poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context)
}

#[tokio::test]
async fn heartbeat_is_recorded_with_the_instance() {
    let host = Host::new().await;
    let mut bots = BotInstanceServiceClient::new(host.wire.channel.clone());
    let heartbeat = BotInstanceStatusHeartbeat {
        version: "18.0.0".into(),
        hostname: "x".repeat(1000),
        join_method: "tpm".into(),
        architecture: "amd64".into(),
        os: "linux".into(),
    };
    let submit = |heartbeat: Option<&BotInstanceStatusHeartbeat>| SubmitHeartbeatRequest {
        heartbeat: heartbeat.cloned(),
    };
    bots.submit_heartbeat(submit(Some(&heartbeat))).await.unwrap();
    let status = host.harness.instance().await.status;
    let recorded = status.heartbeat.unwrap();
    assert_eq!((recorded.agent.version.as_str(), recorded.agent.os.as_str()), ("18.0.0", "linux"));
    assert_eq!(recorded.agent.hostname.len(), 255, "it is bounded");
    assert_eq!(status.last_seen, recorded.recorded);
    assert_eq!(status.generation, 1);

    // The same again costs no write; another one, or a later one, does.
    host.harness.ahead.store(30, Ordering::SeqCst);
    bots.submit_heartbeat(submit(Some(&heartbeat))).await.unwrap();
    assert_eq!(host.harness.instance().await.status.last_seen, recorded.recorded);
    let other = BotInstanceStatusHeartbeat { hostname: "web-7".into(), ..heartbeat };
    bots.submit_heartbeat(submit(Some(&other))).await.unwrap();
    let second = host.harness.instance().await;
    assert_ne!(second.status.last_seen, recorded.recorded);
    host.harness.ahead.store(100, Ordering::SeqCst);
    bots.submit_heartbeat(submit(Some(&other))).await.unwrap();
    assert_ne!(host.harness.instance().await.status.last_seen, second.status.last_seen);
    let status = bots.submit_heartbeat(submit(None)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

/// How each call ends, in this order.
async fn ends(wire: &Wire) -> Vec<(&'static str, Code)> {
    let channel = || wire.channel.clone();
    let mut auth = AuthServiceClient::new(channel());
    let mut trust = TrustServiceClient::new(channel());
    fn code<T>(result: Result<T, Status>) -> Code {
        result.map_or_else(|status| status.code(), |_| Code::Ok)
    }
    let name = "bot-my-bot".to_owned();
    let key = SigningKey::generate();
    let heartbeat = Some(BotInstanceStatusHeartbeat::default());
    let host = |r#type: &str| GetCertAuthorityRequest {
        r#type: r#type.into(),
        domain: "test.example".into(),
    };
    let hosts = GetCertAuthoritiesRequest { r#type: "host".into(), include_key: false };
    vec![
        ("ping", code(auth.ping(PingRequest {}).await)),
        ("ca", code(auth.get_cluster_ca_cert(GetClusterCaCertRequest {}).await)),
        ("role", code(auth.get_role(GetRoleRequest { name }).await)),
        ("watch", code(auth.watch_events(watch("cert_authority")).await)),
        ("certs", code(auth.generate_user_certs(request(&key, &["dev"])).await)),
        (
            "preference",
            code(
                ClusterConfigServiceClient::new(channel())
                    .get_auth_preference(GetAuthPreferenceRequest {})
                    .await,
            ),
        ),
        (
            "clusters",
            code(
                PresenceServiceClient::new(channel())
                    .list_remote_clusters(ListRemoteClustersRequest {})
                    .await,
            ),
        ),
        ("authority", code(trust.get_cert_authority(host("host")).await)),
        ("spiffe", code(trust.get_cert_authority(host("spiffe")).await)),
        (
            "federations",
            code(
                SpiffeFederationServiceClient::new(channel())
                    .list_spiffe_federations(ListSpiffeFederationsRequest::default())
                    .await,
            ),
        ),
        ("authorities", code(trust.get_cert_authorities(hosts).await)),
        (
            "heartbeat",
            code(
                BotInstanceServiceClient::new(channel())
                    .submit_heartbeat(SubmitHeartbeatRequest { heartbeat })
                    .await,
            ),
        ),
    ]
}

#[tokio::test]
async fn every_call_is_refused_to_a_locked_bot_and_after_the_certificate_ended() {
    let host = Host::new().await;
    let all = |ends: Vec<(&str, Code)>, code: Code| {
        ends.into_iter().for_each(|(name, end)| assert_eq!(end, code, "{name}"));
    };
    all(ends(&host.wire).await, Code::Ok);
    let lock =
        "kind: lock\nversion: v2\nmetadata:\n  name: l\nspec:\n  target:\n    user: bot-my-bot\n";
    host.harness.create(lock).await;
    all(ends(&host.wire).await, Code::PermissionDenied);

    let host = Host::new().await;
    host.harness.ahead.store(3601, Ordering::SeqCst);
    all(ends(&host.wire).await, Code::PermissionDenied);
}

#[tokio::test]
async fn stranger_may_ping_and_ask_for_the_ca_and_nothing_else() {
    let harness = Harness::new().await;
    // One connection for two calls.
    for skipped in 0..5 {
        let wire = harness.wire().await;
        let mut auth = AuthServiceClient::new(wire.channel.clone());
        let status = match skipped {
            0 => auth.get_role(GetRoleRequest { name: "bot-my-bot".into() }).await.map(|_| ()),
            1 => auth.watch_events(watch("cert_authority")).await.map(|_| ()),
            2 => auth
                .generate_user_certs(request(&SigningKey::generate(), &["dev"]))
                .await
                .map(|_| ()),
            3 => PresenceServiceClient::new(wire.channel.clone())
                .list_remote_clusters(ListRemoteClustersRequest {})
                .await
                .map(|_| ()),
            _ => BotInstanceServiceClient::new(wire.channel.clone())
                .submit_heartbeat(SubmitHeartbeatRequest {
                    heartbeat: Some(BotInstanceStatusHeartbeat::default()),
                })
                .await
                .map(|_| ()),
        };
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{skipped}");
        assert!(status.message().contains("no client certificate"), "{status}");
    }
}

#[tokio::test]
async fn role_of_another_bot_and_watches_of_other_kinds_are_refused() {
    let host = Host::new().await;
    let mut auth = host.auth();
    let status = auth.get_role(GetRoleRequest { name: "admin".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    for (kind, said) in [("node", "\"node\""), ("no\u{7f}de", "\"no\\u{7f}de\"")] {
        let status = auth.watch_events(watch(kind)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let expected = format!("watching {said} is not supported");
        assert!(status.message().starts_with(&expected), "{status}");
    }
}

#[tokio::test]
async fn other_methods_of_teleport_are_said_not_to_be_supported() {
    let host = Host::new().await;
    for path in [
        "/proto.AuthService/GetUser",
        "/proto.JoinService/RegisterUsingToken",
        "/teleport.join.v1.JoinService/X",
        "/proto.OtherService/X",
        "/teleport.workloadidentity.v1.WorkloadIdentityRevocationService/StreamSignedCRL",
    ] {
        let mut client = tonic::client::Grpc::new(host.wire.channel.clone());
        client.ready().await.unwrap();
        let (path, request) = (path.parse().unwrap(), tonic::Request::new(Vec::new()));
        let status = client.unary(request, path, Bytes).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains(" is not supported by this authority"), "{status}");
    }
}

/// As Teleport's servers do: of what is presented, only the bot's own certificate would be verified.
#[tokio::test]
async fn caller_with_several_certificates_is_refused() {
    let Host { harness, tpm, mut issued, .. } = Host::new().await;
    issued.certificates.push(harness.ca().to_vec());
    let wire = harness.wire_as(Some(tpm.identity(&issued))).await;
    for (name, end) in ends(&wire).await {
        assert_eq!(end, Code::PermissionDenied, "{name}");
    }
}

/// An agent of Teleport asks with the certificate that it was issued for its roles.
#[tokio::test]
async fn workload_identities_are_issued_to_the_bot_and_to_its_impersonated_certificate() {
    let host = Host::new().await;
    host.harness
        .create(
            "kind: workload_identity\nversion: v1\nmetadata: {name: web, labels: {env: prod}}\nspec: {bots: \
             {names: [my-bot]}, spiffe: {id: '/web/{{ user.bot_name }}', hint: public}}\n",
        )
        .await;
    let key = SigningKey::generate();
    let certs = host.auth().generate_user_certs(request(&key, &["access"])).await.unwrap();
    let certs = certs.into_inner();
    let impersonated = host.harness.wire_as(Some(as_identity(&key, &certs))).await;
    let public_key = SigningKey::generate().verifying_key().to_public_key_der().unwrap().into_vec();
    let params = || Some(X509svidParams { public_key: public_key.clone() });
    for wire in [&host.wire, &impersonated] {
        let mut client = WorkloadIdentityIssuanceServiceClient::new(wire.channel.clone());
        let named = IssueWorkloadIdentityRequest {
            name: "web".into(),
            x509_svid_params: params(),
            jwt_svid_params: None,
            requested_ttl: Some(proto::teleport::Duration { seconds: TWO_DAYS as i64, nanos: 0 }),
        };
        let issued = client.issue_workload_identity(named.clone()).await.unwrap().into_inner();
        let credential = issued.credential.unwrap();
        assert_eq!(credential.spiffe_id, "spiffe://test.example/web/my-bot");
        assert_eq!(
            (credential.hint.as_str(), credential.workload_identity_name.as_str()),
            ("public", "web")
        );
        let end = credential.expires_at.unwrap().seconds;
        assert!(end <= host.issued.not_after, "it ends with the certificate of the caller");
        let svid = credential.x509_svid.unwrap();
        assert!(svid.chain.is_empty());
        let line = host.harness.assert_last("workload.x509_svid", None);
        assert_eq!(line["svids"][0]["certificate_serial"], svid.serial_number.as_str());
        let by_labels = IssueWorkloadIdentitiesRequest {
            label_selectors: vec![LabelSelector { key: "env".into(), values: vec!["prod".into()] }],
            x509_svid_params: params(),
            jwt_svid_params: None,
            requested_ttl: None,
        };
        let issued =
            client.issue_workload_identities(by_labels.clone()).await.unwrap().into_inner();
        assert_eq!(issued.credentials.len(), 1);

        let unknown = IssueWorkloadIdentityRequest { name: "none".into(), ..named.clone() };
        let status = client.issue_workload_identity(unknown).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let no_labels = IssueWorkloadIdentitiesRequest { label_selectors: vec![], ..by_labels };
        let status = client.issue_workload_identities(no_labels).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let nothing = IssueWorkloadIdentityRequest { x509_svid_params: None, ..named.clone() };
        let status = client.issue_workload_identity(nothing.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        let jwt = |audiences: &[&str]| {
            let audiences = audiences.iter().map(ToString::to_string).collect();
            Some(JwtsvidParams { audiences })
        };
        let both = IssueWorkloadIdentityRequest { jwt_svid_params: jwt(&["a"]), ..named };
        let status = client.issue_workload_identity(both).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let no_audience =
            IssueWorkloadIdentityRequest { jwt_svid_params: jwt(&[]), ..nothing.clone() };
        let status = client.issue_workload_identity(no_audience).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let token = IssueWorkloadIdentityRequest { jwt_svid_params: jwt(&["a", "b"]), ..nothing };
        let issued = client.issue_workload_identity(token).await.unwrap().into_inner();
        let credential = issued.credential.unwrap();
        assert_eq!(credential.spiffe_id, "spiffe://test.example/web/my-bot");
        assert!(credential.expires_at.unwrap().seconds <= host.issued.not_after);
        let svid = credential.jwt_svid.unwrap();
        assert_eq!(svid.jwt.split('.').count(), 3);
        let line = host.harness.assert_last("workload.jwt_svid", None);
        assert_eq!(line["svids"][0]["jti"], svid.jti.as_str());
    }
    let stranger = host.harness.wire().await;
    let mut client = WorkloadIdentityIssuanceServiceClient::new(stranger.channel.clone());
    client.issue_workload_identity(IssueWorkloadIdentityRequest::default()).await.unwrap_err();
}
