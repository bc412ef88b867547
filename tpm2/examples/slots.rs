//! `slots TCTI`: how many objects a TPM, or the kernel's resource manager, holds for one client.
//!
//! Makes keys until there is no room for one more, says how that is refused, keeps the others until its input ends, and
//! leaves the TPM as it was.

use std::error::Error;
use std::io::{self, Write};
use std::{env, fmt};

use tpm2::Tpm;
use tpm2::commands::CreatePrimary;
use tpm2::session::Auth;
use tpm2::template;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::Hierarchy;

fn main() -> Result<(), Box<dyn Error>> {
    let address: Tcti = env::args().nth(1).as_deref().unwrap_or(Tcti::DEFAULT).parse()?;
    let mut tpm = Tpm::new(address.open()?);
    let mut keys: u8 = 0;
    let refusal = loop {
        match create(&mut tpm) {
            Ok(()) => keys = keys.checked_add(1).ok_or("there is no end of room")?,
            Err(refusal) => break refusal,
        }
    };
    say(format_args!("full with {keys} objects: {refusal}"))?;
    if let Some(advice) = refusal.advice() {
        say(format_args!("{advice}"))?;
    }
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// Makes a key that stays loaded.
fn create(tpm: &mut Tpm<impl Transport<Error = io::Error>>) -> Result<(), tpm2::Error> {
    let command = CreatePrimary::of(Hierarchy::Endorsement, template::AK_P256);
    tpm.run(&command, [Auth::EMPTY]).map(drop)
}

fn say(words: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{words}")
}
