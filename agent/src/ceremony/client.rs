//! A host's way to its authority: it joins by it, and asks whether it can be reached.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use p256::ecdsa::VerifyingKey;
use tls::{CaPin, ServerTrust};

use crate::ceremony::approach::{Approach, Reached};
use crate::ceremony::chain::StoredChain;
use crate::ceremony::endorse_v1::EndorseV1;
use crate::ceremony::reissue::Reissue;
use crate::ceremony::{Granted, JoinParameters};
use crate::config::{FirstContact, Protocol, Trust};
use crate::credential::identity::{Identity, Joined};
use crate::credential::{Credentials, Unverified, Voucher};
use crate::log::Log;
use crate::tpm::thread::TpmThread;

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
    reissue: Reissue,
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
    followed: Mutex<Option<Followed>>,
}

/// CAs that were replaced, and those to which they have led.
#[derive(Clone, Debug)]
struct Followed {
    from: Vec<CaPin>,
    to: Vec<CaPin>,
}

impl History {
    /// Remembers that these CAs have led to those.
    pub(super) fn follow(&self, from: Vec<CaPin>, to: Vec<CaPin>) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Followed { from, to });
    }
}

impl Client {
    /// A client of an authority that has at least one address, in the order in which to try them.
    ///
    /// # Errors
    /// The CA file cannot be read, or has no certificate.
    pub fn new(addresses: Vec<String>, trust: &Trust) -> Result<Self, Failure> {
        let (trust, contact) = (trust.clone(), trust.read()?);
        Ok(Self {
            addresses,
            trust,
            contact,
            protocol: None,
            log: None,
            reissue: Reissue::default(),
            history: Arc::default(),
        })
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

    /// The same, which says there if everything has to be renewed.
    #[must_use]
    pub fn reissuing(self, reissue: Reissue) -> Self {
        Self { reissue, ..self }
    }

    pub(super) const fn reissue(&self) -> &Reissue {
        &self.reissue
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

    /// The CAs to which these have led, as far as an earlier connection has shown it; otherwise the same.
    pub(super) fn present(&self, trusted: &[CaPin]) -> Vec<CaPin> {
        let followed = self.history.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let to = followed.as_ref().filter(|followed| followed.from == trusted);
        to.map_or_else(|| trusted.to_vec(), |followed| followed.to.clone())
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
        let present = self.present(self.pins());
        let voucher = match &self.contact {
            FirstContact::ClusterCas { .. } => Voucher::ClusterCas(&present),
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

    /// Checks that the authority can be reached and is trusted, as a join would of a host that may have an identity. Returns what
    /// it was verified with.
    ///
    /// # Errors
    /// Those of the network; or the server is not the trusted authority.
    pub async fn reach(&self, stored: Option<&Identity>) -> Result<String, Failure> {
        let contact = self.first_contact().await?;
        self.find(&contact, self.protocol(stored)).await?;
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
            Protocol::Teleport => self.auth_service(identity).await?,
        };
        self.connect(&approach).await.map(drop)
    }

    /// Whether to try another address after this failure; the next connection then begins there.
    pub(super) fn avoids(&self, failure: &Failure) -> bool {
        let is_unavailable = failure.exit == Exit::Unavailable;
        if is_unavailable {
            let next = |first: usize| first.checked_add(1)?.checked_rem(self.addresses.len());
            let _ = self.history.first.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
        is_unavailable
    }
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
