//! `cargo xtask bench`: runs the benches, and makes a table of what they measured.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::page::Table;
use crate::{cargo, target_directory};

/// Some four minutes for all: what is compared is compared in one run, and so short a one does.
const PACE: [&str; 4] = ["--warm-up-time", "1", "--measurement-time", "2"];

/// Runs the benches, all or those whose name contains `filter`.
pub fn run(filter: Option<&str>, table: Table) -> Result<()> {
    let mut command = cargo();
    command.args(["bench", "--package", "benches", "--benches", "--"]).args(PACE).args(filter);
    command.env("CARGO_TARGET_DIR", target_directory());
    ensure!(command.status().context("cannot run cargo bench")?.success(), "a bench failed");
    let all = measured(&target_directory().join("criterion"))?;
    let (compared, alone) = compared(&all);
    table.deliver("bench", &[ratios(&compared), self::table(&alone)].join("\n"))
}

/// A bench, and nanoseconds each time: the median and the bounds of its confidence interval.
struct Measured {
    name: String,
    median: f64,
    bounds: [f64; 2],
}

/// Reads what criterion keeps: GROUP/BENCH/new/.
fn measured(directory: &Path) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for group in directories(directory)? {
        for bench in directories(&group)? {
            let new = bench.join("new");
            if new.join("estimates.json").is_file() {
                all.push(read(&new).with_context(|| format!("reading {}", new.display()))?);
            }
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!all.is_empty(), "nothing was measured: {} has no estimates", directory.display());
    Ok(all)
}

fn read(new: &Path) -> Result<Measured> {
    let json =
        |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(new.join(name))?)?) };
    let name = json("benchmark.json")?["full_id"].as_str().context("no name")?.to_owned();
    let median = &json("estimates.json")?["median"];
    let number = |value: &Value| value.as_f64().context("no number");
    let interval = &median["confidence_interval"];
    Ok(Measured {
        name,
        median: number(&median["point_estimate"])?,
        bounds: [number(&interval["lower_bound"])?, number(&interval["upper_bound"])?],
    })
}

fn directories(directory: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// One thing done by us and, in the same run, by another crate: its typed value, and its view where it has one.
struct Compared<'a> {
    what: &'a str,
    ours: f64,
    peer: f64,
    view: Option<f64>,
}

/// Takes the groups that have a peer apart from the benches that stand alone.
fn compared(all: &[Measured]) -> (Vec<Compared<'_>>, Vec<&Measured>) {
    let of = |what: &str, who: &str| {
        let name = format!("{what}/{who}");
        all.iter().find(|bench| bench.name == name).map(|bench| bench.median)
    };
    let compared = all.iter().filter_map(|bench| {
        let what = bench.name.strip_suffix("/ours")?;
        let peer = of(what, "peer")?;
        Some(Compared { what, ours: bench.median, peer, view: of(what, "peer's view") })
    });
    let compared: Vec<_> = compared.collect();
    let is_compared = |bench: &&Measured| {
        compared.iter().any(|group| {
            bench.name.strip_prefix(group.what).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let alone = all.iter().filter(|bench| !is_compared(bench)).collect();
    (compared, alone)
}

fn ratios(all: &[Compared<'_>]) -> String {
    let mut text = String::from(
        "| what | ours | peer | peer : ours | peer's view : ours |\n|---|---:|---:|---:|---:|\n",
    );
    for Compared { what, ours, peer, view } in all {
        let view = view.map_or_else(String::new, |view| format!("{:.1}", view / ours));
        let [mine, theirs] = [*ours, *peer].map(time);
        text.push_str(&format!("| {what} | {mine} | {theirs} | {:.1} | {view} |\n", peer / ours));
    }
    text
}

fn table(all: &[&Measured]) -> String {
    let mut text = String::from("| what | median | 95 % of medians |\n|---|---:|---:|\n");
    for &Measured { name, median, bounds: [low, high] } in all {
        let [median, low, high] = [*median, *low, *high].map(time);
        text.push_str(&format!("| {name} | {median} | {low} .. {high} |\n"));
    }
    text
}

/// Three digits that count, in the unit that people would choose.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n => (n / 1e6, "ms"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_that_count() {
        let times = [0.5, 12.34, 999.0, 1234.0, 56_789.0, 1_234_567.0, 123_456_789.0].map(time);
        let expected = ["0.50 ns", "12.3 ns", "999 ns", "1.23 µs", "56.8 µs", "1.23 ms", "123 ms"];
        assert_eq!(times, expected);
    }

    #[test]
    fn benches_with_a_peer_are_shown_as_ratios() {
        let bench = |name: &str, median| Measured { name: name.into(), median, bounds: [0.0; 2] };
        let all = [
            bench("read/ours", 10.0),
            bench("read/peer", 45.0),
            bench("read/peer's view", 12.0),
            bench("reading/a file", 7.0),
            bench("written/ours", 10.0),
            bench("written/peer", 25.0),
        ];
        let (compared, alone) = compared(&all);
        let lines = ratios(&compared);
        assert!(lines.ends_with(
            "| read | 10.0 ns | 45.0 ns | 4.5 | 1.2 |\n| written | 10.0 ns | 25.0 ns | 2.5 |  |\n"
        ));
        let names: Vec<_> = alone.iter().map(|bench| bench.name.as_str()).collect();
        assert_eq!(names, ["reading/a file"]);
    }

    #[test]
    fn a_row_has_what_was_measured() {
        let measured = Measured { name: "kdfa".into(), median: 500.0, bounds: [490.0, 510.0] };
        let table = table(&[&measured]);
        assert!(table.ends_with("| kdfa | 500 ns | 490 ns .. 510 ns |\n"), "{table}");
    }
}
