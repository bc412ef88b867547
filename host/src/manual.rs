//! Manual pages and shell completions, made from the declaration of a command line.

use clap::Command;
pub use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::{Exit, Failure};

/// The manual page of a program, or of one of its verbs.
///
/// # Errors
/// There is no such verb.
pub fn page(mut program: Command, verb: Option<&str>) -> Result<Vec<u8>, Failure> {
    program.build();
    let command = match verb {
        None => program,
        Some(verb) => {
            let name = program.get_name().to_owned();
            let found = program.find_subcommand(verb).cloned().ok_or_else(|| {
                let advice = format!("run `{name} --help` for the list of commands");
                Failure::new(Exit::Usage, format!("unknown command {verb:?}"), advice)
            })?;
            // clap keeps names for the life of the program.
            let title: &'static str = format!("{name}-{verb}").leak();
            match program.get_version() {
                Some(version) => found.name(title).version(&*version.to_owned().leak()),
                None => found.name(title),
            }
        }
    };
    let mut page = Vec::new();
    let rendered = Man::new(command).render(&mut page);
    rendered.map_err(|cause| Failure::io(&cause, "cannot render the page"))?;
    Ok(page)
}

/// The script that completes a program's command line in a shell.
#[must_use]
pub fn completions(mut program: Command, shell: Shell) -> Vec<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    script
}
