//! `agent join`.

use super::{runtime, write};
use crate::cli::Join;
use crate::client::{Client, Wanted};
use crate::config::{DEFAULT_TTL, Trust};
use crate::exit::Failure;
use crate::storage::Storage;
use crate::tpm_thread::{Audience, Meter, TpmThread};

pub(crate) fn run(arguments: &Join) -> Result<(), Failure> {
    let storage = Storage::open(&arguments.storage.storage)?;
    let known = Storage::identity(&arguments.storage.storage)?;
    let known = known.map(|identity| identity.known_ek()).transpose().map_err(Failure::bug)?;
    let client =
        Client::new(vec![arguments.authority.clone()], &Trust::Pins(arguments.ca_pin.clone()))?;
    let passwords = arguments.passwords.read()?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default(), Audience::Person)?;
    let wanted = Wanted {
        token: arguments.token.clone(),
        choice: arguments.ek.ek,
        known,
        passwords,
        ttl: DEFAULT_TTL,
    };
    let identity = runtime()?.block_on(client.join(&tpm, wanted))?;
    storage.store(&identity)?;
    write(
        format!(
            "Joined cluster {} as bot {}\nSPIFFE ID:   {}\nValid until: {}\nStored in:   {}\n",
            identity.cluster,
            identity.bot,
            identity.spiffe_id,
            identity.not_after,
            arguments.storage.storage.display()
        )
        .as_bytes(),
    )
}
