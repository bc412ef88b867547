//! `cargo xtask fuzz`: libFuzzer over the targets of the crate `fuzz`, with the stable compiler alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::{cargo, target_directory, workspace};

/// What libFuzzer needs of the compiler: which edges ran, what was compared, and that overflows are faults.
const INSTRUMENTED: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// When a target ends that finds nothing.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After so long.
    Seconds(u32),
    /// After so many executions.
    Runs(u64),
}

impl Limit {
    /// libFuzzer's option.
    fn option(self) -> String {
        match self {
            Self::Seconds(seconds) => format!("-max_total_time={seconds}"),
            Self::Runs(runs) => format!("-runs={runs}"),
        }
    }
}

/// Runs one target, or all, each up to the limit, as many at a time as there are processors.
pub fn run(target: Option<&str>, limit: Limit) -> Result<()> {
    let known = targets()?;
    let chosen: Vec<&str> = match target {
        None => known.iter().map(String::as_str).collect(),
        Some(name) if known.iter().any(|known| known == name) => vec![name],
        Some(name) => bail!("there is no target {name}; there are {}", known.join(", ")),
    };
    let home = target_directory().join("fuzz");
    let program = build(&home)?;
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<Outcome>> {
        let mut done = Vec::new();
        while let Some(name) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = Run { home: &home, program: &program, name, limit }.run()?;
            let (executions, crashes) = (outcome.executions, outcome.crashes.len());
            println!("{name}: {executions} executions, {crashes} crashes");
            done.push(outcome);
        }
        Ok(done)
    };
    let together = thread::available_parallelism()?.get();
    let outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..together).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().expect("it does not panic"));
        joined.collect::<Result<Vec<_>>>()
    })?;
    let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
    let executions: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    let found: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.crashes).collect();
    println!("{executions} executions in all, {} crashes", found.len());
    for crash in &found {
        println!("crash: {}", crash.display());
    }
    ensure!(found.is_empty(), "mend them, and keep them in fuzz/regressions");
    Ok(())
}

/// Each has its seeds in a directory of its name.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let directory = workspace().join("fuzz/seeds");
    for entry in
        fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// In a directory of its own, so that it never mixes with an ordinary build. That the target is named keeps the flags
/// from build scripts and procedural macros.
fn build(home: &Path) -> Result<PathBuf> {
    let host = host()?;
    let mut command = cargo();
    command
        .args(["build", "--release", "--package", "fuzz", "--bin", "fuzz"])
        .args(["--features", "libfuzzer", "--target", &host, "--target-dir"])
        .arg(home)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTED.join("\x1f"))
        .env("RUSTC_WRAPPER", workspace().join("fuzz/rustc.sh"))
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    ensure!(command.status().context("cannot run cargo")?.success(), "the targets do not build");
    Ok(home.join(host).join("release/fuzz"))
}

fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it builds for")
}

struct Run<'a> {
    home: &'a Path,
    program: &'a Path,
    name: &'a str,
    limit: Limit,
}

struct Outcome {
    executions: u64,
    crashes: Vec<PathBuf>,
}

impl Run<'_> {
    /// What it learns stays in the corpus for the next run; the seeds are never written to.
    fn run(&self) -> Result<Outcome> {
        let directory = |kind: &str| {
            let path = self.home.join(kind).join(self.name);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        let (corpus, crashes) = (directory("corpus")?, directory("crashes")?);
        let earlier = files(&crashes)?;
        let log = self.home.join(format!("{}.log", self.name));
        let sources = workspace().join("fuzz");
        let known =
            [sources.join("seeds").join(self.name), sources.join("regressions").join(self.name)];
        let mut command = Command::new(self.program);
        command
            .arg(&corpus)
            .args(known.iter().filter(|directory| directory.is_dir()))
            .arg(self.limit.option())
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .env("FUZZ_TARGET", self.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let status = command.status().context("the targets do not run")?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let mut crashes = files(&crashes)?;
        crashes.retain(|crash| !earlier.contains(crash));
        if !status.success() && crashes.is_empty() {
            bail!("{} ended ({status}) without saying on what: {}", self.name, log.display());
        }
        Ok(Outcome { executions: executions(&said), crashes })
    }
}

/// libFuzzer's own count.
fn executions(log: &str) -> u64 {
    const STATISTIC: &str = "stat::number_of_executed_units:";
    let number = log.lines().find_map(|line| line.strip_prefix(STATISTIC));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_what_libfuzzer_counts() {
        let log = "Done 97 runs in 1 second(s)\nstat::number_of_executed_units: 97\nstat::x: 1\n";
        assert_eq!(executions(log), 97);
        assert_eq!(executions("==1== ERROR"), 0);
    }

    #[test]
    fn a_target_that_is_not_there_is_refused_before_anything_is_built() {
        let refused = run(Some("nothing"), Limit::Runs(1)).unwrap_err().to_string();
        assert!(refused.starts_with("there is no target nothing; there are "), "{refused}");
    }
}
