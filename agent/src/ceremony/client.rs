//! What the agent asks of the authority: to join, and, on a connection that the key in the TPM has authenticated, to renew
//! and to issue.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use host::budget::Budget;
use host::clock;
use host::exit::{Exit, Failure};
use p256::ecdsa::{Signature, VerifyingKey};
use proto::transcript;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{self, IssueRequest, RenewRequest, WhoAmIRequest, WhoAmIResponse};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use tls::{CaPin, DigestSigner, RemoteKey, ServerTrust};
use tonic::{Code, Status};
use verifier::JoinKey as AppraisedKey;

use crate::ceremony::approach::{Approach, Reached};
use crate::ceremony::chain::StoredChain;
use crate::ceremony::channel::Channel;
use crate::ceremony::connection::{CallTime, End, MAX_CALL};
use crate::ceremony::endorse_v1::{self, EndorseV1, seconds};
use crate::ceremony::rejoin::cas_of;
use crate::ceremony::teleport::{auth_service_name, renewal_name};
use crate::ceremony::{Granted, JoinParameters, SubjectForm};
use crate::config::{FirstContact, Protocol, Trust};
use crate::credential::identity::{Identity, Joined};
use crate::credential::{Credentials, Unverified, Voucher, is_name};
use crate::keys::{Key, spki_der};
use crate::log::Log;
use crate::tpm::attester::JoinKey;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Tpm, TpmThread};

/// A connection that waited longer for the TPM is opened again before the join begins.
const MAX_CONNECTION_IDLE: Duration = Duration::from_secs(5);

/// The addresses of the authority, and how it is authenticated.
#[derive(Clone, Debug)]
pub struct Client {
    addresses: Vec<String>,
    trust: Trust,
    contact: FirstContact,
    /// The protocol of the configuration; without, the server decides it.
    protocol: Option<Protocol>,
    log: Option<Log>,
    history: Arc<History>,
}

/// What earlier connections have shown about the addresses and the TPM.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The index of the address to begin with.
    pub(super) first: AtomicUsize,
    /// Whether the last connection could not be made.
    pub(super) failed: AtomicBool,
    /// Whether the server has refused an RSA attestation key too: the algorithm is not what it refuses.
    pub(super) rsa_refused: AtomicBool,
    chain: StoredChain,
}

impl Client {
    /// A client of an authority that has at least one address, in the order in which to try them.
    ///
    /// # Errors
    /// The CA file cannot be read, or has no certificate.
    pub fn new(addresses: Vec<String>, trust: &Trust) -> Result<Self, Failure> {
        let (trust, contact) = (trust.clone(), trust.read()?);
        Ok(Self { addresses, trust, contact, protocol: None, log: None, history: Arc::default() })
    }

    /// The same, which logs what it passes over.
    #[must_use]
    pub fn with_log(self, log: Log) -> Self {
        Self { log: Some(log), ..self }
    }

    /// The same, which joins by this protocol only.
    #[must_use]
    pub fn by(self, protocol: Option<Protocol>) -> Self {
        Self { protocol, ..self }
    }

    /// By which protocol to join a host that may have an identity. That of the identity is kept until the configuration has
    /// another one, or the CAs of another cluster: a server must not be able to make a host join by a weaker one.
    #[must_use]
    pub fn protocol(&self, stored: Option<&Identity>) -> Option<Protocol> {
        let is_kept = |identity: &&Identity| identity.is_of(self.pins());
        self.protocol.or_else(|| Some(stored.filter(is_kept)?.protocol))
    }

    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(super) const fn contact(&self) -> &FirstContact {
        &self.contact
    }

    pub(super) const fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(super) const fn log(&self) -> Option<Log> {
        self.log
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    /// The pins of the configured CAs of the cluster; none if the server is verified by its public name.
    #[must_use]
    pub fn pins(&self) -> &[CaPin] {
        self.contact.pins()
    }

    /// Proves the TPM and receives an identity, which is verified but not yet stored. If one address is not available, the
    /// next is tried.
    ///
    /// # Errors
    /// Those of the TPM, the network and the authority.
    pub async fn join(&self, tpm: &TpmThread, wanted: JoinParameters) -> Result<Identity, Failure> {
        let mut others = self.addresses.len();
        loop {
            let joined = self.join_once(tpm, wanted.clone()).await;
            others = others.saturating_sub(1);
            match joined {
                Err(failure) if self.avoids(&failure) && others > 0 => {}
                joined => return joined,
            }
        }
    }

    async fn join_once(
        &self,
        tpm: &TpmThread,
        wanted: JoinParameters,
    ) -> Result<Identity, Failure> {
        // No TPM command is sent before the server is reached.
        let contact = self.first_contact().await?;
        let reached = self.find(&contact, wanted.protocol).await?;
        let (token, ttl) = (wanted.token.clone(), wanted.ttl);
        let (granted, authority) = match reached.protocol {
            Protocol::Endorse => self.join_endorse(reached, tpm, wanted).await?,
            Protocol::Teleport => self.join_teleport(reached, tpm, wanted).await?,
        };
        let Granted { issued, key, ek, join_key, attestation_key } = granted;
        let joined = Joined {
            authority,
            ca_pins: self.pins().to_vec(),
            first_contact: contact.description,
            token,
            ttl,
            at: clock::now().unix_timestamp(),
        };
        let voucher = match &self.contact {
            FirstContact::ClusterCas { pins, .. } => Voucher::ClusterCas(pins),
            FirstContact::PublicName => Voucher::PublicName,
        };
        let credentials = verify(issued, &key, voucher)?;
        Ok(Identity::new(joined, credentials, &ek, &join_key)?.attested_by(attestation_key))
    }

    async fn join_endorse(
        &self,
        reached: Reached,
        tpm: &TpmThread,
        wanted: JoinParameters,
    ) -> Result<(Granted, String), Failure> {
        let Reached { mut connection, mut address, approach, .. } = reached;
        let since = tokio::time::Instant::now();
        let ceremony = EndorseV1::prepare(tpm, wanted).await?;
        // An authority does not wait long for the join on a connection without certificate.
        if since.elapsed() > MAX_CONNECTION_IDLE {
            (connection, address) = self.connect(&approach).await?;
        }
        Ok((ceremony.join(connection, tpm, &self.history.chain).await?, address))
    }

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
            return Err(Failure::new(
                Exit::Config,
                "the identity is of a Teleport cluster, which lets a host only join",
                "see `agent status`, or join an authority of this project",
            ));
        }
        let trusted = identity.trusted(self.pins()).map_err(damaged)?;
        let trust = ServerTrust::Pins(trusted.clone());
        // A server that is not the authority costs no TPM command, except the first time.
        if self.history.failed.load(Ordering::Relaxed) {
            self.connect(&Approach::Authority(trust.clone(), None)).await?;
        }
        let known = identity.join_key().map_err(damaged)?;
        let ek = identity.known_ek().map_err(damaged)?;
        let load = move |tpm: &mut Tpm| match passwords.endorsement().expose() {
            [] => JoinKey::load(tpm, &known),
            _ => JoinKey::load_by_password(tpm, &known, &ek, &passwords),
        };
        let key = tpm.call(load).await?;
        let appraised = AppraisedKey::appraise(key.public()).map_err(Failure::bug)?;
        let not_after = identity.validity().map_err(damaged)?.not_after;
        let certified = certified(tpm, key, identity)?;
        let (connection, authority) =
            self.connect(&Approach::Authority(trust, Some(certified))).await?;
        Ok(Authenticated {
            service: IdentityServiceClient::with_origin(connection.channel, Channel::origin())
                .max_decoding_message_size(endorse_v1::MAX_ANSWER),
            exporter: connection.exporter,
            end: connection.end,
            budget: connection.budget,
            authority,
            client: self.clone(),
            not_after,
            trusted,
            key: appraised,
        })
    }

    /// Checks that the authority can be reached and is trusted, without an identity. Returns what it was verified with.
    ///
    /// # Errors
    /// Those of the network; or the server is not the trusted authority.
    pub async fn reach(&self) -> Result<String, Failure> {
        let contact = self.first_contact().await?;
        self.find(&contact, self.protocol).await?;
        Ok(contact.description)
    }

    /// The same, trusting the CAs that this identity trusts.
    ///
    /// # Errors
    /// As [`Self::reach`]; or the identity is damaged.
    pub async fn reach_as(&self, identity: &Identity) -> Result<(), Failure> {
        let approach = match identity.protocol {
            Protocol::Endorse => {
                let trusted = identity.trusted(self.pins()).map_err(damaged)?;
                Approach::Authority(ServerTrust::Pins(trusted), None)
            }
            Protocol::Teleport => {
                let name = renewal_name(&identity.cluster).unwrap_or_else(auth_service_name);
                self.auth_service(name, cas_of(identity)).await?
            }
        };
        self.connect(&approach).await.map(drop)
    }

    /// Whether to try another address after this failure; the next connection then begins there.
    fn avoids(&self, failure: &Failure) -> bool {
        let is_unavailable = failure.exit == Exit::Unavailable;
        if is_unavailable {
            let next = |first: usize| first.checked_add(1)?.checked_rem(self.addresses.len());
            let _ = self.history.first.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
        is_unavailable
    }
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

/// A stored identity that cannot be used.
pub(super) fn damaged(error: String) -> Failure {
    Failure::new(Exit::Data, error, "run `agent join` again")
}

/// Verifies credentials now.
pub(super) fn verify(
    issued: Unverified,
    key: &VerifyingKey,
    voucher: Voucher<'_>,
) -> Result<Credentials, Failure> {
    Credentials::verify(issued, key, voucher, clock::unix_now())
}

/// A connection that was authenticated with an identity.
#[derive(Debug)]
pub struct Authenticated {
    service: IdentityServiceClient<Channel>,
    exporter: [u8; 32],
    end: End,
    budget: Budget,
    /// The end of the certificate that was shown, seconds since 1970.
    not_after: i64,
    authority: String,
    client: Client,
    /// The CAs that authenticated the server.
    trusted: Vec<CaPin>,
    key: AppraisedKey,
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
        };
        self.budget.set(Some(MAX_CALL));
        let renewed = CallTime::new().wait(self.service.renew(request)).await;
        let issued = renewed.map_err(|status| self.refused(&status))?.into_inner();
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

    /// Requests certificates for a service's key, with the form of subject that its users can read.
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
        };
        self.budget.set(Some(MAX_CALL));
        let issued = CallTime::new().wait(self.service.issue(request)).await;
        let issued = issued.map_err(|status| self.refused(&status))?.into_inner();
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

    /// The failure of a call.
    fn refused(&self, status: &Status) -> Denied {
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

/// This host's name; characters that are not allowed in names are left out.
pub(crate) fn hostname() -> String {
    // From the kernel, since a systemd unit may hide the files that contain it.
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let plain = name.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c));
    plain.take(253).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tpm::inventory::EkChoice;

    /// The identity of a host that has joined, by this protocol.
    fn joined(protocol: &str) -> Identity {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/identity/joined");
        let mut json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        json["protocol"] = protocol.into();
        Identity::from_json(&json.to_string()).unwrap()
    }

    /// A server that claims not to know a protocol is not asked for another one.
    #[test]
    fn protocol_of_an_identity_is_kept_until_the_operator_changes_it() {
        let (endorse, teleport) = (joined("endorse"), joined("teleport"));
        let own: CaPin = endorse.ca_pins[0].parse().unwrap();
        let other = format!("sha256:{}", "00".repeat(32)).parse().unwrap();
        let client = |pin| Client::new(vec!["a:1".into()], &Trust::Pins(vec![pin])).unwrap();
        let auto = client(own);
        assert_eq!(auto.protocol(None), None);
        assert_eq!(auto.protocol(Some(&endorse)), Some(Protocol::Endorse));
        assert_eq!(auto.protocol(Some(&teleport)), Some(Protocol::Teleport));
        // Pins of another cluster say nothing about its protocol.
        assert_eq!(client(other).protocol(Some(&endorse)), None);
        let fixed = auto.by(Some(Protocol::Teleport));
        assert_eq!(fixed.protocol(Some(&endorse)), Some(Protocol::Teleport));
        let mismatch = |protocol| endorse.mismatch(None, &[own], EkChoice::Auto, protocol);
        assert_eq!(mismatch(Some(Protocol::Endorse)), None);
        assert!(mismatch(Some(Protocol::Teleport)).unwrap().contains("protocol is now teleport"));
    }
}
