//! What the steps of a payload said and how they ended.

use anyhow::{Context, Result, bail, ensure};

/// The steps of a payload, in order.
#[derive(Debug)]
pub struct Report {
    steps: Vec<Step>,
    text: String,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name in the script.
    pub name: String,
    /// Its exit status.
    pub status: i32,
    /// What it wrote to stdout and stderr.
    pub output: String,
}

impl Report {
    /// Reads what `step` in the script wrote: `>>> NAME`, the output, `<<< STATUS`.
    pub fn read(text: &str) -> Result<Self> {
        let mut steps = Vec::new();
        let mut current: Option<(String, String)> = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(">>> ") {
                ensure!(current.is_none(), "a step within a step:\n{text}");
                current = Some((name.to_owned(), String::new()));
            } else if let Some(status) = line.strip_prefix("<<< ") {
                let (name, output) = current.take().context("an end without a step")?;
                let status = status.parse().with_context(|| format!("step {name}: {status}"))?;
                steps.push(Step { name, status, output });
            } else if let Some((_, output)) = &mut current {
                output.push_str(line);
                output.push('\n');
            }
        }
        if let Some((name, output)) = current {
            bail!("step {name} did not end:\n{output}");
        }
        Ok(Self { steps, text: text.to_owned() })
    }

    /// The whole output, including outside of steps.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Result<&Step> {
        let found = self.steps.iter().find(|step| step.name == name);
        found.with_context(|| format!("no step {name} in:\n{}", self.text))
    }

    /// The output of a step that succeeded.
    pub fn success(&self, name: &str) -> Result<&str> {
        let Step { status, output, .. } = self.step(name)?;
        ensure!(*status == 0, "{name} ended with {status}:\n{output}");
        Ok(output)
    }

    /// Sees that a step ended with this status and said these words.
    pub fn refused(&self, name: &str, expected: i32, words: &[&str]) -> Result<()> {
        let Step { status, output, .. } = self.step(name)?;
        ensure!(*status == expected, "{name} ended with {status}, not {expected}:\n{output}");
        for word in words {
            ensure!(output.contains(word), "{name} does not say {word:?}:\n{output}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn steps_are_read() {
        let report = Report::read("x\n>>> a\nhello\n<<< 0\ny\n>>> b\nno room\n<<< 74\n").unwrap();
        assert_eq!(report.success("a").unwrap(), "hello\n");
        report.refused("b", 74, &["no room"]).unwrap();
        report.refused("b", 75, &[]).unwrap_err();
        report.refused("b", 74, &["no memory"]).unwrap_err();
        report.success("b").unwrap_err();
        report.success("c").unwrap_err();
        assert!(report.text().contains("y\n"));
    }

    #[test]
    fn truncated_reports_are_detected() {
        for text in [">>> a\nhello\n", "<<< 0\n", ">>> a\n>>> b\n<<< 0\n", ">>> a\n<<< x\n"] {
            Report::read(text).unwrap_err();
        }
    }
}
