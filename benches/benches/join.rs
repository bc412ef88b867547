//! The hot path of a join: what agent and authority compute for each, the TPM left aside.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;

use agent::credential::{Credentials, Voucher};
use authority::issue::{
    CaKey, ClusterName, Issuer, JwtAlgorithm, JwtKey, Profile, SshCa, SubjectKey, Ttl, Validity,
    X509Ca,
};
use authority::resource::{Bot, BotInstance, BotSpec, Metadata, ProvenEk};
use criterion::{Criterion, criterion_group, criterion_main};
use fuzz::fixtures;
use prost::Message;
use proto::transcript::Transcript;
use proto::v1::JoinResponse;
use proto::v1::join_response::Step;
use time::OffsetDateTime;
use tpm2::Tpm;
use tpm2::commands::{
    ActivateCredential, Command, CreatePrimary, GetRandom, NvRead, PolicySecret, Response, Sign,
    StartAuthSession,
};
use tpm2::crypto::{HashAlg, kdfa, make_credential, object_name};
use tpm2::endorsement::EkKind;
use tpm2::session::{Auth, Encryption, SaltKey};
use tpm2::transport::Transport;
use tpm2::types::{
    Alg, AsymScheme, Data, Digest, EncryptedSecret, Handle, Hierarchy, IdObject, NameBuf, Nonce,
    NvAuth, NvIndex, Object, Public, SensitiveCreate, SessionHandle, SessionType, SymDef, Ticket,
};
use tpm2::wire::{List, Marshal, Reader, Tpm2b, Unmarshal, Writer};
use verifier::JoinKey;
use verifier::chain::{self, ChainPolicy};
use verifier::{
    CaCertificate, Claim, Demand, Effort, EkCertificate, EkClaim, EkPublicKey, KeyClaim,
    KnownSignatures,
};

criterion_group!(benches, wire, frames, crypto, evidence, authority, agent);
criterion_main!(benches);

/// The commands and answers of a join: parameters written, answers read.
fn wire(c: &mut Criterion) {
    let name = NameBuf::new(&[0x00, 0x0b]).unwrap();
    let object = Object::named(Handle(0x8000_0001), name);
    let digest = Digest::from(&[7; 32]);
    let policy_session = SessionHandle::try_from(Handle(0x0300_0000)).unwrap();
    let read = NvRead {
        auth_handle: NvAuth::Owner,
        nv_index: NvIndex::named(Handle(0x01c0_0002), name),
        size: 1024,
        offset: 0,
    };
    both(c, &read, "NV_Read-password-1");
    let start = StartAuthSession {
        tpm_key: Some(object),
        bind: None,
        nonce_caller: Nonce::from(&[7; 32]),
        encrypted_salt: EncryptedSecret::new(&[7; 256]).unwrap(),
        session_type: SessionType::POLICY,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    both(c, &start, "StartAuthSession-password-1");
    both(c, &create(), "CreatePrimary-password-1");
    let secret = PolicySecret {
        auth_handle: Hierarchy::Endorsement.into(),
        policy_session,
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        expiration: 0,
    };
    both(c, &secret, "PolicySecret-password-1");
    let activate = ActivateCredential {
        activate_handle: object,
        key_handle: object,
        credential_blob: IdObject::new(&[7; 68]).unwrap(),
        secret: EncryptedSecret::new(&[7; 256]).unwrap(),
    };
    both(c, &activate, "ActivateCredential-password-1");
    let in_scheme = AsymScheme::Null;
    let sign = Sign { key_handle: object, digest, in_scheme, validation: Ticket::NO_HASHCHECK };
    both(c, &sign, "Sign-password-1");

    let mut group = c.benchmark_group("wire");
    group.bench_function("TPMT_PUBLIC of a join key, read", |b| {
        b.iter(|| Public::from_bytes(black_box(fixtures::JOIN_KEY)).unwrap());
    });
    let public = Public::from_bytes(fixtures::JOIN_KEY).unwrap();
    group.bench_function("TPMT_PUBLIC of a join key, written", |b| {
        let mut buffer = [0; 256];
        b.iter(|| {
            let mut writer = Writer::new(&mut buffer);
            black_box(&public).marshal(&mut writer).unwrap();
            black_box(writer.into_written()).len()
        });
    });
}

fn both<C: Command>(c: &mut Criterion, command: &C, seed: &str) {
    let mut group = c.benchmark_group("wire");
    group.bench_function(format!("{}, written", C::INFO.name), |b| {
        let mut buffer = [0; 4096];
        b.iter(|| {
            let mut writer = Writer::new(&mut buffer);
            black_box(command).marshal_parameters(&mut writer).unwrap();
            black_box(writer.into_written()).len()
        });
    });
    let answer = recorded(seed);
    let has_handle = <C::Response<'_> as Response>::INFO.handle.is_some();
    let handle = match has_handle {
        true => Handle(u32::from_be_bytes(answer[10..14].try_into().unwrap())),
        false => Handle::NULL,
    };
    let at = if has_handle { 14 } else { 10 };
    let parameters = match answer[..2] {
        [0x80, 0x01] => &answer[at..],
        _ => {
            let size = u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
            &answer[at + 4..][..size as usize]
        }
    };
    assert!(read::<C>(handle, parameters), "{seed} is its answer");
    group.bench_function(format!("{}, answer read", C::INFO.name), |b| {
        b.iter(|| read::<C>(handle, black_box(parameters)));
    });
}

fn read<C: Command>(handle: Handle, parameters: &[u8]) -> bool {
    let answer = Reader::all(parameters, |reader| C::unmarshal_response(handle, reader));
    black_box(&answer).is_ok()
}

/// A whole command through the client: laid out, authorized, its answer checked.
fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    let mut tpm = Tpm::new(Canned(recorded("GetRandom-password-1")));
    group.bench_function("no session", |b| {
        b.iter(|| {
            tpm.run(&GetRandom { bytes_requested: 16 }, []).unwrap().random_bytes.octets()[0]
        });
    });
    let mut tpm = Tpm::new(Canned(recorded("Sign-password-1")));
    let object = Object::named(Handle(0x8000_0001), NameBuf::new(&[0x00, 0x0b]).unwrap());
    let sign = Sign {
        key_handle: object,
        digest: Digest::from(&[7; 32]),
        in_scheme: AsymScheme::Null,
        validation: Ticket::NO_HASHCHECK,
    };
    group.bench_function("a password", |b| {
        b.iter(|| tpm.run(&sign, [Auth::EMPTY]).is_ok());
    });

    // The TPM's half of the key is not available here: the answer's HMAC is computed, compared and found wrong, which costs
    // what finding it right costs.
    let mut tpm = Tpm::new(Canned(recorded("Sign-hmac-1")));
    let mut session = tpm.start_session(SessionType::HMAC, HashAlg::Sha256).unwrap();
    group.bench_function("an HMAC session", |b| {
        b.iter(|| tpm.run(&sign, [session.auth(&[])]).is_err());
    });
    let mut tpm = Tpm::new(Canned(recorded("refused-CreatePrimary-salted-1")));
    let public = Public::from_bytes(fixtures::EK_PUBLIC).unwrap();
    let key = SaltKey::new(Handle(0x8101_000a), public).unwrap();
    let mut salted = tpm.start_salted_session(SessionType::POLICY, &key, Encryption::On).unwrap();
    group.bench_function("a salted session that encrypts", |b| {
        b.iter(|| tpm.secured(&mut salted).run(&create(), [Auth::EMPTY]).is_err());
    });
    group.bench_function("a session salted to P-256 is started", |b| {
        b.iter(|| {
            tpm.start_salted_session(SessionType::POLICY, &key, Encryption::On).unwrap().handle()
        });
    });
}

fn crypto(c: &mut Criterion) {
    let mut group = c.benchmark_group("crypto");
    group.bench_function("KDFa, SHA-256, 256 bits", |b| {
        b.iter(|| {
            kdfa(HashAlg::Sha256, &[black_box(&[7; 32])], b"STORAGE", &[7; 34], &[], 256).unwrap()
        });
    });
    group.bench_function("Name of a join key", |b| {
        let public = Public::from_bytes(fixtures::JOIN_KEY).unwrap();
        b.iter(|| object_name(black_box(&public)).unwrap());
    });
    let name = object_name(&Public::from_bytes(fixtures::JOIN_KEY).unwrap()).unwrap();
    for (kind, der) in ["rsa2048", "p256", "p384"].into_iter().zip(fixtures::EK_CERTIFICATES) {
        let certificate = EkCertificate::parse(der).unwrap();
        let kind = EkKind::by_name(kind).unwrap();
        let octets = agent::tpm::inventory::key_bytes(certificate.public_key());
        let public = kind.public(octets).unwrap();
        group.bench_function(format!("MakeCredential, {}", kind.name), |b| {
            b.iter(|| make_credential(black_box(&public), &name, &[7; 32]).unwrap());
        });
    }
    let transcript = || Transcript::new(&[7; 32], &[7; 1200], &[7; 68], &[7; 256]);
    group.bench_function("transcript, its MAC and digest", |b| {
        b.iter(|| (transcript().mac(black_box(&[7; 32])), transcript().signing_digest()));
    });
}

fn evidence(c: &mut Criterion) {
    let mut group = c.benchmark_group("evidence");
    let [rsa, p256, _] = fixtures::EK_CERTIFICATES;
    group.bench_function("EK certificate (RSA-2048), read", |b| {
        b.iter(|| EkCertificate::parse(black_box(rsa)).unwrap());
    });
    group.bench_function("EK certificate (P-256), read", |b| {
        b.iter(|| EkCertificate::parse(black_box(p256)).unwrap());
    });
    let ek = EkCertificate::parse(rsa).unwrap();
    let (root, issuer) = ([fixtures::root()], [fixtures::issuer()]);
    let (at, policy) = (fixtures::now(), ChainPolicy::default());
    group.bench_function("EK chain, one RSA-3072 signature", |b| {
        b.iter(|| chain::verify(black_box(&ek), &[], &issuer, at, policy).is_ok());
    });
    group.bench_function("EK chain, two RSA-3072 signatures", |b| {
        b.iter(|| chain::verify(black_box(&ek), &issuer, &root, at, policy).is_ok());
    });
    let ek = EkCertificate::parse(include_bytes!("../fixtures/ek-by-p384.der")).unwrap();
    let p384 = CaCertificate::from_pem(include_str!("../fixtures/p384-ca.pem")).unwrap();
    let at = ek.not_before();
    assert!(chain::verify(&ek, &[], &p384, at, policy).is_ok());
    group.bench_function("EK chain, one P-384 signature", |b| {
        b.iter(|| chain::verify(black_box(&ek), &[], &p384, at, policy).is_ok());
    });
}

/// All that the authority computes for a join.
fn authority(c: &mut Criterion) {
    let mut group = c.benchmark_group("authority");
    let anchors = [fixtures::root()];
    let ek_chain = [fixtures::issuer().der().to_vec()];
    let (policy, at) = (ChainPolicy::default(), fixtures::now());
    for (kind, der) in ["rsa2048", "p256", "p384"].into_iter().zip(fixtures::EK_CERTIFICATES) {
        let ek = EkClaim::Certificate(der);
        let claim = Claim {
            ek,
            ek_chain: &ek_chain,
            key: KeyClaim::JoinKey(fixtures::JOIN_KEY),
            ek_name_alg: 0,
        };
        group.bench_function(format!("appraisal and challenge, {kind}, root and issuer"), |b| {
            b.iter(|| {
                let (mut effort, known) = (Effort::default(), KnownSignatures::default());
                let demand = Demand::Certificate { anchors: &anchors, policy, at, known: &known };
                let appraisal = verifier::appraise(black_box(&claim), demand, &mut effort);
                appraisal.unwrap().challenge().unwrap()
            });
        });
    }
    let key = EkCertificate::parse(fixtures::EK_CERTIFICATES[1]).unwrap();
    let spki = EkPublicKey::spki_der(key.public_key());
    let ek = EkClaim::PublicKey(&spki);
    let claim =
        Claim { ek, ek_chain: &[], key: KeyClaim::JoinKey(fixtures::JOIN_KEY), ek_name_alg: 0 };
    group.bench_function("appraisal and challenge, p256, no certificate", |b| {
        b.iter(|| {
            let mut effort = Effort::default();
            let appraisal = verifier::appraise(black_box(&claim), Demand::Key, &mut effort);
            appraisal.unwrap().challenge().unwrap()
        });
    });

    // A well-formed signature that is another's: checking it costs what checking the right one costs.
    let join_key = fixtures::join_key();
    let signature = p256::ecdsa::Signature::from_scalars([7; 32], [9; 32]).unwrap().to_der();
    group.bench_function("the join key's signature checked", |b| {
        b.iter(|| join_key.verify(black_box(&[7; 32]), signature.as_bytes()).is_err());
    });

    let now = OffsetDateTime::from_unix_timestamp(fixtures::now().seconds()).unwrap();
    let cluster: ClusterName = "example.test".parse().unwrap();
    let x509 = X509Ca::create(&cluster, CaKey::generate().unwrap(), now).unwrap();
    let ssh = SshCa::new(&cluster, &CaKey::generate().unwrap()).unwrap();
    let ssh_host = SshCa::of_hosts(&cluster, &CaKey::generate().unwrap()).unwrap();
    let jwt = JwtKey::generate(JwtAlgorithm::Es256).unwrap();
    let issuer = Issuer::new(cluster, x509, ssh, ssh_host, jwt);
    let bot = Bot::new(Metadata::named("example".parse().unwrap()), BotSpec::default());
    let public_hash = "ab".repeat(32).parse().unwrap();
    let ek = ProvenEk {
        public_hash,
        certificate_serial: None,
        certificate_issuer: None,
        verified_by: None,
    };
    let [name, token] = ["example", "token"].map(|name| name.parse().unwrap());
    let instance = BotInstance::joining(name, token, ek, String::new(), now);
    let validity = Validity { now, ttl: Ttl::default() };
    let key = SubjectKey::from(join_key.verifying_key());
    group.bench_function("X.509 and SSH certificates issued and verified", |b| {
        b.iter(|| {
            issuer
                .credentials(&bot, &instance, Profile::identity(1), black_box(&key), validity)
                .unwrap()
        });
    });
}

fn agent(c: &mut Criterion) {
    let mut group = c.benchmark_group("agent");
    let result = fs::read(seeds("join_result").join("result")).unwrap();
    let (key, pins) = (fixtures::join_key(), [fixtures::pin()]);
    let now = u64::try_from(fixtures::now().seconds()).unwrap();
    group.bench_function("the authority's result read and verified", |b| {
        b.iter(|| {
            let response = JoinResponse::decode(black_box(result.as_slice())).unwrap();
            let Some(Step::Result(result)) = response.step else { panic!("no result") };
            Credentials::verify(result.into(), key.verifying_key(), Voucher::ClusterCas(&pins), now)
                .unwrap()
        });
    });
}

fn create() -> CreatePrimary<'static> {
    CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(JoinKey::template(&[7; 32])),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    }
}

fn seeds(target: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

/// A TPM's answer as it was recorded, without the three bytes before it.
fn recorded(seed: &str) -> Vec<u8> {
    fs::read(seeds("tpm_response").join(seed)).unwrap().split_off(3)
}

/// Answers every command with the same, and starts sessions.
struct Canned(Vec<u8>);

impl Transport for Canned {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        const START_AUTH_SESSION: [u8; 4] = [0, 0, 0x01, 0x76];
        const HMAC: u8 = 0;
        let answer = match command.get(6..10) {
            Some(code) if code == START_AUTH_SESSION => {
                // The type follows nonce and salt, and comes before a cipher and a hash.
                let symmetric = if command.ends_with(&[0, 0x10, 0, 0x0b]) { 5 } else { 9 };
                let kind = command[command.len() - symmetric];
                let range = if kind == HMAC { 0x02 } else { 0x03 };
                let header = [0x80, 0x01, 0, 0, 0, 48, 0, 0, 0, 0, range, 0, 0, 0, 0, 32];
                [&header[..], &[0x55; 32]].concat()
            }
            _ => self.0.clone(),
        };
        response[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn is_managed(&self) -> bool {
        true
    }
}
