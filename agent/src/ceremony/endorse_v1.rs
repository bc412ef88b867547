//! The messages of a join, as docs/protocol.md describes them; `proto::transcript` has the bytes of the proof.

use std::error::Error as _;
use std::time::Duration;

use host::exit::{Exit, Failure};
use p256::ecdsa::Signature;
use prost::Message;
use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::join_request::Step as Request;
use proto::v1::join_response::Step as Response;
use proto::v1::join_service_client::JoinServiceClient;
use proto::v1::{
    self, IssuedCredentials, JoinAnswer, JoinChallenge, JoinInit, JoinRequest, JoinResponse,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use verifier::{CaCertificate, JoinKey as AppraisedKey};

use crate::ceremony::chain::StoredChain;
use crate::ceremony::channel::Channel;
use crate::ceremony::client::hostname;
use crate::ceremony::connection::{CallTime, Connection};
use crate::ceremony::wording::{AUTHORITY, Wording};
use crate::ceremony::{Granted, JoinAttempt, JoinParameters, SubjectForm};
use crate::config::Protocol;
use crate::credential::{Names, Unverified};
use crate::tpm::attester::{Attester, JoinKey, KeysToMake, KnownEk};
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Tpm, TpmThread};

/// Bytes of the longest answer: a challenge has one kilobyte, a result five. An entry of two bytes takes 24 bytes of memory.
pub(crate) const MAX_ANSWER: usize = 32 * 1024;

/// Bytes of a reason that are repeated to the operator.
const MAX_REASON: usize = 1024;

/// A join by `endorse.v1`: the key that is certified is the key that the TPM is proven to hold.
pub(super) struct EndorseV1 {
    attester: Attester,
    who: Who,
    passwords: Passwords,
}

/// What the host states about itself, for the record.
struct Who {
    token: String,
    hostname: String,
    ttl: Duration,
    /// Of the join.
    id: [u8; 16],
}

impl EndorseV1 {
    /// Creates the join key in the TPM. This can take longer than an authority keeps an idle connection.
    pub(super) async fn prepare(tpm: &TpmThread, wanted: JoinParameters) -> Result<Self, Failure> {
        let JoinParameters { token, choice, known, passwords, ttl, attempt, .. } = wanted;
        let JoinAttempt { id, unique } = attempt;
        let by = passwords.clone();
        let prepare = move |tpm: &mut Tpm| {
            Attester::prepare(tpm, choice, known, &by, KeysToMake::only(&unique))
        };
        let attester = tpm.call(prepare).await?;
        let who = Who { token, hostname: hostname(), ttl, id };
        Ok(Self { attester, who, passwords })
    }

    /// Proves it to the authority at the other end of this connection.
    pub(super) async fn join(
        self,
        connection: Connection,
        tpm: &TpmThread,
        stored: &StoredChain,
    ) -> Result<Granted, Failure> {
        let Self { attester, who, passwords } = self;
        let join_key = attester.join_key().known().clone();
        let appraised = AppraisedKey::appraise(&join_key.public).map_err(|error| {
            let message =
                format!("the TPM created a key that does not match the template: {error}");
            Failure::new(
                Exit::Data,
                message,
                "update the driver and the firmware of the TPM: one of them is faulty",
            )
        })?;
        let key = *appraised.verifying_key();
        let (issued, ek) = prove(connection, tpm, attester, &who, passwords, stored).await?;
        Ok(Granted { issued: issued.into(), key, ek, join_key, attestation_key: None })
    }
}

/// Proves the attester's keys on this connection. Returns the issued credentials, not verified yet, and the endorsement key with
/// the certificates that were sent.
///
/// An authority that refuses before its challenge may lack intermediate certificates. They are read from the TPM only then:
/// most TPMs do not need them, and reading costs at least one command.
///
/// # Errors
/// [`Exit::Refused`] with the authority's words, [`Exit::Data`] if it does not keep to the ceremony, the TPM's.
async fn prove(
    connection: Connection,
    tpm: &TpmThread,
    mut attester: Attester,
    who: &Who,
    passwords: Passwords,
    stored: &StoredChain,
) -> Result<(IssuedCredentials, KnownEk), Failure> {
    let mut client = JoinServiceClient::with_origin(connection.channel, Channel::origin())
        .max_decoding_message_size(MAX_ANSWER);
    let mut time = CallTime::new();
    let mut opened = open(&mut client, &attester, who, &mut time).await;
    let is_denied = opened.as_ref().is_err_and(|unopened| unopened.is_denied);
    if let Some(certificate) = attester.ek().certificate.as_ref().filter(|_| is_denied) {
        let chain = stored.read(tpm, certificate, passwords).await?;
        if !chain.is_empty() && !is_same(&chain, &attester.ek().chain) {
            attester.take_chain(chain);
            let second = open(&mut client, &attester, who, &mut time).await;
            opened = match (opened, second) {
                (Err(first), Err(second)) => Err(second.after(&first)),
                (_, second) => second,
            };
        }
    }
    let Opened { init, challenge, requests, mut answers } =
        opened.map_err(|unopened| unopened.failure)?;
    let ek = attester.ek().clone();
    let transcript = Transcript::new(
        &connection.exporter,
        &init,
        &challenge.credential_blob,
        &challenge.encrypted_seed,
    );
    let answer = answer(tpm, attester, challenge, transcript).await?;
    requests.send(request(Request::Answer(answer))).await.map_err(|_| hung_up())?;
    drop(requests);

    let Response::Result(result) = next(&mut answers, &mut time).await? else {
        return Err(disorder("a second challenge"));
    };
    match time.wait(answers.message()).await {
        Ok(None) => Ok((result, ek)),
        Ok(Some(_)) => Err(disorder("another message after the result")),
        Err(status) => Err(refused(&status)),
    }
}

/// A join that the authority has answered with a challenge.
struct Opened {
    init: Vec<u8>,
    challenge: JoinChallenge,
    requests: mpsc::Sender<JoinRequest>,
    answers: Streaming<JoinResponse>,
}

/// Why the authority has not answered with a challenge.
struct Unopened {
    failure: Failure,
    /// It refused this TPM, so intermediate certificates may change the decision. A busy authority has decided nothing, and must
    /// not be asked twice.
    is_denied: bool,
}

impl Unopened {
    /// The second of two claims is often refused because of the cost of the first one, so both reasons are reported.
    fn after(mut self, first: &Self) -> Self {
        if self.is_denied && self.failure.message != first.failure.message {
            let before = &first.failure.message;
            self.failure.message +=
                &format!("; the claim without its CA certificates was {before}");
        }
        self
    }
}

impl From<Failure> for Unopened {
    fn from(failure: Failure) -> Self {
        Self { failure, is_denied: false }
    }
}

impl From<Status> for Unopened {
    fn from(status: Status) -> Self {
        Self { failure: refused(&status), is_denied: status.code() == Code::PermissionDenied }
    }
}

async fn open(
    client: &mut JoinServiceClient<Channel>,
    attester: &Attester,
    who: &Who,
    time: &mut CallTime,
) -> Result<Opened, Unopened> {
    let init = init(attester, who).encode_to_vec();
    let (requests, outgoing) = mpsc::channel(2);
    requests.send(request(Request::Init(init.clone()))).await.map_err(|_| hung_up())?;
    let call = client.join(ReceiverStream::new(outgoing));
    let mut answers = time.wait(call).await?.into_inner();
    match time.wait(answers.message()).await?.and_then(|message| message.step) {
        Some(Response::Challenge(challenge)) => Ok(Opened { init, challenge, requests, answers }),
        Some(Response::Result(_)) => Err(disorder("a result before its challenge").into()),
        None => Err(disorder("nothing").into()),
    }
}

fn is_same(one: &[CaCertificate], other: &[CaCertificate]) -> bool {
    one.iter().map(CaCertificate::der).eq(other.iter().map(CaCertificate::der))
}

fn init(attester: &Attester, who: &Who) -> JoinInit {
    let ek = attester.ek();
    JoinInit {
        token: who.token.clone(),
        ek: Some(match &ek.certificate {
            Some(certificate) => Ek::EkCertificate(certificate.der().to_vec()),
            None => Ek::EkPublic(ek.key.spki_der()),
        }),
        ek_chain: ek.chain.iter().map(|ca| ca.der().to_vec()).collect(),
        join_key: attester.join_key().public().to_vec(),
        hostname: who.hostname.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        ttl_seconds: seconds(who.ttl),
        ek_name_alg: attester.ek_name_alg().into(),
        join_id: who.id.to_vec(),
    }
}

async fn answer(
    tpm: &TpmThread,
    mut attester: Attester,
    challenge: JoinChallenge,
    transcript: Transcript,
) -> Result<JoinAnswer, Failure> {
    let prove = move |tpm: &mut Tpm| {
        let secret =
            attester.activate(tpm, &challenge.credential_blob, &challenge.encrypted_seed)?;
        let signature = sign(tpm, attester.join_key(), &transcript.signed_message())?;
        Ok(JoinAnswer { mac: transcript.mac(secret.expose()).to_vec(), signature })
    };
    tpm.call(prove).await
}

/// Signs with the join key. The signature is verified before it is sent, since a faulty ECDSA signature can reveal the private
/// key.
fn sign(tpm: &mut Tpm, key: &JoinKey, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let [r, s] = key.sign(tpm, &Sha256::digest(message).into())?;
    let public = AppraisedKey::appraise(key.public()).map_err(Failure::bug)?;
    let der = Signature::from_scalars(r, s).map(|signature| signature.to_der().to_bytes());
    der.ok().filter(|der| public.verify(message, der).is_ok()).map(Vec::from).ok_or_else(|| {
        Failure::new(
            Exit::Data,
            "the TPM's signature does not verify with the join key",
            "check the TPM, its driver and its bus: one of them is faulty, or an attacker modifies the bus",
        )
    })
}

const fn request(step: Request) -> JoinRequest {
    JoinRequest { step: Some(step) }
}

async fn next(
    answers: &mut Streaming<JoinResponse>,
    time: &mut CallTime,
) -> Result<Response, Failure> {
    let message = time.wait(answers.message()).await.map_err(|status| refused(&status))?;
    message.and_then(|message| message.step).ok_or_else(|| disorder("nothing"))
}

pub(super) fn hung_up() -> Failure {
    Failure::new(Exit::Unavailable, "the authority closed the connection", "try again")
}

/// The authority violates the protocol.
pub(super) fn disorder(sent: &str) -> Failure {
    Failure::new(
        Exit::Data,
        format!("the authority sent {sent}"),
        "check that the versions of agent and authority are compatible",
    )
}

/// What a status of the authority means for the agent. Only a decision against the host is
/// [`Exit::Refused`]; an authority that cannot decide now is [`Exit::Unavailable`], so that the
/// agent tries again soon.
pub fn refused(status: &Status) -> Failure {
    refused_by(&AUTHORITY, status)
}

/// The same of any server.
pub(super) fn refused_by(server: &Wording, status: &Status) -> Failure {
    let Wording { name, whose, .. } = server;
    // A status from the authority has no source; with a source it comes from a library at this end.
    if let Some(cause) = status.source() {
        return Failure::new(
            Exit::Unavailable,
            format!("the connection to {name} was lost"),
            format!("try again; check {whose} log and the network"),
        )
        .caused_by(cause);
    }
    let said = status.message();
    let said = match said.get(..said.floor_char_boundary(MAX_REASON)).unwrap_or(said) {
        "" => "it gave no reason",
        said => said,
    };
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            Failure::new(
                Exit::Unavailable,
                format!("{name} is unavailable: {said}"),
                format!("try again; check {whose} log"),
            )
        }
        Code::ResourceExhausted => {
            Failure::new(Exit::Unavailable, format!("{name} is busy: {said}"), "try again later")
        }
        Code::Internal => Failure::new(
            Exit::Unavailable,
            format!("{name} failed: {said}"),
            format!("check {whose} log"),
        ),
        Code::Unimplemented => Failure::new(
            Exit::Data,
            format!("{name} does not know this call"),
            server.or_other_protocol("check that the versions of agent and server are compatible"),
        ),
        Code::OutOfRange | Code::DataLoss => disorder(said),
        _ => Failure::new(
            Exit::Refused,
            format!("refused by {name}: {said}"),
            format!(
                "ask {whose} operator, whose audit log has the reason; `agent identify` shows what \
                 a token must allow"
            ),
        ),
    }
}

impl From<IssuedCredentials> for Unverified {
    fn from(issued: IssuedCredentials) -> Self {
        let IssuedCredentials { cluster, bot, instance, generation, .. } = issued;
        Self {
            protocol: Protocol::Endorse,
            names: Names { cluster, bot, instance, generation },
            certificates: issued.certificates,
            x509_cas: issued.x509_authorities,
            ssh_certificate: issued.ssh_certificate,
            ssh_cas: issued.ssh_authorities,
            ssh_host_cas: issued.ssh_host_authorities,
            trust_version: issued.trust_version,
        }
    }
}

impl From<SubjectForm> for v1::SubjectForm {
    fn from(form: SubjectForm) -> Self {
        match form {
            SubjectForm::Full => Self::Full,
            SubjectForm::Plain => Self::Plain,
        }
    }
}

/// A lifetime as messages have it.
pub(crate) fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_both_claims_are_reported() {
        let denied = |text: &str| Unopened::from(Status::permission_denied(text));
        let both = denied("an earlier claim cost too much").after(&denied("not signed"));
        assert_eq!(
            both.failure.message,
            "refused by the authority: an earlier claim cost too much; \
             the claim without its CA certificates was refused by the authority: not signed"
        );
        let same = denied("not signed").after(&denied("not signed"));
        assert_eq!(same.failure.message, "refused by the authority: not signed");
        let busy = Unopened::from(Status::resource_exhausted("busy")).after(&denied("not signed"));
        assert_eq!(busy.failure.message, "the authority is busy: busy");
    }

    #[test]
    fn lost_connection_is_reported_without_the_words_of_libraries() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let status = Status::from_error(Box::new(reset));
        let failure = refused(&status);
        assert_eq!(failure.exit, Exit::Unavailable);
        assert_eq!(failure.message, "the connection to the authority was lost");
        assert_eq!(failure.cause, "connection reset");
        assert_eq!(refused(&Status::unavailable("stopping")).cause, "");
        let silent = refused(&Status::unavailable(""));
        assert_eq!(silent.message, "the authority is unavailable: it gave no reason");
    }

    /// As many entries as an answer has room for.
    #[test]
    fn longest_answer_takes_half_a_megabyte_at_most() {
        const CERTIFICATES: u8 = (1 << 3) | 2;
        let entries = [CERTIFICATES, 0].repeat(MAX_ANSWER / 2);
        let issued = IssuedCredentials::decode(&entries[..]).unwrap();
        assert_eq!(issued.certificates.len(), MAX_ANSWER / 2);
        let taken = issued.certificates.capacity() * size_of::<Vec<u8>>();
        assert!(taken + MAX_ANSWER <= 512 * 1024, "{taken}");
    }
}
