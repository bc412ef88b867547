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
use tpm2::types::{Data, Hierarchy, SensitiveCreate};
use tpm2::wire::{List, Tpm2b};

fn main() -> Result<(), Box<dyn Error>> {
    let address: Tcti = env::args().nth(1).as_deref().unwrap_or(Tcti::DEFAULT).parse()?;
    let mut tpm = Tpm::new(address.open()?);
    let mut keys: u8 = 0;
    let refusal = loop {
        match create(&mut tpm, keys) {
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

/// Makes a key that stays loaded, another for each number.
fn create(tpm: &mut Tpm<impl Transport>, number: u8) -> Result<(), tpm2::Error> {
    let unique = [number; 32];
    let command = CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(template::join_key(&unique)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    tpm.run(&command, [Auth::EMPTY]).map(drop)
}

fn say(words: fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(io::stdout(), "{words}")
}
