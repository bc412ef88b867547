//! What hosts that run `tbot` ask besides joining, as the authority answers it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use authority::issue::{Subject, SubjectKey};
use authority::resource::BotInstance;
use authority::store::{Change, Table};
use proto::teleport::legacy::{Certs, UserCertsRequest};
use proto::teleport::workloadidentity_v1::{
    Credential, IssueWorkloadIdentitiesRequest, IssueWorkloadIdentitiesResponse,
    IssueWorkloadIdentityRequest, IssueWorkloadIdentityResponse, JwtsvidParams, X509svidParams,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::Code;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use crate::cluster::{Answer, Cluster, Who};
use crate::{Verdict, assert_harmless};

/// The methods, by the first octet of an input.
pub const METHODS: [&str; 13] = [
    PING,
    CLUSTER_CA,
    "/proto.AuthService/WatchEvents",
    "/proto.AuthService/GetRole",
    USER_CERTS,
    HEARTBEAT,
    "/teleport.clusterconfig.v1.ClusterConfigService/GetAuthPreference",
    "/teleport.presence.v1.PresenceService/ListRemoteClusters",
    "/teleport.trust.v1.TrustService/GetCertAuthority",
    "/teleport.trust.v1.TrustService/GetCertAuthorities",
    "/teleport.machineid.v1.SPIFFEFederationService/ListSPIFFEFederations",
    ISSUE_ONE,
    ISSUE_ALL,
];

const PING: &str = "/proto.AuthService/Ping";
const CLUSTER_CA: &str = "/proto.AuthService/GetClusterCACert";
const USER_CERTS: &str = "/proto.AuthService/GenerateUserCerts";
const HEARTBEAT: &str = "/teleport.machineid.v1.BotInstanceService/SubmitHeartbeat";

const ISSUE_ONE: &str =
    "/teleport.workloadidentity.v1.WorkloadIdentityIssuanceService/IssueWorkloadIdentity";
const ISSUE_ALL: &str =
    "/teleport.workloadidentity.v1.WorkloadIdentityIssuanceService/IssueWorkloadIdentities";

/// Bytes of a text that a host says and the authority records.
const MAX_TEXT: usize = 255;

thread_local! {
    static CLUSTER: RefCell<Cluster> = RefCell::new(Cluster::new());
}

/// The first octet chooses the method, the second who asks, the rest is the message.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let [method, who, message @ ..] = data else { return Verdict::Refused };
    let method = METHODS[usize::from(*method) % METHODS.len()];
    let who = [Who::Stranger, Who::Bot, Who::Output][usize::from(*who) % 3];
    CLUSTER.with_borrow_mut(|cluster| {
        let answer = cluster.call(method, who, message);
        assert_harmless(answer.status.message());
        if answer.status.code() != Code::Ok {
            refused(&answer);
            return Verdict::Refused;
        }
        granted(cluster, method, who, message, &answer);
        Verdict::Accepted
    })
}

/// A refusal has one of the codes that agents of Teleport expect, and changes nothing.
fn refused(answer: &Answer) {
    let status = &answer.status;
    let is_expected = match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::Unimplemented => {
            !status.message().is_empty()
        }
        // No message of this type; and more than a message may have.
        Code::Internal => status.message().contains("decode"),
        Code::OutOfRange => true,
        _ => false,
    };
    assert!(is_expected, "{status:?}");
    assert!(answer.written.is_empty(), "{:?}", answer.written);
    assert!(answer.message.is_empty(), "an answer with a refusal");
}

fn granted(cluster: &Cluster, method: &str, who: Who, message: &[u8], answer: &Answer) {
    assert!(who != Who::Stranger || [PING, CLUSTER_CA].contains(&method), "{method}");
    let text = String::from_utf8_lossy(&answer.message);
    assert!(!text.contains("PRIVATE"), "a private key");
    let tables: BTreeSet<Table> = changed(answer).map(Change::table).collect();
    match method {
        USER_CERTS => {
            assert_eq!(who, Who::Bot, "an output asks for another");
            certified(cluster, message, &answer.message);
            assert!(tables.contains(&Table::Instances) && tables.contains(&Table::LogHeads));
        }
        HEARTBEAT => recorded(answer),
        ISSUE_ONE => {
            let request: IssueWorkloadIdentityRequest = decoded(message);
            let answer: IssueWorkloadIdentityResponse = decoded(&answer.message);
            assert_eq!(request.name, "web", "another workload identity");
            issued(cluster, request.x509_svid_params, request.jwt_svid_params, answer.credential);
            assert!(tables.contains(&Table::LogHeads));
        }
        ISSUE_ALL => {
            let request: IssueWorkloadIdentitiesRequest = decoded(message);
            let answer: IssueWorkloadIdentitiesResponse = decoded(&answer.message);
            issued(cluster, request.x509_svid_params, request.jwt_svid_params, answer.credentials);
            assert!(tables.contains(&Table::LogHeads));
        }
        _ => assert!(tables.is_empty(), "{tables:?}"),
    }
}

/// Changes that are more than a condition.
fn changed(answer: &Answer) -> impl Iterator<Item = &Change> {
    answer.written.iter().filter(|change| !matches!(change, Change::Expect(..)))
}

/// A certificate for the key in the request, with no more than was asked for and the bot has.
fn certified(cluster: &Cluster, request: &[u8], answer: &[u8]) {
    let request: UserCertsRequest = decoded(request);
    let certs: Certs = decoded(answer);
    let leaf = CertificateDer::from_pem_slice(&certs.tls).expect("PEM");
    let leaf = Certificate::from_der(&leaf).expect("DER");
    let tbs = leaf.tbs_certificate();
    let key = SubjectKey::from_text(&request.tls_public_key, &request.ssh_public_key);
    let spki = key.expect("it was certified").to_spki().expect("a key");
    assert_eq!(tbs.subject_public_key_info().to_der().expect("a key"), spki);
    let subject = Subject::from_name(tbs.subject()).expect("a subject of ours");
    assert_eq!((subject.bot.as_str(), subject.generation), ("example", None));
    assert!(subject.impersonated, "it could ask for others");
    for role in subject.roles.iter().map(ToString::to_string) {
        assert!(cluster.roles.contains(&role) && request.role_requests.contains(&role), "{role}");
    }
    let not_after = tbs.validity().not_after.to_unix_duration().as_secs();
    assert!(not_after <= cluster.not_after, "it outlives the identity: {not_after}");
    let line = String::from_utf8(certs.ssh).expect("text");
    assert_harmless(line.trim_end());
}

/// Credentials of the workload identity that the bot may have, for what the request names.
fn issued(
    cluster: &Cluster,
    x509: Option<X509svidParams>,
    jwt: Option<JwtsvidParams>,
    credentials: impl IntoIterator<Item = Credential>,
) {
    for credential in credentials {
        assert_eq!(credential.spiffe_id, "spiffe://example.test/site/example/web");
        let ends = credential.expires_at.expect("a time").seconds;
        let outlives = u64::try_from(ends).expect("after 1970") > cluster.not_after;
        assert!(!outlives, "it outlives the identity: {ends}");
        match (&x509, &jwt, credential.x509_svid, credential.jwt_svid) {
            (Some(params), None, Some(svid), None) => {
                let leaf = Certificate::from_der(&svid.cert).expect("DER");
                let key = leaf.tbs_certificate().subject_public_key_info();
                let wanted = SubjectKey::from_spki(&params.public_key).expect("it was certified");
                assert_eq!(key.to_der().expect("a key"), wanted.to_spki().expect("a key"));
            }
            (None, Some(params), None, Some(svid)) => {
                assert!(!params.audiences.is_empty(), "a token for everyone");
                assert_eq!(svid.jwt.split('.').count(), 3);
            }
            other => panic!("not what was asked for: {other:?}"),
        }
    }
}

/// What a host says about itself is recorded up to a limit.
fn recorded(answer: &Answer) {
    let records = changed(answer).filter_map(|change| match change {
        Change::Replace(Table::Instances, _, _, record) => Some(record),
        _ => None,
    });
    for record in records {
        let mut record: serde_json::Value = serde_json::from_slice(record).expect("JSON");
        record.as_object_mut().expect("an object").remove("v");
        let instance: BotInstance = serde_json::from_value(record).expect("an instance");
        let agent = instance.status.heartbeat.expect("what was submitted").agent;
        for text in [agent.version, agent.hostname, agent.os, agent.architecture, agent.join_method]
        {
            assert!(text.len() <= MAX_TEXT, "{} bytes", text.len());
        }
    }
}

fn decoded<M: prost::Message + Default>(message: &[u8]) -> M {
    M::decode(message).expect("it was read, or written")
}
