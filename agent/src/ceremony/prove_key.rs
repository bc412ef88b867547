//! The proof that a service's key is in the TPM with which the host joined.

use prost::Message;
use proto::transcript::Transcript;
use proto::v1::prove_key_request::Step as Request;
use proto::v1::prove_key_response::Step as Response;
use proto::v1::{JoinAnswer, JoinChallenge, ProveKeyInit, ProveKeyRequest, ProveKeyResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::ceremony::authenticated::{Authenticated, Denied};
use crate::ceremony::client::damaged;
use crate::ceremony::connection::{CallTime, MAX_CALL};
use crate::ceremony::endorse_v1::{disorder, hung_up};
use crate::credential::identity::Identity;
use crate::keys::TpmKey;
use crate::tpm::attester::KnownEk;

impl Authenticated {
    /// Proves that a service's key is in the TPM with which the host has joined as `identity`, unless the authority has the proof on
    /// record. Then it takes no TPM command.
    ///
    /// # Errors
    /// Those of the authority and of the TPM.
    pub async fn prove_key(
        &mut self,
        key: &TpmKey,
        identity: &Identity,
        service: &str,
    ) -> Result<(), Denied> {
        let ek = identity.known_ek().map_err(damaged)?;
        let init = ProveKeyInit {
            ek_public: ek.key.spki_der(),
            ek_name_alg: key.ek_name_alg(&ek).await?.into(),
            key: key.public_area()?,
            service: service.to_owned(),
        };
        let init = init.encode_to_vec();
        let (requests, outgoing) = mpsc::channel(2);
        let send = async |step| {
            requests.send(ProveKeyRequest { step: Some(step) }).await.map_err(|_| hung_up())
        };
        send(Request::Init(init.clone())).await?;
        self.budget.set(Some(MAX_CALL));
        let mut time = CallTime::new();
        let call = time.wait(self.service.prove_key(ReceiverStream::new(outgoing))).await;
        let mut answers = call.map_err(|status| self.refused(&status))?.into_inner();
        let challenge = match self.next(&mut answers, &mut time).await? {
            Response::Proven(_) => return Ok(()),
            Response::Challenge(challenge) => challenge,
        };
        let answer = answer(key, ek, challenge, &init, &self.exporter).await?;
        send(Request::Answer(answer)).await?;
        match self.next(&mut answers, &mut time).await? {
            Response::Proven(_) => Ok(()),
            Response::Challenge(_) => Err(disorder("a second challenge").into()),
        }
    }

    async fn next(
        &self,
        answers: &mut Streaming<ProveKeyResponse>,
        time: &mut CallTime,
    ) -> Result<Response, Denied> {
        let message = time.wait(answers.message()).await.map_err(|status| self.refused(&status))?;
        Ok(message.and_then(|message| message.step).ok_or_else(|| disorder("nothing"))?)
    }
}

async fn answer(
    key: &TpmKey,
    ek: KnownEk,
    challenge: JoinChallenge,
    init: &[u8],
    exporter: &[u8; 32],
) -> Result<JoinAnswer, Denied> {
    let JoinChallenge { credential_blob, encrypted_seed } = challenge;
    let transcript = Transcript::of_service_key(exporter, init, &credential_blob, &encrypted_seed);
    let mac = move |secret: &[u8]| transcript.mac(secret);
    let digest = transcript.signing_digest();
    let proof = key.prove(ek, credential_blob, encrypted_seed, mac, digest).await?;
    Ok(JoinAnswer { mac: proof.mac.to_vec(), signature: proof.signature })
}
