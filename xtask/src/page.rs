//! Pages of the documentation, and tables in them, that a command generates.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{cargo, workspace};

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// It is shown.
    Show,
    /// It is shown, and replaces the one in docs/performance.md.
    Write,
}

const END: &str = "<!-- end -->\n";

impl Table {
    /// Does it with the table that `cargo xtask VERB` made.
    pub(crate) fn deliver(self, verb: &str, made: &str) -> Result<()> {
        print!("{made}");
        if self == Self::Show {
            return Ok(());
        }
        let path = workspace().join("docs/performance.md");
        let page =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        fs::write(&path, replaced(&page, verb, made)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

fn replaced(page: &str, verb: &str, table: &str) -> Result<String> {
    let begin = format!("<!-- cargo xtask {verb} --write: begin -->\n");
    let (before, rest) = page.split_once(&begin).context("the page has no place for the table")?;
    let (_, after) = rest.split_once(END).context("the place for the table has no end")?;
    Ok([before, &begin, "\n", table, "\n", END, after].concat())
}

/// Environment variable that makes the test `configuration_page` write docs/configuration.md instead of comparing it.
pub const UPDATE_CONFIGURATION: &str = "UPDATE_CONFIGURATION";

/// Writes docs/configuration.md. The test that compares the page generates it: it links both programs, which `xtask` does
/// not.
///
/// # Errors
/// The test cannot be built or fails.
pub fn write_configuration() -> Result<()> {
    let mut test = cargo();
    test.args(["test", "--package", "tests", "--test", "configuration_page"]);
    let status = test.env(UPDATE_CONFIGURATION, "1").status().context("running cargo")?;
    ensure!(status.success(), "cargo test failed ({status})");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_its_verbs_old_one() {
        let place = |verb: &str| format!("<!-- cargo xtask {verb} --write: begin -->\nold\n{END}");
        let page = format!("before\n{}between\n{}after\n", place("figures"), place("bench"));
        let new = replaced(&page, "bench", "| new |\n").unwrap();
        let (untouched, written) = new.split_once("between\n").unwrap();
        assert_eq!(untouched, format!("before\n{}", place("figures")));
        assert!(written.contains("\n\n| new |\n\n") && written.ends_with("after\n"), "{new}");
        assert!(!written.contains("old"));
        assert_eq!(replaced(&new, "bench", "| new |\n").unwrap(), new);
        assert!(replaced("nothing", "bench", "").is_err());
        assert!(replaced(&page, "other", "").is_err());
    }
}
