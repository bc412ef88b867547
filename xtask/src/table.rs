//! `cargo xtask table`: the table of commands in the crate `tpm2` beside what a TPM says of its own.

use std::fmt;

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Factory, Kind, Maker};
use tpm2::commands::{COMMANDS, CommandInfo, by_code};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::CommandAttributes;
use tpm2::{Tpm, capability};

/// A table and a TPM, laid side by side.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Commands that both describe alike.
    pub alike: Vec<&'static CommandInfo>,
    /// Commands of the TPM that the table lacks or describes otherwise: each with what is wrong.
    pub different: Vec<String>,
    /// Commands of the table that the TPM does not have.
    pub absent: Vec<&'static CommandInfo>,
}

/// Compares with the TPM at `tcti`, or with a software TPM of its own, and prints the outcome.
/// Fails if anything differs.
pub fn run(tcti: Option<&str>) -> Result<()> {
    let own = match tcti {
        Some(_) => None,
        None => Some(Factory::shared().tpm(Maker::Vendor, Kind::NoCertificates)?.start()?),
    };
    let address = tcti.map(str::to_owned).or(own.as_ref().map(|swtpm| swtpm.tcti()));
    let transport = address.context("no TPM")?.parse::<Tcti>()?.open()?;
    let comparison = compare(&mut Tpm::new(transport))?;
    println!("{comparison}");
    ensure!(comparison.different.is_empty(), "the table and the TPM do not agree");
    Ok(())
}

/// Asks the TPM for all of its commands and lays the table beside them.
pub fn compare<T: Transport>(tpm: &mut Tpm<T>) -> Result<Comparison> {
    let theirs = capability::commands(tpm)?;
    ensure!(!theirs.is_empty(), "the TPM says that it has no commands");
    let mut comparison = Comparison::default();
    for theirs in &theirs {
        match difference(*theirs) {
            Ok(info) => comparison.alike.push(info),
            Err(difference) => comparison.different.push(difference),
        }
    }
    let absent = |info: &&CommandInfo| theirs.iter().all(|theirs| theirs.code() != info.code);
    comparison.absent = COMMANDS.iter().filter(absent).collect();
    Ok(comparison)
}

fn difference(theirs: CommandAttributes) -> Result<&'static CommandInfo, String> {
    let code = theirs.code();
    let ours = by_code(code).ok_or_else(|| format!("{code} is not in the table"))?;
    let has = |response_handle| if response_handle { "has" } else { "has not" };
    let handles = theirs.command_handles();
    if usize::try_from(handles) != Ok(ours.handles.len()) {
        let known = ours.handles.len();
        return Err(format!("{code} has {handles} handles, and in the table {known}"));
    }
    let answers = theirs.contains(CommandAttributes::R_HANDLE);
    if answers != ours.response.handle.is_some() {
        let (says, known) = (has(answers), has(!answers));
        return Err(format!("the answer to {code} {says} a handle, and in the table {known} one"));
    }
    Ok(ours)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for info in &self.alike {
            let handles = info.handles.join(", ");
            let answer = info.response.handle.map_or(String::new(), |it| format!(" -> {it}"));
            writeln!(f, "alike   {} ({handles}){answer}", info.name)?;
        }
        for info in &self.absent {
            writeln!(f, "absent  {}", info.name)?;
        }
        for difference in &self.different {
            writeln!(f, "differs {difference}")?;
        }
        let theirs = self.alike.len() + self.different.len();
        write!(
            f,
            "{} of the {theirs} commands of this TPM are in the table, {} differ; of the {} in \
             the table it has not {}",
            self.alike.len(),
            self.different.len(),
            COMMANDS.len(),
            self.absent.len(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TPM2_NV_Read has two handles, and its answer none.
    #[test]
    fn another_handle_is_a_difference() {
        let nv_read = CommandAttributes(2 << 25 | 0x14e);
        assert_eq!(difference(nv_read).map(|info| info.name), Ok("TPM2_NV_Read"));
        let handles = difference(CommandAttributes(1 << 25 | 0x14e)).unwrap_err();
        assert_eq!(handles, "TPM2_NV_Read has 1 handles, and in the table 2");
        let answer = difference(nv_read.with(CommandAttributes::R_HANDLE)).unwrap_err();
        assert!(answer.starts_with("the answer to TPM2_NV_Read has a handle"), "{answer}");
        let unknown = difference(CommandAttributes(0x1ff)).unwrap_err();
        assert_eq!(unknown, "TPM command 0x1ff is not in the table");
    }
}
