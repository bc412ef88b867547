//! Joining, renewing and storing the identity.

use std::sync::Arc;

use host::exit::{Exit, Failure};

use super::found::{kept, superseded};
use super::{Store, Worker, call};
use crate::ceremony::authenticated::Denied;
use crate::ceremony::{JoinAttempt, JoinParameters};
use crate::config::Protocol;
use crate::credential::identity::Identity;
use crate::daemon::machine::Validity;
use crate::file_access::SHORT_TIMEOUT;
use crate::log::Log;
use crate::tpm::passwords::Passwords;

/// The lifetime of an identity that was taken over, and why it is not in the storage.
type Kept = (Validity, Option<Failure>);

impl Worker {
    pub(super) async fn join(&mut self) -> Result<Kept, Denied> {
        let mismatch = self.mismatch.reason();
        if let Some(mismatch) = &mismatch {
            self.log.info("joining again", &[("reason", mismatch)]);
        }
        let joined = self.join_once().await;
        self.not_joined = None;
        match (joined, mismatch) {
            (Err(Denied::Failed(failure)), Some(mismatch)) => {
                let failure = superseded(failure, &mismatch);
                self.not_joined = Some((mismatch, failure.clone()));
                Err(Denied::Failed(failure))
            }
            (Ok(kept), _) => {
                self.mismatch.note(None);
                Ok(kept)
            }
            (denied, _) => denied,
        }
    }

    /// What is wrong with an identity that was renewed and is not the one that is asked for: why the last attempt to join
    /// again failed, if there was one.
    pub(super) fn superseded(&self) -> Option<Failure> {
        let mismatch = self.mismatch.reason()?;
        Some(match &self.not_joined {
            Some((of, failure)) if *of == mismatch => failure.clone(),
            _ => kept(&mismatch),
        })
    }

    async fn join_once(&mut self) -> Result<Kept, Denied> {
        let (token, passwords) = self.secrets().await?;
        // Another EK is wanted where another kind is asked for by name.
        let choice = self.settings.tpm.ek;
        let same = |identity: &&Identity| choice.allows(&identity.tpm.ek);
        let known = self.identity.as_ref().filter(same).map(Identity::known_ek).transpose();
        let known = known.map_err(|error| Failure::new(Exit::Data, error, "remove the storage"))?;
        let identity = self.identity.as_ref();
        let wanted = JoinParameters {
            token,
            choice,
            known,
            passwords,
            ttl: self.settings.lifetime.ttl,
            protocol: self.client.protocol(identity),
            attestation_key: identity.map(Identity::attestation_key).unwrap_or_default(),
            attempt: self.attempt().await?,
        };
        let tpm = self.open_tpm().await?;
        let joined = self.stop.limit(self.client.join(&tpm.thread, wanted));
        let joined = call(self.log, "join", joined).await;
        self.close(tpm).await;
        let joined = joined?;
        announce(self.log, &joined);
        self.keep(joined).await
    }

    /// The join to make. If it cannot be stored, it is made all the same: then a lost result may leave an instance that nobody uses.
    async fn attempt(&self) -> Result<JoinAttempt, Failure> {
        let Store::Directory(storage) = &self.store else { return JoinAttempt::new() };
        let (storage, identity) = (Arc::clone(storage), self.identity.clone());
        let stored = move || storage.join_attempt(identity.as_ref());
        let stored = self.access.storage.run_within(SHORT_TIMEOUT, stored);
        match self.stop.limit_files(stored).await {
            Ok(attempt) => Ok(attempt),
            Err(failure) => {
                self.log.warn("the join cannot be stored", &[("cause", &failure.message)]);
                JoinAttempt::new()
            }
        }
    }

    /// What a join is made with.
    async fn secrets(&self) -> Result<(String, Passwords), Failure> {
        let settings = Arc::clone(&self.settings);
        let token = self.access.token.run_within(SHORT_TIMEOUT, move || settings.token.read());
        Ok((self.stop.limit_files(token).await?, self.passwords().await?))
    }

    pub(super) async fn passwords(&self) -> Result<Passwords, Failure> {
        self.stop.limit_files(self.tpm.passwords()).await
    }

    pub(super) async fn renew(&mut self) -> Result<Kept, Denied> {
        let identity = self.identity.clone().ok_or_else(|| Failure::bug("no identity to renew"))?;
        if identity.protocol == Protocol::Teleport {
            return self.rejoin(&identity).await;
        }
        let ttl = self.settings.lifetime.ttl;
        let (stop, log) = (self.stop.clone(), self.log);
        let connection = self.connection(&identity).await?;
        let renewed = call(log, "renew", stop.limit(connection.renew(&identity, ttl))).await?;
        self.keep(renewed).await
    }

    /// Renews an identity of a Teleport cluster, which takes a join.
    async fn rejoin(&mut self, identity: &Identity) -> Result<Kept, Denied> {
        let known = identity.known_ek();
        let known = known.map_err(|error| Failure::new(Exit::Data, error, "remove the storage"))?;
        let passwords = self.passwords().await?;
        let wanted = JoinParameters {
            token: identity.token.clone(),
            choice: self.settings.tpm.ek,
            known: Some(known),
            passwords,
            ttl: self.settings.lifetime.ttl,
            protocol: Some(identity.protocol),
            attestation_key: identity.attestation_key(),
            attempt: JoinAttempt::new()?,
        };
        let tpm = self.open_tpm().await?;
        let rejoined = self.stop.limit(self.client.rejoin(&tpm.thread, identity, wanted));
        let rejoined = call(self.log, "rejoin", rejoined).await;
        self.close(tpm).await;
        self.keep(rejoined?).await
    }

    /// Takes over an identity, and stores it. If it cannot be stored, it is used all the same: the one in the storage will expire.
    async fn keep(&mut self, identity: Identity) -> Result<Kept, Denied> {
        let validity = validity(&identity)?;
        self.shared_identity.send_replace(Some(Arc::new(identity.clone())));
        (self.identity, self.is_stored) = (Some(identity), false);
        Ok((validity, self.store().await.err()))
    }

    /// Stores the identity.
    pub(super) async fn store(&mut self) -> Result<(), Failure> {
        if let (Store::Directory(storage), Some(identity)) = (&self.store, &self.identity) {
            let (storage, identity) = (Arc::clone(storage), identity.clone());
            let place = self.socket_place.clone();
            let store = move || {
                let notices = storage.store(&identity)?;
                Ok((notices, place.and_then(|place| place.recreate())))
            };
            let (notices, socket) = self.stop.limit_files(self.access.storage.run(store)).await?;
            self.socket = socket;
            for notice in notices {
                self.log.warn(&notice, &[]);
            }
        }
        self.is_stored = true;
        Ok(())
    }
}

/// Logs who the host is now, for those who look for the instance in the cluster.
fn announce(log: Log, joined: &Identity) {
    let fields: [(&str, &dyn std::fmt::Display); 3] =
        [("bot", &joined.bot), ("instance", &joined.instance), ("protocol", &joined.protocol)];
    log.info("joined as a new bot instance", &fields);
}

fn validity(identity: &Identity) -> Result<Validity, Failure> {
    identity.validity().map_err(|error| Failure::new(Exit::Data, error, ""))
}
