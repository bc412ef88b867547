//! Comparing files with what was written, beside the jobs: where a file system hangs, that takes for ever.

use std::time::Duration;

use super::{Action, Job, Machine, Moment, Outcome, Part};

/// A comparison that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// What was settled when it began, and what no job has replaced since.
    parts: Vec<Part>,
    /// Whether the identity is the one that there was when it began.
    is_same_identity: bool,
    /// When it is reported as overdue, on the boot clock; `None` once it has been.
    overdue_at: Option<Duration>,
}

impl Machine {
    /// A comparison that takes longer is reported.
    pub const LOOK_OVERDUE: Duration = Duration::from_secs(60);

    /// Begins a comparison, or reports the one that does not end. There is never a second one: it would hang too.
    pub(super) fn look(&mut self, now: Moment) -> Option<Action> {
        if let Some(look) = &mut self.look {
            return look.overdue_at.take_if(|at| *at <= now.boot).map(|_| Action::ReportLook);
        }
        if self.running.is_some() || self.stopping || self.oneshot {
            return None;
        }
        let parts = self.parts().filter(|part| self.is_up_to_date(*part)).collect();
        let overdue_at = Some(now.boot.saturating_add(Self::LOOK_OVERDUE));
        self.look = Some(Look { parts, is_same_identity: true, overdue_at });
        Some(Action::Look)
    }

    /// What a job replaces is not what is being looked at.
    pub(super) fn replaced(&mut self, job: Job, outcome: Outcome) {
        let (Some(look), Outcome::Valid(_) | Outcome::ReloadFailed(_)) = (&mut self.look, outcome)
        else {
            return;
        };
        look.parts.retain(|part| job.part() != Some(*part));
        look.is_same_identity &= job.part() != Some(Part::Identity);
    }

    /// Under another configuration nothing is what it was.
    pub(super) fn replaced_all(&mut self) {
        if let Some(look) = &mut self.look {
            (look.parts, look.is_same_identity) = (Vec::new(), false);
        }
    }

    pub(super) fn looked(&mut self, changed: &[Part], departed: bool) {
        for part in changed.iter().copied().filter(|part| self.is_judged(*part)).collect::<Vec<_>>()
        {
            if let Some(unit) = self.unit_mut(part) {
                unit.wanted = true;
            }
        }
        if self.is_same_identity() && departed != self.is_rejoining() {
            *self = self.clone().rejoining(departed);
        }
        self.look = None;
    }

    /// Whether the comparison is about the identity that there is now.
    #[must_use]
    pub fn is_same_identity(&self) -> bool {
        self.look.as_ref().is_some_and(|look| look.is_same_identity)
    }

    /// Whether what the comparison says of a part is true of what is in place now.
    #[must_use]
    pub fn is_judged(&self, part: Part) -> bool {
        self.look.as_ref().is_some_and(|look| look.parts.contains(&part))
            && self.is_up_to_date(part)
    }

    /// Whether nothing is to be done about what is in place, as far as is known.
    #[must_use]
    pub fn is_up_to_date(&self, part: Part) -> bool {
        let unit = match part {
            Part::Identity => Some(&self.identity),
            Part::Service(index) => self.services.get(index).map(|service| &service.unit),
        };
        self.running.is_none_or(|job| job.part() != Some(part))
            && unit
                .is_some_and(|unit| unit.validity.is_some() && unit.failures == 0 && !unit.wanted)
    }

    fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let services = (0..self.services.len()).map(Part::Service);
        std::iter::once(Part::Identity).chain(services)
    }
}
