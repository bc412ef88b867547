//! `cargo xtask test`: what it needs, every gate, every test, and one line that sums them up.

use std::io::{self, BufRead, BufReader, Write};
use std::ops::AddAssign;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Action, Purpose};
use crate::{cargo, check};

/// Sets up, checks and tests. The last line is `N passed, N failed`, and how many were skipped if
/// any.
pub fn run() -> Result<()> {
    setup::run(Purpose::Test, Action::Install)?;
    let checked = check::gates();
    let (status, count) = test()?;
    println!("{count}");
    checked?;
    ensure!(count.passed > 0, "no test ran");
    if !status.success() || count.failed > 0 {
        bail!("cargo test failed ({status})");
    }
    Ok(())
}

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// Reads libtest's `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered
    /// out; ..`.
    fn read(line: &str) -> Option<Self> {
        let mut count = Self::default();
        let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
            let place = match what {
                "passed" => &mut count.passed,
                "failed" => &mut count.failed,
                "ignored" => &mut count.skipped,
                _ => continue,
            };
            *place = number.parse().ok()?;
        }
        Some(count)
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Runs all tests, shows their output as it comes and counts.
fn test() -> Result<(ExitStatus, Count)> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo test")?;
    let mut output = BufReader::new(child.stdout.take().context("no pipe")?);
    let mut count = Count::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        io::stdout().write_all(&line)?;
        if let Some(more) = Count::read(&String::from_utf8_lossy(&line)) {
            count += more;
        }
        line.clear();
    }
    Ok((child.wait()?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_summed() {
        let mut sum = Count::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        ] {
            sum += Count::read(line).unwrap();
        }
        assert_eq!(sum, Count { passed: 15, failed: 2, skipped: 1 });
        assert_eq!(sum.to_string(), "15 passed, 2 failed, 1 skipped");
        assert_eq!(Count::read("running 12 tests"), None);
        assert_eq!(Count { skipped: 0, ..sum }.to_string(), "15 passed, 2 failed");
    }
}
