//! `agent man`.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};

/// The manual page of the program, or of a verb.
pub(crate) fn page(verb: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut program = Cli::command();
    program.build();
    let command = match verb {
        None => program,
        Some(verb) => {
            let command = program.find_subcommand(verb).cloned().ok_or_else(|| {
                Failure::new(Exit::Usage, format!("no verb {verb:?}"), "agent --help lists them")
            })?;
            let name: &'static str = format!("agent-{verb}").leak();
            command.name(name).version(env!("CARGO_PKG_VERSION"))
        }
    };
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command).render(&mut page);
    rendered.map_err(|cause| Failure::io(&cause, "cannot render the page"))?;
    Ok(page)
}
