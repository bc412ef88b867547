//! The verdict: what was violated, how long recoveries took, and what grew. Pure: times are since the beginning.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::fault::Fault;
use super::observe::{Observation, Usage};

/// How long files may be unusable before the agent states why: it is observed once a second.
const GRACE: Duration = Duration::from_secs(5);
/// The same where the agent looks only once a minute.
const LATE_GRACE: Duration = Duration::from_secs(65);
/// The longest time until everything is in place again after the last fault has ended: the agent retries what someone has
/// to change every five minutes.
pub(super) const MAX_RECOVERY: Duration = Duration::from_secs(330);
/// The first and the last part of a run that are compared, at most; a third of it if that is less.
const WINDOW: Duration = Duration::from_secs(600);

/// What a process may have more of in the last window than in the first; medians are compared.
#[derive(Clone, Copy, Debug)]
struct Growth {
    what: &'static str,
    of: fn(&Sample) -> Option<u64>,
    most: u64,
    unit: u64,
}

const KIB: u64 = 1024;

/// What the agent's private memory may grow by. A leak of half a KiB at each of the 500 renewals of an hour adds more; without a
/// leak it is about 100 KiB, while threads and allocator reach their size.
const MAX_LEAK: u64 = 192 * KIB;

const GROWTHS: [Growth; 8] = [
    Growth {
        what: "agent: descriptors",
        of: |it| it.agent.map(|usage| usage.descriptors),
        most: 2,
        unit: 1,
    },
    Growth {
        what: "agent: threads",
        of: |it| it.agent.map(|usage| usage.threads),
        most: 2,
        unit: 1,
    },
    Growth {
        what: "agent: resident, KiB",
        of: |it| it.agent.map(|usage| usage.resident),
        most: 2048 * KIB,
        unit: KIB,
    },
    Growth {
        what: "agent: private, KiB",
        of: |it| it.agent.map(|usage| usage.private),
        most: MAX_LEAK,
        unit: KIB,
    },
    Growth {
        what: "authority: descriptors",
        of: |it| it.authority.map(|usage| usage.descriptors),
        most: 4,
        unit: 1,
    },
    Growth {
        what: "authority: threads",
        of: |it| it.authority.map(|usage| usage.threads),
        most: 4,
        unit: 1,
    },
    Growth {
        what: "authority: resident, KiB",
        of: |it| it.authority.map(|usage| usage.resident),
        most: 8192 * KIB,
        unit: KIB,
    },
    Growth {
        what: "authority: private, KiB",
        of: |it| it.authority.map(|usage| usage.private),
        most: 4096 * KIB,
        unit: KIB,
    },
];

/// What the processes had while no fault was active and everything was in place.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    agent: Option<Usage>,
    authority: Option<Usage>,
}

/// What is known of one kind of fault.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    times: u32,
    worst: Duration,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    violations: Vec<(Duration, String)>,
    /// Violations that last, so that each is reported once.
    lasting: BTreeMap<String, Duration>,
    faults: BTreeMap<Fault, Tally>,
    /// Faults since everything was in place, and when the last one ended.
    round: Vec<Fault>,
    ended: Option<Duration>,
    /// Until when the agent may not have looked yet.
    late_until: Duration,
    samples: Vec<Sample>,
    last: Duration,
    /// Most that the TPM held at rest: transient objects and sessions.
    handles: Option<(usize, usize)>,
    pub(super) skipped: Vec<(Fault, String)>,
    pub(super) renewals: String,
}

impl Ledger {
    pub(super) fn injected(&mut self, fault: Fault, at: Duration) {
        self.faults.entry(fault).or_default().times += 1;
        self.round.push(fault);
        self.ended = None;
        self.see_late(fault, at);
    }

    /// The fault ended. `others` are active still.
    pub(super) fn ended(&mut self, fault: Fault, at: Duration, others: bool) {
        self.see_late(fault, at);
        if !others {
            self.ended = Some(at);
        }
    }

    fn see_late(&mut self, fault: Fault, at: Duration) {
        if fault.is_seen_late() {
            self.late_until = self.late_until.max(at + LATE_GRACE);
        }
    }

    /// Whether everything is in place again after the last fault.
    pub(super) fn is_recovered(&self) -> bool {
        self.round.is_empty()
    }

    /// Takes a look into account. Returns how long the recovery took that ended with it, and what it was from.
    pub(super) fn record(
        &mut self,
        at: Duration,
        seen: &Observation,
    ) -> Option<(Vec<Fault>, Duration)> {
        self.last = at;
        self.judge(at, seen);
        if self.round.is_empty() {
            if seen.is_healthy() {
                let Observation { agent, authority, .. } = *seen;
                self.samples.push(Sample { at, agent, authority });
            }
            return None;
        }
        let took = at.saturating_sub(self.ended?);
        if !seen.is_healthy() && took <= MAX_RECOVERY {
            return None;
        }
        if !seen.is_healthy() {
            let names = names(&self.round);
            self.violations.push((at, format!("no recovery from {names}: {}", trouble(seen))));
        }
        for fault in &self.round {
            let tally = self.faults.entry(*fault).or_default();
            tally.worst = tally.worst.max(took);
        }
        self.ended = None;
        Some((std::mem::take(&mut self.round), took))
    }

    fn judge(&mut self, at: Duration, seen: &Observation) {
        let mut wrong: Vec<(String, String, Duration)> = Vec::new();
        let mut add = |kind: &str, what: String, grace| wrong.push((kind.to_owned(), what, grace));
        if let Some(status) = &seen.ended {
            add("ended", format!("the agent ended: {status}"), Duration::ZERO);
        }
        if let Err(error) = &seen.live {
            add("live", error.clone(), Duration::ZERO);
        }
        if let Err(error) = &seen.health {
            add("health", error.clone(), Duration::ZERO);
        }
        let grace = if at < self.late_until { LATE_GRACE } else { GRACE };
        for (name, verdict) in &seen.files {
            let Err(error) = verdict else { continue };
            let stated = seen.health.as_ref().ok().and_then(|health| health.get(*name));
            let explained = stated.is_some_and(|stated| !stated.healthy && stated.reason.is_some());
            if !explained {
                add(name, format!("{name}: {error}, and /readyz states no reason"), grace);
            }
        }
        self.lasting.retain(|kind, _| wrong.iter().any(|(wrong, ..)| wrong == kind));
        for (kind, what, grace) in wrong {
            let since = *self.lasting.entry(kind.clone()).or_insert(at);
            if since != Duration::MAX && at.saturating_sub(since) >= grace {
                self.violations.push((at, what));
                self.lasting.insert(kind, Duration::MAX);
            }
        }
    }

    /// What the TPM held while idle.
    pub(super) fn handles(&mut self, at: Duration, transient: usize, sessions: usize) {
        let (objects, others) = self.handles.unwrap_or_default();
        self.handles = Some((objects.max(transient), others.max(sessions)));
        if transient + sessions > 0 {
            let what = format!("{transient} objects and {sessions} sessions stayed in the TPM");
            self.violations.push((at, what));
        }
    }

    pub(super) fn violated(&mut self, at: Duration, what: String) {
        self.violations.push((at, what));
    }

    /// How many violations there were.
    pub(super) const fn violations(&self) -> usize {
        self.violations.len()
    }

    /// The last of them.
    pub(super) fn last_violation(&self) -> Option<&str> {
        self.violations.last().map(|(_, what)| what.as_str())
    }

    /// What grew by more than it may.
    pub(super) fn grown(&self) -> Vec<String> {
        let grown = GROWTHS.iter().filter_map(|growth| {
            let (first, last) = self.windows(growth)?;
            let more = last.median.saturating_sub(first.median);
            (more > growth.most).then(|| {
                let unit = growth.unit;
                format!("{} grew by {}, at most {}", growth.what, more / unit, growth.most / unit)
            })
        });
        grown.collect()
    }

    fn windows(&self, growth: &Growth) -> Option<(Spread, Spread)> {
        let length = WINDOW.min(self.last / 3);
        let of = |from: Duration, to: Duration| {
            let within = self.samples.iter().filter(|sample| (from..=to).contains(&sample.at));
            Spread::of(within.filter_map(growth.of))
        };
        let first = of(Duration::ZERO, length)?;
        Some((first, of(self.last.saturating_sub(length), self.last)?))
    }
}

/// Least, median and most of some numbers.
#[derive(Clone, Copy, Debug)]
struct Spread {
    least: u64,
    median: u64,
    most: u64,
}

impl Spread {
    fn of(numbers: impl Iterator<Item = u64>) -> Option<Self> {
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_unstable();
        let median = *numbers.get(numbers.len() / 2)?;
        Some(Self { least: *numbers.first()?, median, most: *numbers.last()? })
    }

    fn text(self, unit: u64) -> String {
        format!("{}-{} ({})", self.least / unit, self.most / unit, self.median / unit)
    }
}

pub(super) fn names(faults: &[Fault]) -> String {
    faults.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(" + ")
}

/// What is not in place: files that are unusable, then what the agent states.
pub(super) fn trouble(seen: &Observation) -> String {
    let files = seen.files.iter().filter_map(|(name, verdict)| {
        verdict.as_ref().err().map(|error| format!("{name}: {error}"))
    });
    let health = seen.health.iter().flatten().filter(|(_, stated)| !stated.healthy);
    let stated = health.map(|(name, stated)| {
        format!("{name} says: {}", stated.reason.as_deref().unwrap_or("no reason"))
    });
    files.chain(stated).collect::<Vec<_>>().join("; ")
}

/// `mm:ss`.
pub(super) fn clock(at: Duration) -> String {
    format!("{:02}:{:02}", at.as_secs() / 60, at.as_secs() % 60)
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>6} {:>16}", "fault", "times", "worst recovery")?;
        for (fault, tally) in &self.faults {
            let worst = format!("{} s", tally.worst.as_secs());
            writeln!(f, "{:<32} {:>6} {worst:>16}", fault.name(), tally.times)?;
        }
        for (fault, reason) in &self.skipped {
            writeln!(f, "{:<32} skipped: {reason}", fault.name())?;
        }
        let length = clock(WINDOW.min(self.last / 3));
        let (first, last) = (format!("first {length}"), format!("last {length}"));
        let title = "at rest: least-most (median)";
        writeln!(f, "\n{title:<32} {first:>22} {last:>22} {:>14}", "may grow by")?;
        for growth in &GROWTHS {
            if let Some((first, last)) = self.windows(growth) {
                let (first, last) = (first.text(growth.unit), last.text(growth.unit));
                let most = growth.most / growth.unit;
                writeln!(f, "{:<32} {first:>22} {last:>22} {most:>14}", growth.what)?;
            }
        }
        if let Some((objects, sessions)) = self.handles {
            writeln!(f, "TPM at rest: at most {objects} transient objects, {sessions} sessions")?;
        }
        writeln!(f, "\nrenewals: {}", self.renewals)?;
        writeln!(f, "violations: {}", self.violations.len())?;
        for (at, what) in &self.violations {
            writeln!(f, "  {} {what}", clock(*at))?;
        }
        for grown in self.grown() {
            writeln!(f, "  {grown}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
