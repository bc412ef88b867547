//! Joins by Teleport's protocols: the first, and those that renew an identity.

use std::sync::atomic::Ordering;
use std::time::Duration;

use host::exit::{Exit, Failure};
use rustls::pki_types::CertificateDer;
use tls::ServerTrust;

use crate::ceremony::approach::{Approach, Reached};
use crate::ceremony::authenticated::{Denied, certified};
use crate::ceremony::client::{Client, damaged, verify};
use crate::ceremony::connection::Connection;
use crate::ceremony::route::ClusterServer;
use crate::ceremony::teleport::{Attempt, Teleport, Unjoined};
use crate::ceremony::{Granted, JoinParameters};
use crate::config::FirstContact;
use crate::credential::Voucher;
use crate::credential::identity::Identity;
use crate::tpm::attester::{AkAlgorithm, KnownJoinKey};
use crate::tpm::thread::TpmThread;

/// A connection that waited longer for the TPM is opened again.
const MAX_CONNECTION_IDLE: Duration = Duration::from_secs(5);

impl Client {
    /// How the Auth Service is approached that has issued an identity.
    pub(super) async fn auth_service(&self, identity: &Identity) -> Result<Approach, Failure> {
        let cluster = cluster_of(identity);
        Ok(match self.contact() {
            FirstContact::ClusterCas { .. } => {
                Approach::AuthService(cluster.server_name(), cluster.trust, None)
            }
            FirstContact::PublicName => {
                let roots = self.system_roots().await?.roots;
                Approach::AuthThroughProxy(roots, cluster, None)
            }
        })
    }

    /// Joins a Teleport cluster for the first time, on a connection or, if that has become useless, on another one.
    pub(super) async fn join_teleport(
        &self,
        reached: Reached,
        tpm: &TpmThread,
        wanted: JoinParameters,
    ) -> Result<(Granted, String), Failure> {
        let Reached { connection, address, approach, .. } = reached;
        let key = Prepared::first(tpm, &wanted).await?;
        // A server does not wait long for the join.
        let connected = key.is_quick().then_some((connection, address));
        let joined = self.attempts(connected, |_| Ok(approach.clone()), tpm, wanted, key).await;
        joined.map_err(|unjoined| unjoined.failure)
    }

    /// Renews an identity of a Teleport cluster: the host joins again as this bot instance, with the same key.
    ///
    /// # Errors
    /// Those of the TPM, the network and the server.
    pub async fn rejoin(
        &self,
        tpm: &TpmThread,
        identity: &Identity,
        wanted: JoinParameters,
    ) -> Result<Identity, Denied> {
        let auth_service = self.auth_service(identity).await?;
        // A server that is not the one that is meant costs no TPM command, except the first time. Not every Proxy passes on
        // connections to the Auth Service.
        let is_through_proxy = matches!(auth_service, Approach::AuthThroughProxy(..));
        if is_through_proxy || self.history().failed.load(Ordering::Relaxed) {
            match self.connect(&auth_service).await {
                Err(failure) if self.is_closed_proxy(&auth_service).await => {
                    return Err(Denied::IdentityGone(not_passed_on(&failure)));
                }
                reached => reached.map(drop)?,
            }
        }
        let known = identity.join_key().map_err(damaged)?;
        let prepared = Prepared::again(tpm, &wanted, known).await?;
        let approach = |prepared: &Prepared| {
            let key = prepared.teleport.join_key().clone();
            let certified = certified(tpm, key, identity)?;
            Ok(auth_service.clone().showing(certified))
        };
        let ttl = wanted.ttl;
        let joined = self.attempts(None, approach, tpm, wanted, prepared).await;
        let (granted, address) = joined.map_err(|unjoined| match unjoined.is_denied {
            true => Denied::IdentityGone(unjoined.failure),
            false => Denied::Failed(unjoined.failure),
        })?;
        if !identity.is_renewed_by(&granted.issued.names) {
            let message = "the server renewed a different identity";
            return Err(Failure::new(
                Exit::Data,
                message,
                "check the server's log; nothing was stored",
            )
            .into());
        }
        let bundle = identity.bundle().map_err(damaged)?;
        let voucher = Voucher::ClusterCas(bundle.pins());
        let credentials = verify(granted.issued, &granted.key, voucher)?;
        Ok(identity.renewed(address, credentials, ttl)?.attested_by(granted.attestation_key))
    }

    /// Attempts to join until a server has decided. An attempt that follows another has a connection of its own, since the
    /// former one may be what failed, unless the server has said on it that it does not know the service.
    async fn attempts(
        &self,
        mut connected: Option<(Connection, String)>,
        approach: impl Fn(&Prepared) -> Result<Approach, Failure>,
        tpm: &TpmThread,
        wanted: JoinParameters,
        mut prepared: Prepared,
    ) -> Result<(Granted, String), Unjoined> {
        let mut attempt = Attempt::first(wanted.attestation_key);
        // Another key takes some chips half a minute, at each of many joins that are refused.
        let is_rsa_refused = || self.history().rsa_refused.load(Ordering::Relaxed);
        loop {
            if attempt.algorithm != prepared.algorithm {
                prepared = prepared.with(tpm, &wanted, attempt.algorithm).await?;
            }
            let (connection, address) = match connected.take() {
                Some(connected) => connected,
                None => self.connect(&approach(&prepared)?).await?,
            };
            let joined = prepared.teleport.join(&connection, tpm, attempt.service).await;
            match joined {
                Ok(granted) => return Ok((granted, address)),
                Err(Unjoined { next: Some(next), failure, is_answered, .. })
                    if next.algorithm == attempt.algorithm || !is_rsa_refused() =>
                {
                    connected = is_answered.then_some((connection, address));
                    if let Some(log) = self.log() {
                        log.debug("trying to join in another way", &[("reason", &failure.message)]);
                    }
                    attempt = next;
                }
                Err(unjoined) => {
                    let is_another = attempt.algorithm != wanted.attestation_key;
                    if is_another && unjoined.failure.exit == Exit::Refused {
                        self.history().rsa_refused.store(true, Ordering::Relaxed);
                    }
                    return Err(unjoined);
                }
            }
        }
    }
}

/// The Proxy serves joins, but not the Auth Service.
fn not_passed_on(failure: &Failure) -> Failure {
    Failure::new(
        Exit::Refused,
        format!(
            "the Proxy does not pass on renewals, so the host joins as a new bot instance: {}",
            failure.message
        ),
        "give the address of the Auth Service as `auth_server` to keep the bot instance",
    )
}

/// The cluster that has issued an identity.
fn cluster_of(identity: &Identity) -> ClusterServer {
    let cas = identity.x509_cas().map(|der| CertificateDer::from(der.to_vec()));
    let trust = ServerTrust::Certificates(cas.collect());
    ClusterServer { name: identity.cluster.clone(), trust }
}

/// A join whose keys are in the TPM, and what created them.
struct Prepared {
    teleport: Teleport,
    algorithm: AkAlgorithm,
    took: Duration,
}

impl Prepared {
    async fn first(tpm: &TpmThread, wanted: &JoinParameters) -> Result<Self, Failure> {
        Self::new(tpm, wanted.clone(), wanted.attestation_key, None).await
    }

    async fn again(
        tpm: &TpmThread,
        wanted: &JoinParameters,
        join_key: KnownJoinKey,
    ) -> Result<Self, Failure> {
        Self::new(tpm, wanted.clone(), wanted.attestation_key, Some(join_key)).await
    }

    /// The same with an attestation key of another algorithm.
    async fn with(
        self,
        tpm: &TpmThread,
        wanted: &JoinParameters,
        algorithm: AkAlgorithm,
    ) -> Result<Self, Failure> {
        let known = Some(self.teleport.ek().clone());
        let join_key = self.teleport.join_key().known().clone();
        self.teleport.discard(tpm).await?;
        Self::new(tpm, JoinParameters { known, ..wanted.clone() }, algorithm, Some(join_key)).await
    }

    async fn new(
        tpm: &TpmThread,
        wanted: JoinParameters,
        algorithm: AkAlgorithm,
        join_key: Option<KnownJoinKey>,
    ) -> Result<Self, Failure> {
        let since = tokio::time::Instant::now();
        let teleport = Teleport::prepare(tpm, wanted, algorithm, join_key).await?;
        Ok(Self { teleport, algorithm, took: since.elapsed() })
    }

    fn is_quick(&self) -> bool {
        self.took <= MAX_CONNECTION_IDLE
    }
}
