//! What a host that has an identity asks of the authority, on a connection that the key in the TPM has authenticated.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use host::budget::Budget;
use host::exit::{Exit, Failure};
use p256::ecdsa::Signature;
use proto::transcript;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::workload_service_client::WorkloadServiceClient;
use proto::v1::{self, IssueRequest, RenewRequest, WhoAmIRequest, WhoAmIResponse};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use tls::{CaPin, DigestSigner, RemoteKey, ServerTrust};
use tonic::{Code, Status};
use verifier::JoinKey as AppraisedKey;

use crate::ceremony::SubjectForm;
use crate::ceremony::approach::Approach;
use crate::ceremony::channel::Channel;
use crate::ceremony::client::{Client, damaged, hostname, verify};
use crate::ceremony::connection::{CallTime, End, MAX_CALL};
use crate::ceremony::endorse_v1::{self, seconds};
use crate::config::Protocol;
use crate::credential::identity::Identity;
use crate::credential::{Credentials, Unverified, Voucher, is_name};
use crate::keys::{Key, spki_der};
use crate::tpm::attester::JoinKey;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Tpm, TpmThread};

/// A connection that was authenticated with an identity.
#[derive(Debug)]
pub struct Authenticated {
    pub(super) service: IdentityServiceClient<Channel>,
    pub(super) workloads: WorkloadServiceClient<Channel>,
    pub(super) exporter: [u8; 32],
    end: End,
    pub(super) budget: Budget,
    /// The end of the certificate that was shown, seconds since 1970.
    not_after: i64,
    authority: String,
    client: Client,
    /// The cluster's name, which is its trust domain.
    pub(super) cluster: String,
    /// The CAs that authenticated the server.
    pub(super) trusted: Vec<CaPin>,
    /// That of the identity.
    trust_version: u64,
    key: AppraisedKey,
}

impl Client {
    /// Connects as `identity`, with two TPM commands, which create its key and sign with it; three or more with a password.
    ///
    /// # Errors
    /// Those of the TPM and the network; [`Exit::Refused`] if the authority does not accept the identity any more.
    pub async fn authenticate(
        &self,
        tpm: &TpmThread,
        identity: &Identity,
        passwords: Passwords,
    ) -> Result<Authenticated, Failure> {
        if identity.protocol == Protocol::Teleport {
            return Err(Failure::bug(
                "a Teleport cluster issues and renews nothing on a connection",
            ));
        }
        let trusted = identity.trusted(self.pins()).map_err(damaged)?;
        let trust = ServerTrust::Pins(trusted.clone());
        // A server that is not the authority costs no TPM command, except the first time.
        if self.history().failed.load(Ordering::Relaxed) {
            self.connect(&Approach::Authority(trust.clone(), None)).await?;
        }
        let key = load_key(tpm, identity, passwords).await?;
        let appraised = AppraisedKey::appraise(key.public()).map_err(Failure::bug)?;
        let not_after = identity.validity().map_err(damaged)?.not_after;
        let certified = certified(tpm, key, identity)?;
        let (connection, authority) =
            self.connect(&Approach::Authority(trust, Some(certified))).await?;
        let trusted = self.present(&trusted);
        Ok(Authenticated {
            workloads: WorkloadServiceClient::with_origin(
                connection.channel.clone(),
                Channel::origin(),
            )
            .max_decoding_message_size(endorse_v1::MAX_ANSWER),
            service: IdentityServiceClient::with_origin(connection.channel, Channel::origin())
                .max_decoding_message_size(endorse_v1::MAX_ANSWER),
            cluster: identity.cluster.clone(),
            exporter: connection.exporter,
            end: connection.end,
            budget: connection.budget,
            authority,
            client: self.clone(),
            not_after,
            trusted,
            trust_version: identity.trust_version,
            key: appraised,
        })
    }
}

impl Authenticated {
    /// The end of the certificate that was shown, seconds since 1970.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// New certificates for the same key.
    ///
    /// # Errors
    /// Those of the authority.
    pub async fn renew(&mut self, identity: &Identity, ttl: Duration) -> Result<Identity, Denied> {
        let request = RenewRequest {
            ttl_seconds: seconds(ttl),
            hostname: hostname(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_version: identity.trust_version,
        };
        self.budget.set(Some(MAX_CALL));
        let renewed = CallTime::new().wait(self.service.renew(request)).await;
        let issued = renewed.map_err(|status| self.refused(&status))?.into_inner();
        self.note_lowest(issued.min_trust_version);
        let issued = Unverified::from(issued);
        if !identity.is_renewed_by(&issued.names) {
            let message = "the authority renewed a different identity";
            return Err(Failure::new(
                Exit::Data,
                message,
                "check the authority's log; nothing was stored",
            )
            .into());
        }
        let credentials =
            verify(issued, self.key.verifying_key(), Voucher::ClusterCas(&self.trusted))?;
        credentials.bundle.pins().clone_into(&mut self.trusted);
        Ok(identity.renewed(self.authority.clone(), credentials, ttl)?)
    }

    /// Requests certificates for a service's key, with the form of subject that its users can read. A key in the TPM must have
    /// been proven: [`Self::prove_key`].
    ///
    /// # Errors
    /// Those of the authority.
    pub async fn issue(
        &mut self,
        key: &dyn Key,
        service: &str,
        subject: SubjectForm,
        ttl: Duration,
    ) -> Result<Credentials, Denied> {
        let public = key.public();
        let public_key = spki_der(&public)?;
        let digest = transcript::issue_digest(&self.exporter, &public_key);
        let request = IssueRequest {
            signature: key.sign(&digest).await?,
            public_key,
            ttl_seconds: seconds(ttl),
            service: service.to_owned(),
            subject: v1::SubjectForm::from(subject).into(),
            key_in_tpm: key.is_in_tpm(),
        };
        self.budget.set(Some(MAX_CALL));
        let issued = CallTime::new().wait(self.service.issue(request)).await;
        let issued = issued.map_err(|status| self.refused(&status))?.into_inner();
        self.note_lowest(issued.min_trust_version);
        Ok(verify(issued.into(), &public, Voucher::ClusterCas(&self.trusted))?)
    }

    /// Asks the authority which bot this host is.
    ///
    /// # Errors
    /// Those of the authority.
    pub async fn who_am_i(&mut self) -> Result<WhoAmIResponse, Denied> {
        self.budget.set(Some(MAX_CALL));
        let answer = CallTime::new().wait(self.service.who_am_i(WhoAmIRequest {})).await;
        let answer = answer.map_err(|status| self.refused(&status))?.into_inner();
        let names = [&answer.cluster, &answer.bot, &answer.spiffe_id, &answer.certificate_serial];
        if names.into_iter().chain(&answer.roles).all(|name| is_name(name)) {
            return Ok(answer);
        }
        let message = "the authority's response contains an invalid name";
        Err(Failure::new(Exit::Data, message, "check the authority's log").into())
    }

    /// Takes the lowest `trust_version` that credentials may have from an answer.
    pub(super) fn note_lowest(&self, lowest: u64) {
        self.client.reissue().note(lowest, self.trust_version);
    }

    /// The failure of a call.
    pub(super) fn refused(&self, status: &Status) -> Denied {
        if let Some(rejection) = self.end.rejection() {
            return Denied::IdentityGone(rejection);
        }
        let failure = endorse_v1::refused(status);
        self.client.avoids(&failure);
        match status.code() {
            Code::Unauthenticated => Denied::IdentityGone(failure),
            _ => Denied::Failed(failure),
        }
    }
}

/// Why a call with an identity failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The authority does not accept the identity any more. A new join may help.
    IdentityGone(Failure),
    /// Anything else.
    Failed(Failure),
}

impl From<Failure> for Denied {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::IdentityGone(failure) | Denied::Failed(failure) => failure,
        }
    }
}

/// Creates the key of an identity in the TPM again.
pub(super) async fn load_key(
    tpm: &TpmThread,
    identity: &Identity,
    passwords: Passwords,
) -> Result<JoinKey, Failure> {
    let known = identity.join_key().map_err(damaged)?;
    let ek = identity.known_ek().map_err(damaged)?;
    let load = move |tpm: &mut Tpm| match passwords.endorsement().expose() {
        [] => JoinKey::load(tpm, &known),
        _ => JoinKey::load_by_password(tpm, &known, &ek, &passwords),
    };
    tpm.call(load).await
}

/// The certificate of an identity with its key, which is in the TPM.
pub(super) fn certified(
    tpm: &TpmThread,
    key: JoinKey,
    identity: &Identity,
) -> Result<Arc<dyn ResolvesClientCert>, Failure> {
    let appraised = AppraisedKey::appraise(key.public()).map_err(Failure::bug)?;
    let signer = KeyInTpm { tpm: tpm.clone(), key, spki: appraised.spki_der() };
    let remote = RemoteKey::new(Arc::new(signer)).map_err(Failure::bug)?;
    let chain = identity.certificates().map(|der| CertificateDer::from(der.to_vec())).collect();
    let certified = tls::identity(chain, Arc::new(remote)).map_err(|error| {
        Failure::new(
            Exit::Data,
            format!("the stored certificate: {error}"),
            "run `agent join` again",
        )
    })?;
    Ok(certified)
}

/// The join key as rustls uses it: each signature is made in the TPM.
#[derive(Debug)]
struct KeyInTpm {
    tpm: TpmThread,
    key: JoinKey,
    spki: Vec<u8>,
}

impl DigestSigner for KeyInTpm {
    fn public_key(&self) -> SubjectPublicKeyInfoDer<'static> {
        SubjectPublicKeyInfoDer::from(self.spki.clone())
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let (key, digest) = (self.key.clone(), *digest);
        let [r, s] = self.tpm.call_blocking(move |tpm| key.sign(tpm, &digest))?;
        Ok(Signature::from_scalars(r, s)?.to_der().as_bytes().to_vec())
    }
}
