//! Comparing files with what was written, beside the jobs.

use super::{Action, Holder, Job, Machine, Outcome};

/// A comparison that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileCheck {
    /// What was up to date when it began, and what no job has replaced since.
    holders: Vec<Holder>,
    /// Whether the identity is the one that there was when it began.
    is_same_identity: bool,
}

impl Machine {
    /// Begins a comparison.
    pub(super) fn check_files(&mut self) -> Option<Action> {
        let is_busy = self.running.is_some() || self.file_check.is_some();
        if is_busy || self.stopping || self.oneshot {
            return None;
        }
        let holders = self.holders().filter(|holder| self.is_up_to_date(*holder)).collect();
        self.file_check = Some(FileCheck { holders, is_same_identity: true });
        Some(Action::CheckFiles)
    }

    /// The comparison has ended, and nothing was found that was not known.
    #[must_use]
    pub fn file_check_ended(mut self) -> Self {
        self.file_check = None;
        self
    }

    /// What a job replaces is no longer part of the check.
    pub(super) fn exclude_from_file_check(&mut self, job: Job, outcome: Outcome) {
        let (Some(check), Outcome::Valid(_) | Outcome::NotStored(_) | Outcome::HookFailed(_)) =
            (&mut self.file_check, outcome)
        else {
            return;
        };
        check.holders.retain(|holder| job.holder() != Some(*holder));
        check.is_same_identity &= job.holder() != Some(Holder::Identity);
    }

    pub(super) fn files_checked(&mut self, changed: &[Holder], mismatched: bool) {
        for holder in
            changed.iter().copied().filter(|holder| self.is_checked(*holder)).collect::<Vec<_>>()
        {
            match (holder, self.credential_mut(holder)) {
                // It is in memory, so that no authority is needed.
                (Holder::Identity, Some(credential)) => credential.follow_up_due = true,
                (Holder::Service(_), Some(credential)) => credential.renew_now = true,
                (_, None) => {}
            }
        }
        if self.is_same_identity() && mismatched != self.is_rejoining() {
            *self = self.clone().rejoining(mismatched);
        }
        self.file_check = None;
    }

    /// Whether the comparison is about the identity that there is now.
    #[must_use]
    pub fn is_same_identity(&self) -> bool {
        self.file_check.as_ref().is_some_and(|check| check.is_same_identity)
    }

    /// Whether the check's result for these credentials is about what is in place now.
    #[must_use]
    pub fn is_checked(&self, holder: Holder) -> bool {
        self.file_check.as_ref().is_some_and(|check| check.holders.contains(&holder))
            && self.is_up_to_date(holder)
    }

    /// Whether these credentials are in place and nothing is due, as far as is known.
    #[must_use]
    pub fn is_up_to_date(&self, holder: Holder) -> bool {
        let credential = match holder {
            Holder::Identity => Some(&self.identity),
            Holder::Service(index) => self.services.get(index).map(|service| &service.credential),
        };
        self.running.is_none_or(|job| job.holder() != Some(holder))
            && credential.is_some_and(|credential| {
                let is_due = credential.renew_now || credential.follow_up_due;
                credential.validity.is_some() && credential.failures == 0 && !is_due
            })
    }

    fn holders(&self) -> impl Iterator<Item = Holder> + use<> {
        let services = (0..self.services.len()).map(Holder::Service);
        std::iter::once(Holder::Identity).chain(services)
    }
}
