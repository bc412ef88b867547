//! Who a caller is, by its certificate.

use std::sync::atomic::Ordering;

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use prost::Message;
use proto::v1::admin_service_client::AdminServiceClient;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::join_request::Step;
use proto::v1::join_service_client::JoinServiceClient;
use proto::v1::prove_key_request::Step as ProveKeyStep;
use proto::v1::workload_service_client::WorkloadServiceClient;
use proto::v1::{
    AddAuthorityRequest, BackupRequest, ChangeCaRequest, CreateRequest, ExplainJoinRequest,
    ExportRequest, GetRecoverySlotsRequest, GetRequest, GetTrustBundleRequest,
    IssueJwtSvidsRequest, IssueSshHostRequest, IssueX509SvidsRequest, JoinRequest,
    ListAuthoritiesRequest, ListCasRequest, ProveKeyRequest, ReadTableRequest,
    RemoveAuthorityRequest, RemoveRequest, RenewRequest, ReplaceRequest, SetRecoveryKeyRequest,
    StatusRequest, WhoAmIRequest,
};
use testkit::simulated::{SoftwareTpm, Wire, identity};
use tonic::{Code, Status};

use super::harness::Harness;
use super::issue::request as issue_request;

#[tokio::test]
async fn whoami_returns_the_content_of_the_certificate() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
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
async fn caller_without_certificate_is_unauthenticated() {
    let harness = Harness::new().await;
    let wire = harness.wire().await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let status = client.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("unauthenticated"));
    // Agents find out by this call what protocol the server speaks, so it is no refusal for the operator.
    assert!(harness.audit().is_empty(), "{:#?}", harness.audit());
}

#[tokio::test]
async fn a_certificate_of_another_cluster_does_not_pass_the_handshake() {
    let (harness, other, tpm) =
        (Harness::new().await, Harness::new().await, SoftwareTpm::generate());
    other.allow(&tpm).await;
    let result = other.join(&tpm, "t").await.unwrap();
    let wire = harness.wire_as(Some(tpm.identity(&result))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    let status = client.who_am_i(WhoAmIRequest {}).await.unwrap_err();
    assert_ne!(status.code(), Code::Ok);
    assert_ne!(status.code(), Code::Unauthenticated);
}

const CALLS: [&str; COUNT] = [
    "Join",
    "WhoAmI",
    "Renew",
    "Issue",
    "ProveKey",
    "IssueX509Svids",
    "IssueJwtSvids",
    "IssueSshHost",
    "GetTrustBundle",
    "Status",
    "Create",
    "Get",
    "Replace",
    "Remove",
    "Export",
    "ListAuthorities",
    "AddAuthority",
    "RemoveAuthority",
    "SetRecoveryKey",
    "GetRecoverySlots",
    "ReadTable",
    "ListCas",
    "ChangeCa",
    "Backup",
    "ExplainJoin",
];
const COUNT: usize = 25;

/// A caller without certificate makes two calls on a connection.
const WIRES: usize = 13;

/// How each call ends for who is at the other end of a connection, in the order of [`CALLS`].
/// The connections are all of the same caller: one without certificate makes two calls.
async fn calls(wires: [&Wire; WIRES], tpm: &SoftwareTpm) -> [Code; COUNT] {
    let code = |end: Result<(), Status>| end.map_or_else(|status| status.code(), |()| Code::Ok);
    let [mut identity, mut issuing] =
        [wires[0], wires[1]].map(|wire| IdentityServiceClient::new(wire.channel.clone()));
    let [mut admin, mut other, mut third] =
        [wires[2], wires[3], wires[4]].map(|wire| AdminServiceClient::new(wire.channel.clone()));
    let [mut listing, mut adding, mut recovering] =
        [wires[8], wires[9], wires[10]].map(|wire| AdminServiceClient::new(wire.channel.clone()));
    let mut reading = AdminServiceClient::new(wires[6].channel.clone());
    let [mut rotating, mut explaining] =
        [wires[11], wires[12]].map(|wire| AdminServiceClient::new(wire.channel.clone()));
    let [mut workload, mut another, mut last] =
        [wires[5], wires[6], wires[7]].map(|wire| WorkloadServiceClient::new(wire.channel.clone()));
    let wish = issue_request(&SigningKey::generate(), &wires[1].exporter);
    let bot = CreateRequest { yaml: OTHER_BOT.into(), if_exists: 1 };
    let (kind, name) = ("bot".to_owned(), "other".to_owned());
    let get = GetRequest { kind: kind.clone(), name: name.clone(), ..GetRequest::default() };
    let was = serde_json::json!({
        "kind": "bot", "version": "v1", "metadata": {"name": "other"}, "spec": {"roles": []}
    });
    let replace = ReplaceRequest { yaml: OTHER_BOT.into(), was: was.to_string() };
    [
        challenged(wires[0], tpm).await,
        code(identity.who_am_i(WhoAmIRequest {}).await.map(|_| ())),
        code(issuing.renew(RenewRequest::default()).await.map(|_| ())),
        code(issuing.issue(wish).await.map(|_| ())),
        proven(wires[7]).await,
        code(workload.issue_x509_svids(IssueX509SvidsRequest::default()).await.map(|_| ())),
        code(workload.issue_jwt_svids(IssueJwtSvidsRequest::default()).await.map(|_| ())),
        code(another.issue_ssh_host(IssueSshHostRequest::default()).await.map(|_| ())),
        code(last.get_trust_bundle(GetTrustBundleRequest {}).await.map(|_| ())),
        code(admin.status(StatusRequest {}).await.map(|_| ())),
        code(admin.create(bot).await.map(|_| ())),
        code(other.get(get).await.map(|_| ())),
        code(other.replace(replace).await.map(|_| ())),
        code(third.remove(RemoveRequest { kind, name }).await.map(|_| ())),
        code(third.export(ExportRequest { document: 1 }).await.map(|_| ())),
        code(listing.list_authorities(ListAuthoritiesRequest {}).await.map(|_| ())),
        code(adding.add_authority(AddAuthorityRequest::default()).await.map(|_| ())),
        code(adding.remove_authority(RemoveAuthorityRequest::default()).await.map(|_| ())),
        code(recovering.set_recovery_key(SetRecoveryKeyRequest::default()).await.map(|_| ())),
        code(recovering.get_recovery_slots(GetRecoverySlotsRequest {}).await.map(|_| ())),
        code(
            reading
                .read_table(ReadTableRequest { table: "log".into(), ..ReadTableRequest::default() })
                .await
                .map(|_| ()),
        ),
        code(rotating.list_cas(ListCasRequest {}).await.map(|_| ())),
        code(rotating.change_ca(ChangeCaRequest::default()).await.map(|_| ())),
        code(listing.backup(BackupRequest {}).await.map(|_| ())),
        code(explaining.explain_join(ExplainJoinRequest::default()).await.map(|_| ())),
    ]
}

const OTHER_BOT: &str = "kind: bot\nversion: v1\nmetadata:\n  name: other\nspec:\n  roles: []\n";

/// A join as far as its challenge: what comes then depends on the TPM, not on the caller.
async fn challenged(wire: &Wire, tpm: &SoftwareTpm) -> Code {
    let step = Some(Step::Init(tpm.init("t").encode_to_vec()));
    let requests = tokio_stream::iter([JoinRequest { step }]);
    let replies = JoinServiceClient::new(wire.channel.clone()).join(requests).await;
    match replies {
        Err(status) => status.code(),
        Ok(replies) => match replies.into_inner().message().await {
            Ok(challenge) => challenge.map_or(Code::NotFound, |_| Code::Ok),
            Err(status) => status.code(),
        },
    }
}

/// A proof of a key without a claim.
async fn proven(wire: &Wire) -> Code {
    let step = Some(ProveKeyStep::Init(Vec::new()));
    let requests = tokio_stream::iter([ProveKeyRequest { step }]);
    let replies = IdentityServiceClient::new(wire.channel.clone()).prove_key(requests).await;
    match replies {
        Err(status) => status.code(),
        Ok(replies) => match replies.into_inner().message().await {
            Ok(challenge) => challenge.map_or(Code::NotFound, |_| Code::Ok),
            Err(status) => status.code(),
        },
    }
}

/// Every call, by every kind of caller. The table is the whole policy: who adds a call adds a column.
#[tokio::test]
async fn calls_are_authorized_by_certificate() {
    let (harness, other, tpm) =
        (Harness::new().await, Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    other.allow(&tpm).await;
    let held = harness.join(&tpm, "t").await.unwrap();
    let foreign = other.join(&tpm, "t").await.unwrap();
    let service_key = SigningKey::generate();
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let wish = issue_request(&service_key, &wire.exporter);
    let service = IdentityServiceClient::new(wire.channel.clone()).issue(wish).await.unwrap();
    let service = identity(&service_key, &service.into_inner());

    let (ok, unauthenticated, denied) = (Code::Ok, Code::Unauthenticated, Code::PermissionDenied);
    // Not on the network: no caller can see that it exists.
    let absent = Code::Unimplemented;
    // The handshake has failed, and whatever is called with it.
    let cut = Code::Unknown;
    // The caller may make the call; the request is empty.
    let invalid = Code::InvalidArgument;
    let hosts = |of_hosts: [Code; 8]| {
        let mut codes = [absent; COUNT];
        codes[0] = ok;
        codes[1..9].copy_from_slice(&of_hosts);
        codes
    };
    let unknown = hosts([unauthenticated; 8]);
    // The proof is of another TPM than the caller's, and the SSH certificate is for no name.
    let own = hosts([ok, ok, ok, denied, invalid, invalid, invalid, ok]);
    let mut of_service = hosts([denied; 8]);
    of_service[1] = ok;
    for (caller, ahead, identity, expected) in [
        ("no certificate", 0, None, unknown),
        ("another CA's", 0, Some(tpm.identity(&foreign)), [cut; COUNT]),
        ("the bot's", 0, Some(tpm.identity(&held)), own),
        ("a service's", 0, Some(service), of_service),
        // Shown while it was valid; one that has ended before does not pass the handshake.
        ("an expired one", 2 * 3600, Some(tpm.identity(&held)), unknown),
    ] {
        let mut wires = Vec::new();
        for _ in 0..WIRES {
            wires.push(harness.wire_as(identity.clone()).await);
        }
        let wires = std::array::from_fn(|index| &wires[index]);
        harness.ahead.store(ahead, Ordering::SeqCst);
        assert_calls(caller, calls(wires, &tpm).await, expected);
    }
    // Operators come in by another door, behind which is nothing for hosts.
    let needs_more =
        ["ExplainJoin", "AddAuthority", "RemoveAuthority", "SetRecoveryKey", "ChangeCa"];
    let admin = std::array::from_fn(|call| match CALLS[call] {
        _ if call < 9 => absent,
        name if needs_more.contains(&name) => invalid,
        _ => ok,
    });
    let operator = harness.operator().await;
    assert_calls("an operator", calls([&operator; WIRES], &tpm).await, admin);
}

fn assert_calls(caller: &str, codes: [Code; COUNT], expected: [Code; COUNT]) {
    let failed = [Code::Unknown, Code::Unavailable, Code::Internal, Code::Cancelled];
    for ((call, code), expected) in CALLS.iter().zip(codes).zip(expected) {
        let matches = match expected {
            Code::Unknown => failed.contains(&code),
            expected => code == expected,
        };
        assert!(matches, "{caller} calls {call}: {code:?}, not {expected:?}");
    }
}

/// The calls that the protocol has are those of the table.
#[test]
fn the_table_has_every_call() {
    let protos = ["admin", "identity", "join", "workload"].map(|name| {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/protos/endorse/v1");
        std::fs::read_to_string(format!("{directory}/{name}.proto")).unwrap()
    });
    let calls = protos
        .iter()
        .flat_map(|proto| proto.lines())
        .filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('(').map(|(name, _)| name));
    let (mut calls, mut table): (Vec<_>, Vec<_>) = (calls.collect(), CALLS.to_vec());
    calls.sort_unstable();
    table.sort_unstable();
    assert_eq!(calls, table);
}
