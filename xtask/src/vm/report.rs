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
    /// What was run, in one line; empty of what nobody types, such as a wait.
    pub command: String,
    /// Its exit status.
    pub status: i32,
    /// What it wrote to stdout and stderr.
    pub output: String,
}

impl Report {
    /// Reads what `step` in the script wrote: `>>> NAME<tab>COMMAND`, the output, `<<< STATUS`.
    pub fn read(text: &str) -> Result<Self> {
        let mut steps = Vec::new();
        let mut current: Option<(&str, String)> = None;
        for line in text.lines() {
            if let Some(begun) = line.strip_prefix(">>> ") {
                ensure!(current.is_none(), "a step within a step:\n{text}");
                current = Some((begun, String::new()));
            } else if let Some(status) = line.strip_prefix("<<< ") {
                let (begun, output) = current.take().context("an end without a step")?;
                let (name, command) = begun.split_once('\t').unwrap_or((begun, ""));
                let (name, command) = (name.to_owned(), command.to_owned());
                let status = status.parse().with_context(|| format!("step {name}: {status}"))?;
                steps.push(Step { name, command, status, output });
            } else if let Some((_, output)) = &mut current {
                output.push_str(line);
                output.push('\n');
            }
        }
        if let Some((begun, output)) = current {
            bail!("step {begun} did not end:\n{output}");
        }
        Ok(Self { steps, text: text.to_owned() })
    }

    /// The whole output, including outside of steps.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The steps, as somebody at a terminal would have seen them.
    pub fn transcript(&self) -> String {
        let typed = self.steps.iter().filter(|step| !step.command.is_empty());
        typed.fold(String::new(), |mut all, step| {
            all.push_str(&format!("$ {}\n{}", step.command, step.output));
            if step.status != 0 {
                all.push_str(&format!("[exit code {}]\n", step.status));
            }
            all + "\n"
        })
    }

    /// The steps, in their order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Result<&Step> {
        let found = self.steps.iter().find(|step| step.name == name);
        found.with_context(|| format!("no step {name} in:\n{}", self.text))
    }

    /// The output of a step that succeeded.
    pub fn success(&self, name: &str) -> Result<&str> {
        self.step(name)?.success()
    }

    /// Sees that a step ended with this status and said these words.
    pub fn refused(&self, name: &str, expected: i32, words: &[&str]) -> Result<()> {
        self.step(name)?.refused(expected, words)
    }
}

impl Step {
    /// The output, if it succeeded.
    pub fn success(&self) -> Result<&str> {
        let Self { name, status, output, .. } = self;
        ensure!(*status == 0, "{name} ended with {status}:\n{output}");
        Ok(output)
    }

    /// Sees that it ended with this status and said these words.
    pub fn refused(&self, expected: i32, words: &[&str]) -> Result<()> {
        let Self { name, status, output, .. } = self;
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
        let report = Report::read(
            "x\n>>> a\tsay it\nhello\n<<< 0\ny\n>>> b\tdo it\nno room\n<<< 74\n\
                          >>> c\t\nready\n<<< 0\n",
        )
        .unwrap();
        assert_eq!(report.success("a").unwrap(), "hello\n");
        report.refused("b", 74, &["no room"]).unwrap();
        report.refused("b", 75, &[]).unwrap_err();
        report.refused("b", 74, &["no memory"]).unwrap_err();
        report.success("b").unwrap_err();
        assert_eq!(report.success("c").unwrap(), "ready\n");
        report.success("d").unwrap_err();
        assert!(report.text().contains("y\n"));
        assert_eq!(report.transcript(), "$ say it\nhello\n\n$ do it\nno room\n[exit code 74]\n\n");
    }

    #[test]
    fn truncated_reports_are_detected() {
        for text in [">>> a\nhello\n", "<<< 0\n", ">>> a\n>>> b\n<<< 0\n", ">>> a\n<<< x\n"] {
            Report::read(text).unwrap_err();
        }
    }
}
