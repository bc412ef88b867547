//! `cargo xtask figures`: size, memory and waiting times of the agent, measured on the file that is
//! shipped, with a software TPM and an authority on this machine.

mod host;
pub(crate) mod process;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::host::{Daemon, Host, Join};
use crate::musl;
use crate::page::Table;
use crate::setup::{self, Action, Purpose};

/// Limit of the resident memory of an idle daemon, in bytes.
const MAX_RESIDENT_BYTES: u64 = 5_000_000;
/// Limit of its wake-ups per minute: by the alarm, and at the end of the thread that checks the files.
const MAX_WAKE_UPS: f64 = 3.0;
/// Aim for the time of a join outside the TPM. Exceeding it fails nothing, since times depend on the machine.
const JOIN_AIM: Duration = Duration::from_millis(60);

const JOINS: usize = 21;
const RENEWALS: u64 = 3;

/// Measures, shows the table, and fails if the agent exceeds a limit.
pub fn run(minutes: u32, table: Table) -> Result<()> {
    ensure!(minutes > 0, "wake-ups are counted over a minute at least");
    setup::run(Purpose::Demo, Action::Install)?;
    let size = fs::metadata(musl::build()?)?.len();
    let host = Host::new()?;
    eprintln!("Joining {JOINS} times ...");
    let before = process::children()?;
    let joins = (0..JOINS).map(|number| host.join(&format!("storage-{number}")));
    let joins = joins.collect::<Result<Vec<_>>>()?;
    let processor = process::children()?.saturating_sub(before);
    let again = host.join("storage-0").context("joining again")?;
    eprintln!("Running a daemon; it is idle for {minutes} min ...");
    let daemon = host.daemon(RENEWALS, Duration::from_secs(60) * minutes)?;

    table.deliver(
        "figures",
        &rows(size, &Joins::of(&joins, processor)?, &again, &daemon, minutes),
    )?;
    let wakes = daemon.wake_ups_a_minute(minutes);
    ensure!(
        daemon.memory.resident <= MAX_RESIDENT_BYTES,
        "the idle daemon has {} bytes in memory, the limit is {MAX_RESIDENT_BYTES}",
        daemon.memory.resident
    );
    ensure!(
        wakes <= MAX_WAKE_UPS,
        "the idle daemon wakes up {wakes:.1} times a minute, the limit is {MAX_WAKE_UPS}"
    );
    Ok(())
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

fn rows(size: u64, joins: &Joins, again: &Join, daemon: &Daemon, minutes: u32) -> String {
    let megabytes = |count: u64| format!("{:.2} MB", count as f64 / 1e6);
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let rows = [
        ("static agent, stripped", megabytes(size), megabytes(musl::LIMIT)),
        (
            "resident memory of an idle daemon with two services, after renewals",
            megabytes(daemon.memory.resident),
            megabytes(MAX_RESIDENT_BYTES),
        ),
        (
            "of which private; the rest is the program file",
            megabytes(daemon.memory.private),
            String::new(),
        ),
        (
            &*format!("wake-ups per minute of that daemon, over {minutes} min"),
            format!("{:.1}", daemon.wake_ups_a_minute(minutes)),
            format!("{MAX_WAKE_UPS:.1}"),
        ),
        (
            &*format!("`agent join`, outside the TPM, median of {JOINS}"),
            ms(joins.beside),
            format!("{} on an idle machine", ms(JOIN_AIM)),
        ),
        ("`agent join`, processor time", ms(joins.processor), String::new()),
        ("`agent join`, inside the software TPM", ms(joins.inside), String::new()),
        ("TPM commands of a first join", joins.commands.to_string(), "7".into()),
        (
            "TPM commands of another join with the same storage",
            again.commands.to_string(),
            "5".into(),
        ),
        (
            "TPM commands of a renewal with its services, including a flush that a resource manager would do",
            format!("{:.0}", daemon.renewal_commands),
            "3".into(),
        ),
        (
            "TPM commands of a restart with valid certificates",
            daemon.restart_commands.to_string(),
            "0".into(),
        ),
    ];
    let mut text = String::from("| figure | measured | limit |\n|---|---:|---:|\n");
    for (what, measured, most) in rows {
        text.push_str(&format!("| {what} | {measured} | {most} |\n"));
    }
    text
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
        let joins = Joins::of(&[join(25, 7)], Duration::ZERO).unwrap();
        let table = rows(2_900_000, &joins, &join(20, 5), &daemon, 2);
        for row in [
            "| static agent, stripped | 2.90 MB | 4.00 MB |\n",
            "| resident memory of an idle daemon with two services, after renewals | 3.21 MB | 5.00 MB |\n",
            "| wake-ups per minute of that daemon, over 2 min | 1.5 | 3.0 |\n",
            "| TPM commands of another join with the same storage | 5 | 5 |\n",
            "| TPM commands of a restart with valid certificates | 0 | 0 |\n",
        ] {
            assert!(table.contains(row), "{table}");
        }
    }
}
