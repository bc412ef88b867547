//! Certificates for hosts that have joined: new ones for the join key, and ones for other keys of the host.
//!
//! Of the caller only the key and the certificate are trusted, which TLS has verified. The bot's roles, the token's rules and
//! locks are read at each call. Each end of a call is one line in the audit log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::info;

use super::caller::{Caller, CallerRecords};
use super::grant::{Grant, MAX_RETRIES, PendingGrant, overtaken};
use super::impersonation::{self, Impersonation};
use super::refusal::{Code, Refusal};
use super::request::{HostInfo, Parsed};
use super::{Authority, Peer};
use crate::audit::{Action, Attempt, Event, bounded};
use crate::issue::{Credentials, Profile, SubjectKey, Ttl, Validity};
use crate::resource::{Bot, BotInstance, ServiceRecord, Timestamp};

/// What a caller asks for.
pub(crate) enum CallRequest {
    /// New certificates for its own key.
    Renew(Renewal),
    /// Certificates for another key.
    Issue(Issue),
    /// The same, as an agent of Teleport asks for them.
    Impersonate(Impersonation),
}

/// The request of a renewal.
pub(crate) struct Renewal {
    pub(crate) host: HostInfo,
    pub(crate) ttl: Parsed<Ttl>,
}

/// The request of certificates for another key of the caller's host.
pub(crate) struct Issue {
    /// The key to certify: SubjectPublicKeyInfo, DER.
    pub(crate) public_key: Vec<u8>,
    /// What its holder has signed: a SHA-256 digest that is different on each connection.
    pub(crate) digest: [u8; 32],
    /// The signature, as in X.509 certificates.
    pub(crate) signature: Vec<u8>,
    /// What the agent calls the service that the key is for. For the record only.
    pub(crate) service: String,
    pub(crate) profile: Parsed<Profile>,
    pub(crate) ttl: Parsed<Ttl>,
}

/// A call in progress.
pub(crate) struct Call {
    authority: Arc<Authority>,
    peer: Peer,
    request: CallRequest,
    attempt: Attempt,
}

impl Call {
    pub(crate) fn new(authority: Arc<Authority>, peer: Peer, request: CallRequest) -> Self {
        let mut attempt = Attempt::from(peer.remote);
        match &request {
            CallRequest::Renew(request) => {
                attempt.hostname = bounded(&request.host.hostname);
                attempt.agent_version = bounded(&request.host.agent_version);
            }
            CallRequest::Issue(request) => attempt.service = bounded(&request.service),
            CallRequest::Impersonate(_) => {
                attempt.service = Some(impersonation::SERVICE.to_owned())
            }
        }
        Self { authority, peer, request, attempt }
    }

    pub(crate) async fn run(mut self) -> Result<Grant, Refusal> {
        let result = self.grant().await;
        self.authority.count(self.request.action(), &result);
        self.authority.note_generation(&self.attempt);
        let action = self.request.action();
        result.inspect_err(|refusal| {
            self.authority.record_refusal(action, &self.peer, self.attempt, refusal);
        })
    }

    /// Waits for earlier calls with the same key. Callers with other keys do not delay the instance.
    async fn grant(&mut self) -> Result<Grant, Refusal> {
        let authority = Arc::clone(&self.authority);
        let caller = Caller::of(&self.peer, &authority)?;
        self.attempt.bot_name = Some(caller.subject.bot.clone());
        self.attempt.bot_instance_id = Some(caller.subject.instance.to_string());
        authority.call_queues.run(&caller.key_hash, self.grant_to(&caller)).await
    }

    /// Issues certificates, records them, and returns them. A caller that has certificates is always recorded.
    async fn grant_to(&mut self, caller: &Caller) -> Result<Grant, Refusal> {
        let authority = Arc::clone(&self.authority);
        let mut tries = MAX_RETRIES;
        let grant = loop {
            let now = authority.clock.now();
            let caller_records = authority.caller_records(caller, now).await?;
            let decision = self.decide(caller, caller_records, now).await?;
            if let Some(grant) = authority.record(decision).await? {
                break grant;
            }
            tries = tries.checked_sub(1).ok_or_else(overtaken)?;
        };
        let Grant { issued, instance, .. } = &grant;
        if let CallRequest::Renew(_) = self.request {
            self.peer.renewed.store(instance.status.generation, Ordering::Relaxed);
        }
        info!(
            event = self.request.action().event(), instance = instance.path(),
            generation = instance.status.generation, remote = %self.peer.remote,
            service = self.attempt.service, serial = issued.serial, "granted"
        );
        Ok(grant)
    }

    async fn decide(
        &mut self,
        caller: &Caller,
        caller_records: CallerRecords,
        now: time::OffsetDateTime,
    ) -> Result<PendingGrant, Refusal> {
        let (bot, mut instance) =
            (&caller_records.judged.bot, caller_records.recorded.instance.clone());
        let status = &instance.status;
        self.attempt.token_name = Some(status.join_token.to_string());
        self.attempt.ek_pub_hash = Some(status.ek.public_hash.clone());
        self.attempt.ek_cert_serial.clone_from(&status.ek.certificate_serial);
        self.attempt.ek_cert_verified = status.ek.verified_by.is_some();
        let presented = caller_records.check_is_instance(caller)?;
        // Certificates that are asked for in Teleport's way end with the caller's.
        if !matches!(self.request, CallRequest::Impersonate(_)) {
            caller_records.check_key_in_tpm()?;
        }
        self.authority.check_token(&instance, now).await?;
        self.attempt.presented_generation = self.outdated(presented, status.generation);
        let credentials =
            |bot: &Bot, instance: &BotInstance, profile, key: &SubjectKey, ttl: &Parsed<Ttl>| {
                let validity = Validity { now, ttl: ttl.clone()? };
                let issued =
                    self.authority.issuer.credentials(bot, instance, profile, key, validity);
                issued.map_err(Refusal::because(Code::Internal))
            };
        let issued = match &self.request {
            CallRequest::Renew(request) => {
                let key = public_key(&caller.public_key)?;
                let generation = status.generation.max(presented).saturating_add(1);
                let profile = Profile::identity(generation);
                let issued = credentials(bot, &instance, profile, &key, &request.ttl)?;
                let status = &mut instance.status;
                status.generation = generation;
                status.certificate_serial.clone_from(&issued.serial);
                status.hostname = bounded(&request.host.hostname).unwrap_or_default();
                status.agent_version = bounded(&request.host.agent_version).unwrap_or_default();
                status.renewed = Some(Timestamp(now));
                instance.set_expires(Timestamp(issued.not_after));
                issued
            }
            CallRequest::Issue(request) => {
                let key = request.proven()?;
                let profile = request.profile.clone()?;
                let issued = credentials(bot, &instance, profile, &key, &request.ttl)?;
                let service = bounded(&request.service).unwrap_or_default();
                instance.record_service(service, record(&issued, now), now);
                issued
            }
            CallRequest::Impersonate(request) => {
                let bot = request.narrow(bot.clone(), self.authority.issuer.cluster())?;
                let key = request.key.clone()?;
                let ttl = request.ttl(caller, now);
                let issued = credentials(&bot, &instance, Profile::IMPERSONATED, &key, &ttl)?;
                let service = impersonation::SERVICE.to_owned();
                instance.record_service(service, record(&issued, now), now);
                issued
            }
        };
        instance.status.last_seen = Timestamp(now);
        let CallerRecords { judged, recorded } = caller_records;
        let attempt = Attempt {
            generation: Some(instance.status.generation),
            certificate_serial: Some(issued.serial.clone()),
            certificate_expires: Some(Timestamp(issued.not_after)),
            ..self.attempt.clone()
        };
        let event = Event::granted(self.request.action(), Timestamp(now), attempt);
        Ok(PendingGrant { issued, event, instance, basis: judged.basis, before: Some(recorded) })
    }

    /// The generation of a certificate that is not the latest one: a clone may have renewed, or an
    /// answer was lost. The key is in the TPM, so the caller is not refused.
    ///
    /// A host that renews and then asks for what its services need still shows, on this peer,
    /// the certificate from before.
    fn outdated(&self, presented: u64, recorded: u64) -> Option<u64> {
        let just_renewed = !matches!(self.request, CallRequest::Renew(_))
            && presented.checked_add(1) == Some(recorded)
            && self.peer.renewed.load(Ordering::Relaxed) == recorded;
        (presented != recorded && !just_renewed).then_some(presented)
    }
}

impl Issue {
    /// The key to certify; the caller has it.
    fn proven(&self) -> Result<SubjectKey, Refusal> {
        let key = public_key(&self.public_key)?;
        let unproven = |_| Refusal::new(Code::KeyUnproven, "the key has not signed this request");
        key.verify_prehash(&self.digest, &self.signature).map_err(unproven)?;
        Ok(key)
    }
}

impl CallRequest {
    fn action(&self) -> Action {
        match self {
            Self::Renew(_) => Action::Renew,
            Self::Issue(_) | Self::Impersonate(_) => Action::Issue,
        }
    }
}

/// What is remembered of a certificate for another key.
fn record(issued: &Credentials, now: time::OffsetDateTime) -> ServiceRecord {
    ServiceRecord {
        certificate_serial: issued.serial.clone(),
        issued: Timestamp(now),
        expires: Timestamp(issued.not_after),
    }
}

/// A key whose holder can prove that by a signature.
fn public_key(der: &[u8]) -> Result<SubjectKey, Refusal> {
    match SubjectKey::from_spki(der) {
        Ok(key @ SubjectKey::P256(_)) => Ok(key),
        Ok(_) => Err(Refusal::new(Code::KeyMalformed, "the key is not on P-256")),
        Err(cause) => Err(Refusal::new(Code::KeyMalformed, cause)),
    }
}
