//! What is due, and when.

use std::time::Duration;

use super::{
    CredentialState, Job, Machine, Moment, RenewalPolicy, Service, Validity, renewal_time,
};

impl Machine {
    /// How long until something is due: the earliest renewal or retry. The wall clock can jump, so do not sleep for
    /// much longer than a minute at a time without asking again.
    #[must_use]
    pub fn time_until_due(&self, now: Moment) -> Duration {
        const MAX: Duration = Duration::from_secs(3600);
        if self.running.is_some() {
            return MAX;
        }
        let identity = self.wait(&self.identity, self.policy, now);
        let services = self.services.iter();
        let services = services.map(|service| self.wait(&service.credential, service.policy, now));
        let rejoin = self
            .rejoin
            .as_ref()
            .map_or(MAX, |credential| credential.retry_at.saturating_sub(now.boot));
        services.fold(identity, Duration::min).min(rejoin).min(MAX)
    }

    /// Renews together what is nearly due, over one connection: each handshake costs the TPM two commands.
    ///
    /// Jitter moves renewals at equal intervals apart. So as soon as one is due, all others are renewed with it whose
    /// earliest possible time (seed 0) has passed. A service with the identity's interval is always among them.
    pub(super) fn include_what_is_nearly_due(&mut self, now: Moment) {
        if !matches!(self.due(now), Some(Job::Renew | Job::Issue(_))) {
            return;
        }
        let services =
            self.services.iter_mut().map(|service| (&mut service.credential, service.policy));
        for (credential, policy) in
            std::iter::once((&mut self.identity, self.policy)).chain(services)
        {
            let earliest = CredentialState { seed: 0, ..credential.clone() };
            let is_healthy = credential.failures == 0 && !credential.follow_up_due;
            credential.renew_now |= is_healthy && Self::renewal(&earliest, policy, now) <= now.wall;
        }
    }

    pub(super) fn due(&self, now: Moment) -> Option<Job> {
        let is_due = |rejoin: &CredentialState| rejoin.retry_at <= now.boot;
        if self.rejoin.as_ref().is_some_and(is_due) && self.identity_is_valid(now.wall) {
            return Some(Job::Join);
        }
        if self.wait(&self.identity, self.policy, now).is_zero() {
            return Some(match self.identity_is_valid(now.wall) {
                false => Job::Join,
                true if Self::is_follow_up(&self.identity, self.policy, now) => Job::Store,
                true => Job::Renew,
            });
        }
        if !self.identity_is_valid(now.wall) {
            return None;
        }
        let services = self.services.iter().enumerate();
        let due = services
            .filter(|(_, service)| self.wait(&service.credential, service.policy, now).is_zero());
        // A retry may take long, for example at a file system that hangs: what has not failed is not kept waiting.
        let next = due.min_by_key(|(_, Service { credential, .. })| {
            (credential.failures > 0).then_some(credential.retry_at)
        });
        next.map(|(index, Service { credential, policy, .. })| {
            if Self::is_follow_up(credential, *policy, now) {
                Job::RunHook(index)
            } else {
                Job::Issue(index)
            }
        })
    }

    /// Whether what follows a renewal is next, and not another renewal.
    fn is_follow_up(credential: &CredentialState, policy: RenewalPolicy, now: Moment) -> bool {
        let is_fresh = !credential.renew_now && now.wall < Self::renewal(credential, policy, now);
        credential.follow_up_due && (is_fresh || credential.follow_up_first)
    }

    /// How long until credentials are due; zero if they are. After a failure they are due again even if a corrected clock
    /// has made the old ones valid: health reports the failure until there is a success.
    fn wait(&self, credential: &CredentialState, policy: RenewalPolicy, now: Moment) -> Duration {
        let retry = credential.retry_at.max(credential.limit.retry_at()).saturating_sub(now.boot);
        if credential.renew_now || credential.failures > 0 || credential.follow_up_due {
            return retry;
        }
        let until = Self::renewal(credential, policy, now).saturating_sub(now.wall);
        retry.max(Duration::from_secs(u64::try_from(until).unwrap_or(0)))
    }

    /// When credentials are to be renewed; now if they are not valid. Their lifetime counts from when they were received:
    /// authorities date certificates back, and counted from `not_before` short ones would be renewed endlessly.
    fn renewal(credential: &CredentialState, policy: RenewalPolicy, now: Moment) -> i64 {
        match credential.validity {
            Some(validity) if validity.is_valid_at(now.wall) => {
                let not_before = validity.not_before.max(credential.received.unwrap_or(i64::MIN));
                renewal_time(Validity { not_before, ..validity }, policy.interval, credential.seed)
            }
            _ => now.wall,
        }
    }
}
