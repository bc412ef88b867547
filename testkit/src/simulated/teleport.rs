//! A host that runs Teleport's `tbot` instead of the agent: an attestation key that certifies its own creation, a key in software
//! that is to be certified, and both of Teleport's join services.

use base64ct::{Base64, Encoding};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePublicKey, LineEnding};
use proto::teleport::join_v1::join_request::Payload as Request;
use proto::teleport::join_v1::join_response::Payload as Reply;
use proto::teleport::join_v1::join_service_client::JoinServiceClient;
use proto::teleport::join_v1::{
    BotParams, ChallengeSolution, ClientInit, ClientParams, JoinRequest, JoinResponse, PublicKeys,
    TpmInit, TpmSolution, challenge, challenge_solution, client_params, result, tpm_init,
};
use proto::teleport::legacy::join_service_client::JoinServiceClient as LegacyClient;
use proto::teleport::legacy::register_using_tpm_method_initial_request::Ek as LegacyEk;
use proto::teleport::legacy::register_using_tpm_method_request::Payload as LegacyRequest;
use proto::teleport::legacy::register_using_tpm_method_response::Payload as LegacyReply;
use proto::teleport::legacy::{
    RegisterUsingTpmMethodChallengeResponse, RegisterUsingTpmMethodInitialRequest,
    RegisterUsingTpmMethodRequest, RegisterUsingTpmMethodResponse, TpmAttestationParameters,
};
use proto::teleport::types::RegisterUsingTokenRequest;
use proto::v1::JoinChallenge;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{SoftwareTpm, TIMEOUT, Wire};

/// TPMT_PUBLIC up to the point: ECC, SHA-256, 0x00050472, no policy, no cipher, ECDSA with SHA-256, P-256, no KDF.
const AK_TEMPLATE: [u16; 10] = [0x23, 0x0b, 0x05, 0x472, 0, 0x10, 0x18, 0x0b, 0x03, 0x10];

/// A host whose TPM is simulated.
pub struct TeleportHost<'t> {
    pub tpm: &'t SoftwareTpm,
    pub ak: SigningKey,
    /// TPMT_PUBLIC of the attestation key.
    pub public: Vec<u8>,
    /// TPMS_CREATION_DATA.
    pub creation_data: Vec<u8>,
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// The key to certify.
    pub key: SigningKey,
}

impl<'t> TeleportHost<'t> {
    /// With a new attestation key and a new key to certify.
    pub fn new(tpm: &'t SoftwareTpm) -> Self {
        let ak = SigningKey::generate();
        let public = public_area(&ak);
        let parent = name(b"the public area of a storage key");
        let creation_data = creation_data(&parent);
        let signer = name(&[&parent[..], &name(&public)].concat());
        let attest = [
            b"\xffTCG\x80\x1a".to_vec(),
            sized(&signer),
            sized(b""),
            // Clock, resets, restarts, safe; firmware.
            vec![0; 25],
            sized(&name(&public)),
            sized(&Sha256::digest(&creation_data)),
        ]
        .concat();
        Self { tpm, ak, public, creation_data, attest, key: SigningKey::generate() }
    }

    /// TPMT_SIGNATURE of the attestation.
    pub fn signature(&self) -> Vec<u8> {
        let made: Signature = self.ak.sign_prehash(&Sha256::digest(&self.attest)).unwrap();
        let (r, s) = made.split_bytes();
        [b"\x00\x18\x00\x0b".to_vec(), sized(&r), sized(&s)].concat()
    }

    /// The activated secret of a challenge as Teleport sends it, with lengths.
    pub fn solve(&self, credential_blob: &[u8], secret: &[u8]) -> Vec<u8> {
        let content = |sized: &[u8]| {
            let (length, content) = sized.split_first_chunk::<2>().unwrap();
            assert_eq!(usize::from(u16::from_be_bytes(*length)), content.len());
            content.to_vec()
        };
        let challenge = JoinChallenge {
            credential_blob: content(credential_blob),
            encrypted_seed: content(secret),
        };
        self.tpm.activate(&challenge, &self.public).expect("activation")
    }

    pub fn client_init(token: &str) -> ClientInit {
        ClientInit {
            join_method: Some("tpm".into()),
            token_name: token.into(),
            system_role: "Bot".into(),
            forwarded_by_proxy: false,
            proxy_supplied_parameters: None,
        }
    }

    pub fn bot_params(&self) -> BotParams {
        let keys = PublicKeys { public_tls_key: self.spki(), public_ssh_key: ssh_key(&self.key) };
        BotParams { public_keys: Some(keys), expires: None }
    }

    pub fn tpm_init(&self) -> TpmInit {
        let params = client_params::Payload::BotParams(self.bot_params());
        TpmInit {
            client_params: Some(ClientParams { payload: Some(params) }),
            public: self.public.clone(),
            create_data: self.creation_data.clone(),
            create_attestation: self.attest.clone(),
            create_signature: self.signature(),
            ek: Some(match &self.tpm.ek_certificate {
                Some(der) => tpm_init::Ek::EkCert(der.clone()),
                None => tpm_init::Ek::EkKey(self.tpm.ek_public()),
            }),
        }
    }

    pub fn legacy_init(&self, token: &str) -> RegisterUsingTpmMethodInitialRequest {
        let pem = self.key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        let line =
            format!("ecdsa-sha2-nistp256 {} host\n", Base64::encode_string(&ssh_key(&self.key)));
        RegisterUsingTpmMethodInitialRequest {
            join_request: Some(RegisterUsingTokenRequest {
                role: "Bot".into(),
                token: token.into(),
                public_tls_key: pem.into_bytes(),
                public_ssh_key: line.into_bytes(),
                ..RegisterUsingTokenRequest::default()
            }),
            attestation_params: Some(TpmAttestationParameters {
                public: self.public.clone(),
                create_data: self.creation_data.clone(),
                create_attestation: self.attest.clone(),
                create_signature: self.signature(),
            }),
            ek: Some(match &self.tpm.ek_certificate {
                Some(der) => LegacyEk::EkCert(der.clone()),
                None => LegacyEk::EkKey(self.tpm.ek_public()),
            }),
        }
    }

    /// Joins by `teleport.join.v1` as an honest client does.
    pub async fn join(&self, wire: &Wire, token: &str) -> Result<Certificates, Status> {
        let mut talk = wire.teleport_join().await?;
        talk.send(Request::ClientInit(Self::client_init(token))).await;
        match talk.reply().await? {
            Reply::Init(init) => {
                assert_eq!(init.join_method, "tpm");
                assert_eq!(init.signature_algorithm_suite, "balanced-v1");
            }
            other => panic!("{other:?}"),
        }
        talk.send(Request::TpmInit(self.tpm_init())).await;
        let (blob, secret) = talk.challenge().await?;
        talk.send(solution(self.solve(&blob, &secret))).await;
        match talk.reply().await? {
            Reply::Result(made) => {
                let Some(result::Payload::BotResult(made)) = made.payload else { panic!() };
                let made = made.certificates.unwrap();
                Ok(Certificates {
                    tls: made.tls_cert,
                    tls_cas: made.tls_ca_certs,
                    ssh: made.ssh_cert,
                    ssh_cas: made.ssh_ca_keys,
                })
            }
            other => panic!("{other:?}"),
        }
    }

    /// Joins by `proto.JoinService` as an honest client does. Certificates are as they come: PEM and lines of text.
    pub async fn legacy_join(&self, wire: &Wire, token: &str) -> Result<Certificates, Status> {
        let mut talk = wire.legacy_join().await?;
        talk.send(LegacyRequest::Init(self.legacy_init(token))).await;
        let (blob, secret) = talk.challenge().await?;
        talk.send(legacy_solution(self.solve(&blob, &secret))).await;
        match talk.reply().await? {
            LegacyReply::Certs(certs) => Ok(Certificates {
                tls: certs.tls,
                tls_cas: certs.tls_ca_certs,
                ssh: certs.ssh,
                ssh_cas: certs.ssh_ca_certs,
            }),
            other @ LegacyReply::ChallengeRequest(_) => panic!("{other:?}"),
        }
    }

    /// SubjectPublicKeyInfo of the key to certify, DER.
    pub fn spki(&self) -> Vec<u8> {
        self.key.verifying_key().to_public_key_der().unwrap().into_vec()
    }
}

/// What a join returns, in the protocol's own forms.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub tls: Vec<u8>,
    pub tls_cas: Vec<Vec<u8>>,
    pub ssh: Vec<u8>,
    pub ssh_cas: Vec<Vec<u8>>,
}

pub fn solution(solution: Vec<u8>) -> Request {
    let payload = Some(challenge_solution::Payload::TpmSolution(TpmSolution { solution }));
    Request::Solution(ChallengeSolution { payload })
}

pub fn legacy_solution(solution: Vec<u8>) -> LegacyRequest {
    LegacyRequest::ChallengeResponse(RegisterUsingTpmMethodChallengeResponse { solution })
}

/// A join under way in one of Teleport's services.
pub struct Talk<Q, R> {
    requests: mpsc::Sender<Q>,
    replies: Streaming<R>,
}

impl<Q, R> Talk<Q, R> {
    /// Sends any message. The authority may have ended the call already.
    pub async fn send_raw(&self, request: Q) {
        let _ = self.requests.send(request).await;
    }

    async fn message(&mut self) -> Result<R, Status> {
        let reply = tokio::time::timeout(TIMEOUT, self.replies.message()).await.unwrap()?;
        Ok(reply.expect("a reply"))
    }
}

impl Talk<JoinRequest, JoinResponse> {
    pub async fn send(&self, payload: Request) {
        self.send_raw(JoinRequest { payload: Some(payload) }).await;
    }

    pub async fn reply(&mut self) -> Result<Reply, Status> {
        Ok(self.message().await?.payload.expect("a payload"))
    }

    /// Credential blob and secret.
    pub async fn challenge(&mut self) -> Result<(Vec<u8>, Vec<u8>), Status> {
        match self.reply().await? {
            Reply::Challenge(made) => {
                let Some(challenge::Payload::TpmEncryptedCredential(made)) = made.payload else {
                    panic!("another challenge")
                };
                Ok((made.credential_blob, made.secret))
            }
            other => panic!("{other:?}"),
        }
    }
}

impl Talk<RegisterUsingTpmMethodRequest, RegisterUsingTpmMethodResponse> {
    pub async fn send(&self, payload: LegacyRequest) {
        self.send_raw(RegisterUsingTpmMethodRequest { payload: Some(payload) }).await;
    }

    pub async fn reply(&mut self) -> Result<LegacyReply, Status> {
        Ok(self.message().await?.payload.expect("a payload"))
    }

    /// Credential blob and secret.
    pub async fn challenge(&mut self) -> Result<(Vec<u8>, Vec<u8>), Status> {
        match self.reply().await? {
            LegacyReply::ChallengeRequest(made) => Ok((made.credential_blob, made.secret)),
            other @ LegacyReply::Certs(_) => panic!("{other:?}"),
        }
    }
}

impl Wire {
    /// Begins a join by `teleport.join.v1`.
    pub async fn teleport_join(&self) -> Result<Talk<JoinRequest, JoinResponse>, Status> {
        let (requests, stream) = mpsc::channel(8);
        let mut client = JoinServiceClient::new(self.channel.clone());
        let request = self.with_versions(ReceiverStream::new(stream));
        let replies = client.join(request).await?.into_inner();
        Ok(Talk { requests, replies })
    }

    /// Begins a join by `proto.JoinService`.
    pub async fn legacy_join(
        &self,
    ) -> Result<Talk<RegisterUsingTpmMethodRequest, RegisterUsingTpmMethodResponse>, Status> {
        let (requests, stream) = mpsc::channel(8);
        let mut client = LegacyClient::new(self.channel.clone());
        let request = self.with_versions(ReceiverStream::new(stream));
        let replies = client.register_using_tpm_method(request).await?.into_inner();
        Ok(Talk { requests, replies })
    }

    fn with_versions<S>(&self, stream: S) -> tonic::Request<S> {
        let mut request = tonic::Request::new(stream);
        for version in self.versions {
            request.metadata_mut().append("version", version.parse().unwrap());
        }
        request
    }
}

fn public_area(key: &SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    let mut public: Vec<u8> = AK_TEMPLATE.into_iter().flat_map(u16::to_be_bytes).collect();
    public.extend(sized(point.x().unwrap()));
    public.extend(sized(point.y().unwrap()));
    public
}

/// No PCRs, locality 0, the parent's name algorithm, Name and qualified Name, nothing from outside.
fn creation_data(parent: &[u8]) -> Vec<u8> {
    let no_pcrs = [vec![0; 4], sized(&Sha256::digest(b""))].concat();
    [no_pcrs, b"\x01\x00\x0b".to_vec(), sized(parent), sized(parent), sized(b"")].concat()
}

/// A Name, or a qualified one.
fn name(content: &[u8]) -> Vec<u8> {
    [&[0x00, 0x0b], &Sha256::digest(content)[..]].concat()
}

fn sized(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// RFC 5656 section 3.1.
fn ssh_key(key: &SigningKey) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    let parts = [&b"ecdsa-sha2-nistp256"[..], b"nistp256", point.as_bytes()];
    let string = |part: &[u8]| [&u32::try_from(part.len()).unwrap().to_be_bytes(), part].concat();
    parts.into_iter().flat_map(string).collect()
}
