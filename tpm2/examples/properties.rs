//! `properties [TCTI]`: what a TPM says of itself.

use std::error::Error;
use std::io::Write as _;

use tpm2::commands::GetRandom;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::HandleKind;
use tpm2::{Tpm, capability};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    // cookbook: random
    let random = tpm.run(&GetRandom { bytes_requested: 16 }, [])?.random_bytes;
    // cookbook: end
    writeln!(out, "{random:?}")?;
    // cookbook: properties
    for found in capability::properties(tpm)? {
        writeln!(out, "{} = {:#010x}", found.property, found.value)?;
    }
    for found in capability::algorithms(tpm)? {
        writeln!(out, "{}: {:?}", found.alg, found.properties)?;
    }
    for kind in [HandleKind::NV_INDEX, HandleKind::PERSISTENT, HandleKind::TRANSIENT] {
        writeln!(out, "{kind}: {:?}", capability::handles(tpm, kind)?)?;
    }
    // cookbook: end
    Ok(())
}
