//! A call of a bot instance for credentials: decided by the caller's records as they are now, and recorded with its audit event.
//!
//! Of the caller only the key and the certificate are trusted, which TLS has verified. The bot's roles, the token's rules and
//! locks are read at each call. Each end of a call is one line in the audit log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;
use tracing::info;

use super::caller::{Caller, CallerRecords};
use super::grant::{CheckedBot, Grant, MAX_RETRIES, PendingGrant, overtaken};
use super::refusal::Refusal;
use super::{Authority, Peer};
use crate::audit::{Action, Attempt, Event};
use crate::resource::{Bot, BotInstance, Timestamp};
use crate::store::Basis;

/// What a caller asks for.
pub(crate) trait CallRequest: Send + Sync + 'static {
    /// What it gets.
    type Issued: Issued;

    /// The event of the audit log.
    fn action(&self) -> Action;

    /// Adds what the request says to what is recorded, granted or not.
    fn describe(&self, attempt: &mut Attempt);

    /// Checks that this caller may ask: an instance itself, whose key is in its TPM. Returns the generation of its certificate.
    fn check_caller(
        &self,
        records: &CallerRecords,
        caller: &Caller,
    ) -> Result<Option<u64>, Refusal> {
        let presented = records.check_is_instance(caller)?;
        records.check_key_in_tpm()?;
        Ok(Some(presented))
    }

    /// Decides, and issues. The call may be decided again.
    fn decide(
        &self,
        call: &mut JudgedCall<'_>,
    ) -> impl Future<Output = Result<Self::Issued, Refusal>> + Send;
}

/// What was issued.
pub(crate) trait Issued: Send + 'static {
    /// Adds what was issued to what is recorded.
    fn describe(&self, attempt: &mut Attempt);
}

/// A call whose caller may ask: what it is decided by, and what it changes.
pub(crate) struct JudgedCall<'a> {
    pub(super) authority: &'a Authority,
    pub(super) caller: &'a Caller,
    /// The caller's bot, as it is now.
    pub(super) bot: &'a Bot,
    /// The caller's record, which becomes this.
    pub(super) instance: BotInstance,
    /// What the write of the grant requires unchanged.
    pub(super) basis: Basis,
    /// The generation of the caller's certificate, if it is that of the instance itself.
    pub(super) presented: Option<u64>,
    pub(super) now: OffsetDateTime,
}

/// A call in progress.
pub(crate) struct Call<R> {
    authority: Arc<Authority>,
    peer: Peer,
    request: R,
    attempt: Attempt,
}

impl<R: CallRequest> Call<R> {
    pub(crate) fn new(authority: Arc<Authority>, peer: Peer, request: R) -> Self {
        let mut attempt = Attempt::from(peer.remote);
        request.describe(&mut attempt);
        Self { authority, peer, request, attempt }
    }

    pub(crate) async fn run(mut self) -> Result<Grant<R::Issued>, Refusal> {
        let result = self.grant().await;
        let action = self.request.action();
        self.authority.count(action, &result);
        self.authority.note_generation(&self.attempt);
        result.inspect_err(|refusal| {
            self.authority.record_refusal(action, &self.peer, self.attempt, refusal);
        })
    }

    /// Waits for earlier calls with the same key. Callers with other keys do not delay the instance.
    async fn grant(&mut self) -> Result<Grant<R::Issued>, Refusal> {
        let authority = Arc::clone(&self.authority);
        let caller = Caller::of(&self.peer, &authority)?;
        self.attempt.bot_name = Some(caller.subject.bot.clone());
        self.attempt.bot_instance_id = Some(caller.subject.instance.to_string());
        authority.call_queues.run(&caller.key_hash, self.grant_to(&caller)).await
    }

    /// Issues credentials, records them, and returns them. A caller that has credentials is always recorded.
    async fn grant_to(&mut self, caller: &Caller) -> Result<Grant<R::Issued>, Refusal> {
        let authority = Arc::clone(&self.authority);
        let mut tries = MAX_RETRIES;
        loop {
            let now = authority.clock.now();
            let records = authority.caller_records(caller, now).await?;
            let (pending, attempt) = self.decide(caller, records, now).await?;
            if let Some(grant) = authority.record(pending).await? {
                self.note(&grant, &attempt);
                return Ok(grant);
            }
            tries = tries.checked_sub(1).ok_or_else(overtaken)?;
        }
    }

    /// What is to be recorded, and what its event says.
    async fn decide(
        &mut self,
        caller: &Caller,
        records: CallerRecords,
        now: OffsetDateTime,
    ) -> Result<(PendingGrant<R::Issued>, Attempt), Refusal> {
        let status = &records.recorded.instance.status;
        self.attempt.token_name = Some(status.join_token.to_string());
        self.attempt.ek_pub_hash = Some(status.ek.public_hash.clone());
        self.attempt.ek_cert_serial.clone_from(&status.ek.certificate_serial);
        self.attempt.ek_cert_verified = status.ek.verified_by.is_some();
        let presented = self.request.check_caller(&records, caller)?;
        self.authority.check_token(&records.recorded.instance, now).await?;
        let mut instance = records.recorded.instance.clone();
        self.authority.excuse_generation(&mut instance, presented);
        let recorded = instance.status.generation;
        self.attempt.presented_generation =
            presented.and_then(|presented| self.outdated(presented, recorded));
        let CallerRecords { judged: CheckedBot { bot, basis }, recorded } = records;
        let mut call = JudgedCall {
            authority: &self.authority,
            caller,
            bot: &bot,
            instance,
            basis,
            presented,
            now,
        };
        let issued = self.request.decide(&mut call).await?;
        let JudgedCall { mut instance, basis, .. } = call;
        instance.status.last_seen = Timestamp(now);
        let mut attempt = self.attempt.clone();
        attempt.generation = Some(instance.status.generation);
        issued.describe(&mut attempt);
        let event = Event::granted(self.request.action(), Timestamp(now), attempt.clone());
        let before = Some(recorded);
        Ok((PendingGrant { issued, event, instance, basis, evidence: None, before }, attempt))
    }

    fn note(&self, grant: &Grant<R::Issued>, attempt: &Attempt) {
        let (action, instance) = (self.request.action(), &grant.instance);
        if action == Action::Renew {
            self.peer.renewed.store(instance.status.generation, Ordering::Relaxed);
        }
        info!(
            event = action.event(), instance = instance.path(),
            generation = instance.status.generation, remote = %self.peer.remote,
            service = attempt.service, serial = attempt.certificate_serial, "granted"
        );
    }

    /// The generation of a certificate that is not the latest one: a clone may have renewed, or an
    /// answer was lost. The key is in the TPM, so the caller is not refused.
    ///
    /// A host that renews and then asks for what its services need still shows, on this peer,
    /// the certificate from before.
    fn outdated(&self, presented: u64, recorded: u64) -> Option<u64> {
        let just_renewed = self.request.action() != Action::Renew
            && presented.checked_add(1) == Some(recorded)
            && self.peer.renewed.load(Ordering::Relaxed) == recorded;
        (presented != recorded && !just_renewed).then_some(presented)
    }
}
