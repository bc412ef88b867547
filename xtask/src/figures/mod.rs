//! `cargo xtask figures`: size, memory and waiting times of the agent, measured on the file that is
//! shipped, with a software TPM and an authority on this machine.

mod host;
pub(crate) mod process;
pub mod streams;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::host::{Daemon, Host, Join, Workloads};
use crate::musl;
use crate::page::Table;
use crate::setup::{self, Action, Purpose};

/// Limit of the resident memory of an idle daemon, in bytes.
const MAX_RESIDENT_BYTES: u64 = 5_000_000;
/// The same with three services, one of them a Workload API.
const MAX_RESIDENT_WITH_API: u64 = 6_000_000;
/// The same with many streams of it. A connection takes some 32 KB, of which 24 MB for all would leave 20. Of the 39 KB that it asks for,
/// 28 are buffers of h2 and tokio-util (16 to write, 8 to read, 4 for HPACK), whose sizes are constants there and no settings.
const MAX_RESIDENT_WITH_STREAMS: u64 = 38_000_000;
/// Limit of the wake-ups per minute of either. The alarm is one; the thread that checks the files wakes the daemon only for news.
const MAX_WAKE_UPS: f64 = 2.0;
/// Aim for the time in which a rotation reaches all streams. Exceeding it fails nothing, since times depend on the machine.
const ROTATION_AIM: Duration = Duration::from_secs(1);
/// Aim for the time of a join outside the TPM. Exceeding it fails nothing, since times depend on the machine.
const JOIN_AIM: Duration = Duration::from_millis(60);

const JOINS: usize = 21;
const RENEWALS: u64 = 3;
const STREAMS: usize = 1000;

/// Measures, shows the table, and fails if the agent exceeds a limit.
pub fn run(minutes: u32, table: Table) -> Result<()> {
    ensure!(minutes > 0, "wake-ups are counted over a minute at least");
    setup::run(Purpose::Demo, Action::Install)?;
    let size_of = |agent: PathBuf| Ok::<_, anyhow::Error>(fs::metadata(agent)?.len());
    let (size, small_size) = (size_of(musl::build()?)?, size_of(musl::build_small()?)?);
    let host = Host::new()?;
    eprintln!("Joining {JOINS} times ...");
    let before = process::children()?;
    let joins = (0..JOINS).map(|number| host.join(&format!("storage-{number}")));
    let joins = joins.collect::<Result<Vec<_>>>()?;
    let processor = process::children()?.saturating_sub(before);
    let joins = Joins::of(&joins, processor)?;
    let again = host.join("storage-0").context("joining again")?;
    let idle = Duration::from_secs(60) * minutes;
    eprintln!("Running a daemon; it is idle for {minutes} min ...");
    let daemon = host.daemon(RENEWALS, idle)?;
    let tpm_key_commands = host.tpm_key_commands(RENEWALS)?;
    eprintln!("The same with a Workload API; then {STREAMS} streams wait for a rotation ...");
    let workloads = host.workloads(STREAMS, idle)?;

    let seen =
        Seen { size, small_size, joins, again, daemon, tpm_key_commands, workloads, minutes };
    table.deliver("figures", &seen.rows())?;
    seen.check()
}

/// Everything that was measured.
struct Seen {
    size: u64,
    small_size: u64,
    joins: Joins,
    again: Join,
    daemon: Daemon,
    tpm_key_commands: f64,
    workloads: Workloads,
    minutes: u32,
}

/// First joins: the medians.
struct Joins {
    beside: Duration,
    inside: Duration,
    /// The agent's own, on average.
    processor: Duration,
    commands: u64,
}

impl Joins {
    fn of(joins: &[Join], processor: Duration) -> Result<Self> {
        let commands = joins.first().context("no join")?.commands;
        ensure!(
            joins.iter().all(|join| join.commands == commands),
            "joins of the same TPM take different numbers of commands"
        );
        Ok(Self {
            beside: median(joins.iter().map(Join::beside)),
            inside: median(joins.iter().map(|join| join.tpm)),
            processor: processor / u32::try_from(joins.len())?,
            commands,
        })
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

impl Seen {
    fn wake_ups_a_minute(&self, wake_ups: u64) -> f64 {
        wake_ups as f64 / f64::from(self.minutes)
    }

    /// Fails if the agent exceeds a limit; those of its sizes were checked when it was built.
    fn check(&self) -> Result<()> {
        let Self { daemon, workloads, .. } = self;
        for (what, memory, limit) in [
            ("the idle daemon", daemon.memory, MAX_RESIDENT_BYTES),
            ("the idle daemon with a Workload API", workloads.idle, MAX_RESIDENT_WITH_API),
            ("the daemon with all streams", workloads.streaming, MAX_RESIDENT_WITH_STREAMS),
        ] {
            let resident = memory.resident;
            ensure!(
                resident <= limit,
                "{what} has {resident} bytes in memory, the limit is {limit}"
            );
        }
        for (what, wake_ups) in [
            ("the idle daemon", daemon.wake_ups),
            ("the idle daemon with a Workload API", workloads.wake_ups),
        ] {
            let wakes = self.wake_ups_a_minute(wake_ups);
            ensure!(
                wakes <= MAX_WAKE_UPS,
                "{what} wakes up {wakes:.1} times a minute, the limit is {MAX_WAKE_UPS}"
            );
        }
        Ok(())
    }

    fn rows(&self) -> String {
        let Self { joins, again, daemon, workloads, minutes, .. } = self;
        let megabytes = |count: u64| format!("{:.2} MB", count as f64 / 1e6);
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let wakes = |wake_ups| format!("{:.1}", self.wake_ups_a_minute(wake_ups));
        let nothing = String::new;
        let rows = [
            ("static agent, stripped".into(), megabytes(self.size), megabytes(musl::FULL.limit)),
            (
                "the same without its optional parts".into(),
                megabytes(self.small_size),
                megabytes(musl::SMALL.limit),
            ),
            (
                "resident memory of an idle daemon with two services, after renewals".into(),
                megabytes(daemon.memory.resident),
                megabytes(MAX_RESIDENT_BYTES),
            ),
            (
                "of which private; the rest is the program file".into(),
                megabytes(daemon.memory.private),
                nothing(),
            ),
            (
                format!("wake-ups per minute of that daemon, over {minutes} min"),
                wakes(daemon.wake_ups),
                format!("{MAX_WAKE_UPS:.1}"),
            ),
            (
                "resident memory of an idle daemon with a Workload API as the third service".into(),
                megabytes(workloads.idle.resident),
                megabytes(MAX_RESIDENT_WITH_API),
            ),
            (
                format!("wake-ups per minute of that daemon, over {minutes} min"),
                wakes(workloads.wake_ups),
                format!("{MAX_WAKE_UPS:.1}"),
            ),
            (
                format!("resident memory of that daemon with {STREAMS} streams, each on its own connection"),
                megabytes(workloads.streaming.resident),
                megabytes(MAX_RESIDENT_WITH_STREAMS),
            ),
            (
                "time from the first to the last of the messages with which a rotation reaches them".into(),
                ms(workloads.rotation),
                format!("{} on an idle machine", ms(ROTATION_AIM)),
            ),
            (
                format!("`agent join`, outside the TPM, median of {JOINS}"),
                ms(joins.beside),
                format!("{} on an idle machine", ms(JOIN_AIM)),
            ),
            ("`agent join`, processor time".into(), ms(joins.processor), nothing()),
            ("`agent join`, inside the software TPM".into(), ms(joins.inside), nothing()),
            ("TPM commands of a first join".into(), joins.commands.to_string(), "7".into()),
            (
                "TPM commands of another join with the same storage".into(),
                again.commands.to_string(),
                "5".into(),
            ),
            (
                "TPM commands of a renewal with its services, including a flush that a resource manager would do".into(),
                format!("{:.0}", daemon.renewal_commands),
                "3".into(),
            ),
            (
                "the same with a third service whose key is in the TPM, including three flushes".into(),
                format!("{:.0}", self.tpm_key_commands),
                "8".into(),
            ),
            (
                "TPM commands of a restart with valid certificates".into(),
                daemon.restart_commands.to_string(),
                "0".into(),
            ),
        ];
        let mut text = String::from("| figure | measured | limit |\n|---|---:|---:|\n");
        for (what, measured, most) in rows {
            let what: String = what;
            text.push_str(&format!("| {what} | {measured} | {most} |\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use process::Memory;

    fn join(milliseconds: u64, commands: u64) -> Join {
        Join { wall: Duration::from_millis(milliseconds), tpm: Duration::from_millis(5), commands }
    }

    #[test]
    fn one_slow_join_does_not_change_the_median() {
        let joins = Joins::of(&[join(25, 7), join(900, 7), join(15, 7)], Duration::ZERO).unwrap();
        assert_eq!((joins.beside, joins.commands), (Duration::from_millis(20), 7));
        assert!(Joins::of(&[join(25, 7), join(25, 9)], Duration::ZERO).is_err());
        assert!(Joins::of(&[], Duration::ZERO).is_err());
    }

    #[test]
    fn table_shows_each_figure_with_its_limit() {
        let daemon = Daemon {
            memory: Memory { resident: 3_210_000, private: 400_000 },
            wake_ups: 3,
            renewal_commands: 3.0,
            restart_commands: 0,
        };
        let memory = |resident| Memory { resident, private: 400_000 };
        let workloads = Workloads {
            idle: memory(4_000_000),
            wake_ups: 2,
            streaming: memory(35_000_000),
            rotation: Duration::from_millis(90),
        };
        let seen = Seen {
            size: 2_900_000,
            small_size: 2_500_000,
            joins: Joins::of(&[join(25, 7)], Duration::ZERO).unwrap(),
            again: join(20, 5),
            daemon,
            tpm_key_commands: 8.0,
            workloads,
            minutes: 2,
        };
        let table = seen.rows();
        for row in [
            "| static agent, stripped | 2.90 MB | 4.00 MB |\n",
            "| resident memory of an idle daemon with two services, after renewals | 3.21 MB | 5.00 MB |\n",
            "| wake-ups per minute of that daemon, over 2 min | 1.5 | 2.0 |\n",
            "| resident memory of that daemon with 1000 streams, each on its own connection | 35.00 MB | 38.00 MB |\n",
            "| TPM commands of another join with the same storage | 5 | 5 |\n",
            "| TPM commands of a restart with valid certificates | 0 | 0 |\n",
        ] {
            assert!(table.contains(row), "{table}");
        }
        seen.check().unwrap();
        let workloads = Workloads { streaming: memory(39_000_000), ..seen.workloads };
        assert!(Seen { workloads, ..seen }.check().is_err());
    }
}
