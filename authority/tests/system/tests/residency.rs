//! The proof that a service's key is in the TPM with which its host joined, and each way to lie about it.

use authority::resource::KeyLocation;
use const_oid::ObjectIdentifier;
use der::Decode;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use prost::Message;
use proto::transcript::Transcript;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::prove_key_request::Step as Request;
use proto::v1::prove_key_response::Step as Response;
use proto::v1::{
    IssueRequest, IssuedCredentials, JoinAnswer, JoinChallenge, ProveKeyInit, ProveKeyRequest,
    ProveKeyResponse,
};
use testkit::simulated::{SoftwareTpm, TIMEOUT, Wire, identity, service_key_public};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use x509_cert::Certificate;
use x509_cert::ext::pkix::CertificatePolicies;

use super::harness::Harness;
use super::issue::request;

/// tcg-cap-verifiedTPMFixed.
const VERIFIED_TPM_FIXED: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.11.1.2");

/// A host that has joined, and its connection.
struct Host {
    tpm: SoftwareTpm,
    wire: Wire,
}

impl Host {
    async fn joined(harness: &Harness) -> Self {
        let (tpm, held) = harness.joined().await;
        let wire = harness.wire_as(Some(tpm.identity(&held))).await;
        Self { tpm, wire }
    }

    fn init(&self, key: &SigningKey) -> ProveKeyInit {
        ProveKeyInit {
            ek_public: self.tpm.ek_public(),
            ek_name_alg: 0,
            key: service_key_public(key),
            service: "web".into(),
        }
    }

    /// An honest proof.
    async fn prove(&self, key: &SigningKey) -> Result<Outcome, Status> {
        let init = self.init(key);
        let mut proof = Proof::begin(&self.wire, &init).await;
        match proof.reply().await? {
            Response::Proven(_) => Ok(Outcome::OnRecord),
            Response::Challenge(challenge) => {
                let secret = self.tpm.activate(&challenge, &init.key).expect("activation");
                let transcript = proof.transcript(&self.wire.exporter, &challenge);
                proof.answer(&transcript, &secret, key).await;
                let Response::Proven(_) = proof.reply().await? else { panic!("a challenge") };
                Ok(Outcome::Proven)
            }
        }
    }

    /// Asks for a certificate of a key that is claimed to be in the TPM.
    async fn issue(&self, key: &SigningKey) -> Result<IssuedCredentials, Status> {
        let wish = IssueRequest { key_in_tpm: true, ..request(key, &self.wire.exporter) };
        let issued = IdentityServiceClient::new(self.wire.channel.clone()).issue(wish).await;
        issued.map(tonic::Response::into_inner)
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Proven,
    OnRecord,
}

/// A proof in progress.
struct Proof {
    init: Vec<u8>,
    requests: mpsc::Sender<ProveKeyRequest>,
    replies: Streaming<ProveKeyResponse>,
}

impl Proof {
    async fn begin(wire: &Wire, init: &ProveKeyInit) -> Self {
        let init = init.encode_to_vec();
        let (requests, outgoing) = mpsc::channel(4);
        let step = Some(Request::Init(init.clone()));
        requests.send(ProveKeyRequest { step }).await.unwrap();
        let mut client = IdentityServiceClient::new(wire.channel.clone());
        let replies = client.prove_key(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { init, requests, replies }
    }

    async fn reply(&mut self) -> Result<Response, Status> {
        let reply = tokio::time::timeout(TIMEOUT, self.replies.message()).await.unwrap()?;
        Ok(reply.expect("a reply").step.expect("a step"))
    }

    async fn challenge(&mut self) -> JoinChallenge {
        match self.reply().await.unwrap() {
            Response::Challenge(challenge) => challenge,
            Response::Proven(_) => panic!("proven without a challenge"),
        }
    }

    fn transcript(&self, exporter: &[u8; 32], challenge: &JoinChallenge) -> Transcript {
        let JoinChallenge { credential_blob, encrypted_seed } = challenge;
        Transcript::of_service_key(exporter, &self.init, credential_blob, encrypted_seed)
    }

    async fn answer(&self, transcript: &Transcript, secret: &[u8], key: &SigningKey) {
        self.send(answer(transcript, secret, key)).await;
    }

    async fn send(&self, answer: JoinAnswer) {
        let step = Some(Request::Answer(answer));
        let _ = self.requests.send(ProveKeyRequest { step }).await;
    }
}

fn answer(transcript: &Transcript, secret: &[u8], key: &SigningKey) -> JoinAnswer {
    let signature: DerSignature = key.sign_prehash(&transcript.signing_digest()).unwrap();
    let signature = signature.as_bytes().to_vec();
    JoinAnswer { mac: transcript.mac(secret).to_vec(), signature }
}

/// The policies that a certificate states.
fn policies(issued: &IssuedCredentials) -> Vec<ObjectIdentifier> {
    let certificate = Certificate::from_der(&issued.certificates[0]).unwrap();
    let policies = certificate.tbs_certificate().get_extension::<CertificatePolicies>().unwrap();
    let Some((is_critical, CertificatePolicies(policies))) = policies else { return Vec::new() };
    assert!(!is_critical);
    policies.iter().map(|policy| policy.policy_identifier).collect()
}

#[tokio::test]
async fn proven_key_is_certified_and_recorded_as_one_in_the_tpm() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    let key = SigningKey::generate();
    assert_eq!(host.prove(&key).await.unwrap(), Outcome::Proven);
    let line = harness.assert_last("bot.prove_key", None);
    assert_eq!((&line["code"], &line["service"]), (&"EN010I".into(), &"web".into()));
    assert_eq!((&line["key_location"], &line["ek_proven"]), (&"tpm".into(), &true.into()));
    assert_eq!(line["ek_pub_hash"], host.tpm.ek_hash());

    let issued = host.issue(&key).await.unwrap();
    assert_eq!(harness.assert_last_brief("bot.issue").await["key_location"], "tpm");
    assert_eq!(policies(&issued), [VERIFIED_TPM_FIXED]);
    let services = harness.instance().await.status.services;
    assert_eq!(services["web"].key_location, KeyLocation::Tpm);

    // A second proof needs no challenge, and a renewal of the certificate no proof; also on another connection.
    assert_eq!(host.prove(&key).await.unwrap(), Outcome::OnRecord);
    host.issue(&key).await.unwrap();
    // A key of which nothing is claimed is not marked.
    let software = SigningKey::generate();
    let wish = request(&software, &host.wire.exporter);
    let mut client = IdentityServiceClient::new(host.wire.channel.clone());
    let issued = client.issue(wish).await.unwrap().into_inner();
    assert_eq!(policies(&issued), []);
    assert!(harness.assert_last_brief("bot.issue").await.get("key_location").is_none());
}

#[tokio::test]
async fn certificate_of_the_join_key_states_that_it_is_in_the_tpm() {
    let harness = Harness::new().await;
    let (_, issued) = harness.joined().await;
    assert_eq!(policies(&issued), [VERIFIED_TPM_FIXED]);
}

#[tokio::test]
async fn claimed_key_that_was_not_proven_is_refused() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    let refused = async |host: &Host, key: &SigningKey| {
        let status = host.issue(key).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        harness.assert_last("bot.issue", Some("key_residency_unproven"));
    };
    let (key, other) = (SigningKey::generate(), SigningKey::generate());
    refused(&host, &key).await;
    // The join key was proven to be in the TPM, and is no service's key.
    refused(&host, &host.tpm.join_key).await;
    host.prove(&key).await.unwrap();
    refused(&host, &other).await;
    // Another instance, of the same TPM or of another one, has not proven it.
    let held = harness.join(&host.tpm, "t").await.unwrap();
    let again = harness.wire_as(Some(host.tpm.identity(&held))).await;
    refused(&Host { tpm: tpm_of(&host.tpm), wire: again }, &key).await;
    let stranger = Host::joined(&harness).await;
    refused(&stranger, &key).await;
    host_still_may(&harness, &host, &key).await;
}

/// What others were refused has changed nothing; `joined` above has replaced the token's rule.
async fn host_still_may(harness: &Harness, host: &Host, key: &SigningKey) {
    harness.allow(&host.tpm).await;
    host.issue(key).await.unwrap();
}

/// Keys that are not bound to a TPM, or can do more than sign.
#[tokio::test]
async fn key_of_another_template_is_refused_before_its_challenge() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    let key = SigningKey::generate();
    let good = service_key_public(&key);
    let attributes = |bits: u32| [&good[..4], &bits.to_be_bytes(), &good[8..]].concat();
    let policy = [&good[..8], &[0, 32], &[7; 32][..], &good[10..]].concat();
    for (what, public, code) in [
        ("exportable: no fixedTPM", attributes(0x0004_0470), "service_key_attributes"),
        ("exportable: no fixedParent", attributes(0x0004_0462), "service_key_attributes"),
        ("not made in a TPM", attributes(0x0004_0452), "service_key_attributes"),
        ("a key of tpm2_loadexternal", attributes(0x0004_0440), "service_key_attributes"),
        ("restricted", attributes(0x0005_0472), "service_key_attributes"),
        ("decrypt", attributes(0x0006_0472), "service_key_attributes"),
        ("with a policy", policy, "service_key_policy"),
        ("a join key", host.tpm.join_key_public(), "service_key_template"),
        ("cut", good[..good.len() - 1].to_vec(), "service_key_malformed"),
        ("nothing", Vec::new(), "service_key_malformed"),
    ] {
        let init = ProveKeyInit { key: public, ..host.init(&key) };
        let status = Proof::begin(&host.wire, &init).await.reply().await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status}");
        let line = harness.assert_last("bot.prove_key", Some(code));
        assert_eq!(line["code"], "EN010E", "{what}");
        assert!(harness.instance().await.status.keys_in_tpm.is_empty(), "{what}");
    }
    host.prove(&key).await.unwrap();
}

#[tokio::test]
async fn key_of_another_tpm_is_refused() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    let (other, key) = (SoftwareTpm::generate(), SigningKey::generate());
    let refused = async |proof: &mut Proof, code| {
        assert_eq!(proof.reply().await.unwrap_err().code(), Code::PermissionDenied);
        harness.assert_last("bot.prove_key", Some(code));
    };
    // With the EK of that TPM, which would answer.
    let init = ProveKeyInit { ek_public: other.ek_public(), ..host.init(&key) };
    refused(&mut Proof::begin(&host.wire, &init).await, "ek_of_other").await;
    let mut longer = host.init(&key);
    longer.ek_public.push(0);
    refused(&mut Proof::begin(&host.wire, &longer).await, "ek_of_other").await;

    // With its own EK, for a key that its TPM does not hold: neither the other TPM nor its own opens the credential.
    let init = host.init(&key);
    let mut proof = Proof::begin(&host.wire, &init).await;
    let challenge = proof.challenge().await;
    assert_eq!(other.activate(&challenge, &init.key), None);
    let held = service_key_public(&SigningKey::generate());
    assert_eq!(host.tpm.activate(&challenge, &held), None, "another key in this TPM");
    let transcript = proof.transcript(&host.wire.exporter, &challenge);
    proof.answer(&transcript, &[0; 32], &key).await;
    refused(&mut proof, "answer_wrong").await;
    assert!(harness.instance().await.status.keys_in_tpm.is_empty());
}

#[tokio::test]
async fn answer_that_is_not_of_this_proof_is_refused() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    let (key, other) = (SigningKey::generate(), SigningKey::generate());
    let init = host.init(&key);
    let elsewhere = harness.wire().await;
    type Lie<'a> = (&'a str, &'a dyn Fn(&Proof, &JoinChallenge) -> JoinAnswer, &'a str);
    let secret = |challenge: &JoinChallenge| host.tpm.activate(challenge, &init.key).unwrap();
    let exporter = &host.wire.exporter;
    let lies: [Lie<'_>; 5] = [
        (
            "of another connection",
            &|proof, challenge| {
                let transcript = proof.transcript(&elsewhere.exporter, challenge);
                answer(&transcript, &secret(challenge), &key)
            },
            "answer_wrong",
        ),
        (
            "of a join",
            &|proof, challenge| {
                let JoinChallenge { credential_blob, encrypted_seed } = challenge;
                let join = Transcript::new(exporter, &proof.init, credential_blob, encrypted_seed);
                answer(&join, &secret(challenge), &key)
            },
            "answer_wrong",
        ),
        (
            "signed by another key",
            &|proof, challenge| {
                answer(&proof.transcript(exporter, challenge), &secret(challenge), &other)
            },
            "signature_wrong",
        ),
        (
            "not signed",
            &|proof, challenge| {
                let transcript = proof.transcript(exporter, challenge);
                let signature = Vec::new();
                JoinAnswer { signature, ..answer(&transcript, &secret(challenge), &key) }
            },
            "signature_wrong",
        ),
        ("empty", &|_, _| JoinAnswer::default(), "answer_wrong"),
    ];
    for (what, lie, code) in lies {
        let mut proof = Proof::begin(&host.wire, &init).await;
        let challenge = proof.challenge().await;
        proof.send(lie(&proof, &challenge)).await;
        assert_eq!(proof.reply().await.unwrap_err().code(), Code::PermissionDenied, "{what}");
        harness.assert_last("bot.prove_key", Some(code));
        assert!(harness.instance().await.status.keys_in_tpm.is_empty(), "{what}");
    }
}

/// What one host has answered is of no use to another one, nor to itself on its next connection.
#[tokio::test]
async fn replayed_proof_and_proof_of_another_instance_are_refused() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let key = SigningKey::generate();
    let own = async || harness.wire_as(Some(tpm.identity(&held))).await;
    let host = Host { wire: own().await, tpm: tpm_of(&tpm) };
    let init = host.init(&key);
    let mut proof = Proof::begin(&host.wire, &init).await;
    let challenge = proof.challenge().await;
    let secret = tpm.activate(&challenge, &init.key).unwrap();
    let answered = answer(&proof.transcript(&host.wire.exporter, &challenge), &secret, &key);

    let mut replayed = Proof::begin(&own().await, &init).await;
    replayed.challenge().await;
    replayed.send(answered.clone()).await;
    assert_eq!(replayed.reply().await.unwrap_err().code(), Code::PermissionDenied);
    harness.assert_last("bot.prove_key", Some("answer_wrong"));

    // Another instance shows the EK and the key of this one.
    let stranger = Host::joined(&harness).await;
    let mut theirs = Proof::begin(&stranger.wire, &init).await;
    assert_eq!(theirs.reply().await.unwrap_err().code(), Code::PermissionDenied);
    harness.assert_last("bot.prove_key", Some("ek_of_other"));
    harness.allow(&tpm).await;
    proof.send(answered).await;
    let Response::Proven(_) = proof.reply().await.unwrap() else { panic!("a challenge") };
    let instances = harness.instances().await;
    assert_eq!(instances.iter().filter(|one| !one.status.keys_in_tpm.is_empty()).count(), 1);
}

fn tpm_of(tpm: &SoftwareTpm) -> SoftwareTpm {
    SoftwareTpm { ek: tpm.ek.clone(), join_key: tpm.join_key.clone(), ek_certificate: None }
}

#[tokio::test]
async fn only_the_instance_itself_can_prove_keys() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    let key = SigningKey::generate();
    host.prove(&key).await.unwrap();
    let issued = host.issue(&key).await.unwrap();
    let service = harness.wire_as(Some(identity(&key, &issued))).await;
    let other = host.init(&SigningKey::generate());
    for (wire, code, refusal) in [
        (service, Code::PermissionDenied, "certificate_of_service"),
        (harness.wire().await, Code::Unauthenticated, "certificate_missing"),
    ] {
        let status = Proof::begin(&wire, &other).await.reply().await.unwrap_err();
        assert_eq!(status.code(), code);
        harness.assert_last("bot.prove_key", Some(refusal));
    }
}

#[tokio::test]
async fn many_proofs_do_not_make_a_record_grow_without_bound() {
    let harness = Harness::new().await;
    let host = Host::joined(&harness).await;
    for number in 0..66 {
        let key = SigningKey::generate();
        let mut init = host.init(&key);
        init.service = format!("{number:02}{}", "x".repeat(1000));
        let mut proof = Proof::begin(&host.wire, &init).await;
        let challenge = proof.challenge().await;
        let secret = host.tpm.activate(&challenge, &init.key).unwrap();
        proof.answer(&proof.transcript(&host.wire.exporter, &challenge), &secret, &key).await;
        let Response::Proven(_) = proof.reply().await.unwrap() else { panic!("a challenge") };
    }
    let keys = harness.instance().await.status.keys_in_tpm;
    assert_eq!(keys.len(), 64);
    assert!(keys.keys().all(|name| name.len() == 255));
    assert!(keys.keys().any(|name| name.starts_with("65")));
}
